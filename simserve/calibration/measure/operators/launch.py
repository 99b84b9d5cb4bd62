"""Chains of small kernels: what the host and the device pay per launch, outside and inside CUDA graphs."""

from __future__ import annotations

import time
from functools import partial

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench

CLASSES = {"nop": 1, "g1": 1 << 16, "g2": 1 << 20}
"""Kernel class -> elements it adds one to: nothing to speak of, some, enough to hide the launch of the next kernel."""


_ISSUES = 3
"""Chains whose submission is timed on the host: few, so that the launch queue (1,024 deep on CUDA) never makes the host wait."""


def prepare(bench: Workbench, point: Point) -> Prepared:
    """One call is a whole chain; every kernel depends on the one before."""
    p = point.values
    x = bench.data.one((CLASSES[p["kernel_class"]],), "fp32")
    add = partial(x.add_, 1.0)

    def chain() -> None:
        for _ in range(p["chain_length_kernels"]):
            add()

    chain()
    bench.device.synchronize()
    start = time.perf_counter()
    for _ in range(_ISSUES):
        chain()
    issue_s = (time.perf_counter() - start) / (_ISSUES * p["chain_length_kernels"])
    bench.device.synchronize()
    return Prepared([chain], "torch add_", {"host_issue_per_kernel_us": issue_s * 1e6})
