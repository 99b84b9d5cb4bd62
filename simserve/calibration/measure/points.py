"""What is measured: one point is one operator at one size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

OPERATORS = (
    "gemm",
    "attention_prefill",
    "attention_decode",
    "elementwise",
    "moe",
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "p2p",
    "host_copy",
    "launch_overhead",
    "hbm_stream",
)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
GEMM_DTYPES = ("bf16", "fp16", "fp32", "fp8", "w8a8_int8")
MODES = ("graph", "eager")

Value = int | str


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement to take.

    level   how early: 0 is the coarse grid, 1 refines it (multiples of 8 and one beyond them, where tiles and waves step), 2 fills it.
    inputs  columns of the operator's table, in order; `mode` (graph or eager) where kernels can be captured.
    """

    operator: str
    level: int
    inputs: tuple[tuple[str, Value], ...]

    @property
    def values(self) -> dict[str, Any]:
        """The inputs by name."""
        return dict(self.inputs)

    @property
    def key(self) -> str:
        """The same text for the same measurement, whatever its level."""
        return json.dumps([self.operator, dict(sorted(self.inputs))], separators=(",", ":"))

    def __str__(self) -> str:
        return f"{self.operator} " + " ".join(f"{name}={value}" for name, value in self.inputs)


def point(operator: str, level: int, **inputs: Value) -> Point:
    """A point from keyword arguments."""
    return Point(operator, level, tuple(inputs.items()))
