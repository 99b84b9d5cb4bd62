"""The hardware profile that a name in an experiment stands for, read once in a process while its file stays the same."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from simserve import resources
from simserve.config.paths import hardware_reference
from simserve.errors import SimserveError
from simserve.hardware import HardwareProfile, load_profile


def hardware_path(name_or_path: str, base_dir: Path) -> Path:
    """The profile's file. Raises ProfileError or ConfigError when there is none."""
    name = hardware_reference(name_or_path, base_dir)
    return Path(name) if Path(name).is_absolute() else resources.find("hardware_profiles", name)


@functools.lru_cache(maxsize=8)
def profile_at(path: Path, modified_ns: int) -> HardwareProfile:
    """The profile in a file last written at `modified_ns`."""
    return load_profile(path)


def device_memory_bytes(name_or_path: Any, base_dir: Path) -> float | None:
    """Memory of a device, bytes; None for a profile that does not exist or cannot be read, which others complain of."""
    if not isinstance(name_or_path, str):
        return None
    try:
        path = hardware_path(name_or_path, base_dir)
        return float(profile_at(path, path.stat().st_mtime_ns).device.hbm_bytes)
    except (SimserveError, OSError):
        return None
