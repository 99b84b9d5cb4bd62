"""Hardware profiles of measured runs, and devices that share a chip with a profiled one."""

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


SAME_CHIP = {"h100-pcie": "h100-sxm-80gb"}
"""Devices that nothing was measured on, and another board with their chip that was: a kernel is taken to be as far from its analytic
estimate here as there. Clocks, SMs, memory and links are the device's own; no collective is taken over."""

_BETWEEN_DEVICES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p", "moe_dispatch", "moe_combine")


def exists(name: str) -> bool:
    """Whether a run on this device can be simulated."""
    return name in resources.available("hardware_profiles") or name in VARIANTS


@lru_cache(maxsize=64)
def device_profile(name: str) -> HardwareProfile:
    """The installed profile of that name, or the variant made from another one. Raises ProfileError for an unknown name."""
    if name in SAME_CHIP:
        return _with_kernels_of(load_profile(SAME_CHIP[name]), load_profile(name))
    variant = VARIANTS.get(name)
    if variant is None or name in resources.available("hardware_profiles"):
        return load_profile(name)
    base = load_profile(variant.base)
    device = base.document.device.model_copy(update={"hbm_bytes": variant.hbm_bytes, "hbm_bytes_per_s": variant.hbm_bytes_per_s})
    return HardwareProfile(base.path, base.document.model_copy(update={"name": name, "device": device}))


def _with_kernels_of(measured: HardwareProfile, own: HardwareProfile) -> HardwareProfile:
    """The device of `own` with what was fitted on `measured`: factors on estimates, which are made for the own device."""
    kept = [entry for entry in measured.document.operators if entry.operator not in _BETWEEN_DEVICES]
    update = {"name": own.name, "device": own.document.device, "operators": kept}
    return HardwareProfile(measured.path, measured.document.model_copy(update=update))
