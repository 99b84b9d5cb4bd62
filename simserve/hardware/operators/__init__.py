"""Every operator the library has a physical description of."""

from __future__ import annotations

from simserve.hardware.operators.attention import DECODE, PREFILL
from simserve.hardware.operators.base import Columns, Context, Operator
from simserve.hardware.operators.collective import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER
from simserve.hardware.operators.elementwise import ELEMENTWISE
from simserve.hardware.operators.gemm import GEMM

OPERATORS: dict[str, Operator] = {
    o.name: o for o in (GEMM, PREFILL, DECODE, ELEMENTWISE, ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, P2P)
}

__all__ = ["OPERATORS", "Columns", "Context", "Operator"]
