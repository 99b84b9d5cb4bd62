"""Whether an instance serves."""

from __future__ import annotations

from enum import Enum


class InstanceState(Enum):
    """Whether an instance serves."""

    UP = "up"
    DRAINING = "draining"
    """Finishes what it has and takes nothing new."""
    BOOTING = "booting"
    OFF = "off"
    """Never started, stopped, or dead."""
