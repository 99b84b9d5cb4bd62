"""Copies of KV between a device and its host."""

from __future__ import annotations

from simserve.hardware.device import Device

_COPY_FRACTION = 0.78
"""Fraction of a host link's nominal bandwidth that pinned copies reach (PCIe 4.0 x16: 25 of 32 GB/s)."""


def host_copy_s(device: Device, size_bytes: float) -> float:
    """Seconds to copy `size_bytes` bytes of one rank, either way (all ranks copy in parallel)."""
    return device.host.latency_s + size_bytes / (_COPY_FRACTION * device.host.bytes_per_s)
