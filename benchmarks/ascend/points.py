"""Published measurements of operators on Ascend, and how far the profiles' efficiencies are off them.

Times are those of single kernels on one die of an Atlas 800 A3 in service (vLLM 0.15, CANN 8.5), from the reports of Horacehxw/msModeling
@39df672ba75e under docs/perf_database/reports; CloudMatrix384's are of arXiv 2506.12708, read through public notes; 910B's of
gameofdimension/limulidae@19e599652284. A handful each: they say what a kernel reaches, not how it depends on its shape.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simserve.hardware import HardwareProfile, load_profile

_GB = 2.0**30


class Point(NamedTuple):
    """Seconds of one call of an operator with these columns, in this format."""

    operator: str
    dtype: str
    columns: dict[str, float]
    seconds: float


def _gemm(m: float, n: float, k: float, us: float) -> Point:
    return Point("gemm", "bf16", {"m": m, "n": n, "k": k}, us * 1e-6)


def _int8(size: float, of_peak: float) -> Point:
    return Point("gemm", "w8a8_int8", {"m": size, "n": size, "k": size}, 2.0 * size**3 / (of_peak * 752e12))


def _vector(tokens: float, width: float, passes: float, us: float) -> Point:
    return Point("elementwise", "bf16", {"num_tokens": tokens, "width": width, "bytes_per_token": 2.0 * passes * width}, us * 1e-6)


def _gathered(operator: str, mib_of_a_die: float, us: float, dies: float = 16.0) -> Point:
    return Point(operator, "bf16", {"message_bytes": dies * mib_of_a_die * 2.0**20, "num_gpus": dies}, us * 1e-6)


def _reduced(kib: float, us: float) -> Point:
    return Point("all_reduce", "bf16", {"message_bytes": kib * 1024.0, "num_gpus": 16.0}, us * 1e-6)


def _exchanged(operator: str, dies: float, token_bytes: float, us: float) -> Point:
    columns = {"num_tokens_per_gpu": 128.0, "hidden_size": token_bytes, "topk": 8.0, "num_experts": 256.0, "num_gpus": dies}
    return Point(operator, "fp8", columns, us * 1e-6)


def _algorithm_bandwidth(operator: str, devices: float, gb_per_s: float) -> Point:
    return Point(operator, "bf16", {"message_bytes": _GB, "num_gpus": devices}, _GB / (gb_per_s * 1e9))


DIE = (
    _gemm(144, 768, 5120, 19.6),
    _gemm(144, 5120, 512, 14.2),
    _gemm(144, 3200, 5120, 59.7),
    _gemm(144, 5120, 1600, 25.1),
    _gemm(1, 9496, 5120, 91.8),
    _gemm(6, 4096, 512, 12.2),
    _int8(8192, 0.774),
    _int8(8192, 0.827),
    _vector(136, 5120, 4, 12.5),  # AddRmsNorm
    _vector(136, 5120, 2, 21.7),  # RmsNorm
    _vector(136, 512, 2, 20.1),
    _vector(136, 128, 2, 7.7),
    _vector(136, 640, 2, 12.5),  # rotary embedding
    _vector(136, 1600, 3, 14.9),  # SwiGlu
    _vector(136, 5120, 3, 16.2),  # Add
    _vector(515, 1536, 2, 28.9),  # RmsNorm
    _vector(1030, 2304, 1.5, 26.3),  # DynamicQuant
    _vector(8, 7168, 4, 4.7),  # AddRmsNormBias, mean of decode steps of DeepSeek-V3
    _vector(8, 2048, 3, 4.0),  # SwiGlu, the same
    *(_gathered("all_gather", *pair) for pair in ((1.26, 177.0), (3.8, 367.0), (5.0, 435.0), (8.8, 679.0), (21.4, 1628.0), (40.0, 3080.0))),
    *(_gathered("all_gather", *pair) for pair in ((74 / 1024, 25.9), (278 / 1024, 46.5), (297 / 1024, 48.2))),
    *(_gathered("reduce_scatter", *pair) for pair in ((1.26, 216.0), (3.8, 441.0), (8.8, 808.0), (21.4, 2044.0), (40.0, 3665.0))),
    *(_reduced(*pair) for pair in ((160, 19.8), (160, 21.7), (160, 20.2), (320, 24.1))),
    _exchanged("moe_dispatch", 8, 7500, 116.0),
    _exchanged("moe_dispatch", 256, 7500, 152.0),
    _exchanged("moe_combine", 8, 14336, 118.0),
)
"""Of one die of 910C."""

DEVICE_910B = (
    _gemm(8192, 8192, 8192, 2.0 * 8192.0**3 / 328e12 * 1e6),  # the best shape that was found; which one is not stated
    *(_algorithm_bandwidth("all_reduce", *pair) for pair in ((2, 18.0), (4, 30.0), (8, 72.0))),
    *(_algorithm_bandwidth("all_gather", *pair) for pair in ((2, 38.0), (4, 64.0), (8, 149.0))),
)
"""Of 910B (24 cores)."""


def errors_percent(profile: HardwareProfile, points: tuple[Point, ...]) -> dict[tuple[str, str], list[float]]:
    """Signed error of each point, by operator and format."""
    found: dict[tuple[str, str], list[float]] = {}
    for point in points:
        model = profile.estimate(point.operator, point.dtype)
        extra = {"sms": 0.0} if point.operator.startswith("moe_") else {}
        seconds = float(model.seconds(**point.columns, **extra)[0])
        found.setdefault((point.operator, point.dtype), []).append(100.0 * (seconds / point.seconds - 1.0))
    return found


def table() -> str:
    """Mean absolute error and bias of every measured efficiency on its points, in Markdown."""
    lines = ["| device | operator | points | mean error | bias |", "|---|---|--:|--:|--:|"]
    for name, points in (("ascend-910c", DIE), ("ascend-910b", DEVICE_910B)):
        for (operator, dtype), errors in errors_percent(load_profile(name), points).items():
            spread, bias = np.mean(np.abs(errors)), np.mean(errors)
            lines.append(f"| `{name}` | {operator} {dtype} | {len(errors)} | {spread:.0f} % | {bias:+.0f} % |")
    return "\n".join(lines)
