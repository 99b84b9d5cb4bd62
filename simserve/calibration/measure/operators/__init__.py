"""One file per kind of kernel: `prepare(workbench, point)` puts the data in place and returns what to time."""

from __future__ import annotations

from collections.abc import Callable

from simserve.calibration.measure.operators.attention import prepare_decode, prepare_prefill
from simserve.calibration.measure.operators.elementwise import prepare as prepare_elementwise
from simserve.calibration.measure.operators.gemm import prepare as prepare_gemm
from simserve.calibration.measure.operators.host_copy import prepare as prepare_host_copy
from simserve.calibration.measure.operators.launch import prepare as prepare_launch
from simserve.calibration.measure.operators.memory import prepare as prepare_memory
from simserve.calibration.measure.operators.moe import prepare as prepare_moe
from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench

PREPARE: dict[str, Callable[[Workbench, Point], Prepared]] = {
    "gemm": prepare_gemm,
    "attention_prefill": prepare_prefill,
    "attention_decode": prepare_decode,
    "elementwise": prepare_elementwise,
    "moe": prepare_moe,
    "host_copy": prepare_host_copy,
    "launch_overhead": prepare_launch,
    "hbm_stream": prepare_memory,
}
"""Operators of one device. Collectives need several processes: see `collectives`."""
