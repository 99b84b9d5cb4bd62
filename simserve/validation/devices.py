"""Hardware profiles of measured runs, and devices that differ from a profiled one in memory only."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from simserve import resources
from simserve.hardware import HardwareProfile, load_profile


class Variant(NamedTuple):
    """A device with the compute of another: its kernels' times are those of `base`, bounded by its own memory's bandwidth."""

    base: str
    hbm_bytes: int
    hbm_bytes_per_s: float


VARIANTS = {
    # NVIDIA GH200 data sheet: the H100's compute with 96 GB HBM3 at 4 TB/s; kernels bound by memory are faster than on H100, which
    # its tables cannot say
    "gh200": Variant("h100-sxm-80gb", 101_500_000_000, 4.0e12),
}


def exists(name: str) -> bool:
    """Whether a run on this device can be simulated."""
    return name in resources.available("hardware_profiles") or name in VARIANTS


@lru_cache(maxsize=64)
def device_profile(name: str) -> HardwareProfile:
    """The installed profile of that name, or the variant made from another one. Raises ProfileError for an unknown name."""
    variant = VARIANTS.get(name)
    if variant is None or name in resources.available("hardware_profiles"):
        return load_profile(name)
    base = load_profile(variant.base)
    device = base.document.device.model_copy(update={"hbm_bytes": variant.hbm_bytes, "hbm_bytes_per_s": variant.hbm_bytes_per_s})
    return HardwareProfile(base.path, base.document.model_copy(update={"name": name, "device": device}))
