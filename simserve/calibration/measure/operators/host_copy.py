"""Copies between host and device memory, pinned or pageable: what swapping KV blocks and loading weights ride on."""

from __future__ import annotations

from functools import partial

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench


def prepare(bench: Workbench, point: Point) -> Prepared:
    """`direction` is h2d or d2h. On the CPU both are copies inside host memory."""
    p = point.values
    size, torch = p["size_bytes"], bench.torch
    pinned = p["memory"] == "pinned" and bench.device.kind != "cpu"
    on_device = bench.data.one((size,), "int8")
    on_host = torch.empty((size,), dtype=torch.int8, pin_memory=pinned).fill_(1)
    target, source = (on_device, on_host) if p["direction"] == "h2d" else (on_host, on_device)
    return Prepared([partial(target.copy_, source, non_blocking=pinned)], "torch copy", {"bytes_moved": size}, capturable=False)
