"""One file per kind of kernel: `prepare(workbench, point)` puts the data in place and returns what to time."""

from __future__ import annotations

from collections.abc import Callable

from simserve.calibration.measure.operators import attention, elementwise, gemm, host_copy, launch, memory, moe
from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench

PREPARE: dict[str, Callable[[Workbench, Point], Prepared]] = {
    "gemm": gemm.prepare,
    "attention_prefill": attention.prepare_prefill,
    "attention_decode": attention.prepare_decode,
    "elementwise": elementwise.prepare,
    "moe": moe.prepare,
    "host_copy": host_copy.prepare,
    "launch_overhead": launch.prepare,
    "hbm_stream": memory.prepare,
}
"""Operators of one device. Collectives need several processes: see `collectives`."""
