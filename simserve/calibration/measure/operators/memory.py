"""Streams through device memory: copy (read and write), write, read. What they reach is the real roof of memory-bound kernels."""

from __future__ import annotations

from functools import partial

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench


def prepare(bench: Workbench, point: Point) -> Prepared:
    """`size_bytes` is one buffer; a copy moves it twice."""
    p = point.values
    size, op = p["size_bytes"], p["op"]
    source = bench.data.one((size // 2,), "bf16")
    moved = {"bytes_moved": 2 * size if op == "copy" else size}
    if op == "read":
        return Prepared([source.sum], "torch sum", moved)
    target = bench.data.copies((size // 2,), "bf16", 1, "targets")[0]
    if op == "write":
        return Prepared([partial(target.fill_, 1.0)], "torch fill", moved)
    return Prepared([partial(target.copy_, source)], "torch copy", moved)
