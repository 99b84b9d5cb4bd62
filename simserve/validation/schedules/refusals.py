"""Why a workload could not be run on one side. Never a silent pass: who asks gets one of these, or a schedule."""

from __future__ import annotations

from simserve.errors import SimserveError


class EngineUnavailable(SimserveError):  # noqa: N818 - it says what is the matter, like the engines' own
    """An engine that cannot be driven here: not installed, not importable, or its scheduler's interface is another. The message names what
    was missing."""


class Unsupported(SimserveError):  # noqa: N818
    """A workload that asks for something that an engine's version, or simserve's profile, has no rule for. `setting` names it."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting, self.reason = setting, reason
