"""y[m, n] = x[m, k] w[k, n]: torch's linear layer, and its scaled products for fp8 and int8 (without quantising x)."""

from __future__ import annotations

from functools import partial

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import UnsupportedError, Workbench

_INT_MM_ROWS = 17  # torch._int_mm refuses fewer


def prepare(bench: Workbench, point: Point) -> Prepared:
    """One activation, several weights: weights come cold from memory in a model, activations were written just before."""
    p = point.values
    m, n, k, dtype = p["m"], p["n"], p["k"], p["dtype"]
    torch, x = bench.torch, bench.data.one((m, k), dtype)
    weights = bench.data.copies((n, k), dtype)
    if dtype in ("bf16", "fp16", "fp32"):
        linear = torch.nn.functional.linear
        return Prepared([partial(linear, x, w) for w in weights], "torch.nn.functional.linear")
    if dtype == "fp8":
        if n % 16 or k % 16:
            raise UnsupportedError("fp8 products need n and k that are multiples of 16")
        one = torch.ones((), dtype=torch.float32, device=bench.device.device)
        multiply = partial(torch._scaled_mm, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        return Prepared([partial(multiply, x, w.t()) for w in weights], "torch._scaled_mm, x quantised before")
    if m < _INT_MM_ROWS or n % 8 or k % 8:
        raise UnsupportedError("int8 products need more than 16 rows, and n and k that are multiples of 8")
    return Prepared([partial(torch._int_mm, x, w.t()) for w in weights], "torch._int_mm, x quantised before")
