"""Every operator the library has a physical description of."""

from __future__ import annotations

from simserve.hardware.operators.attention import DECODE, PREFILL
from simserve.hardware.operators.attention_mixed import MIXED
from simserve.hardware.operators.base import Columns, Context, Operator
from simserve.hardware.operators.collective import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER
from simserve.hardware.operators.elementwise import ELEMENTWISE
from simserve.hardware.operators.exchange import COMBINE, DISPATCH
from simserve.hardware.operators.gemm import GEMM
from simserve.hardware.operators.indexer import INDEXER
from simserve.hardware.operators.mla import MLA
from simserve.hardware.operators.moe import GROUPED_GEMM, MOE

_COMPUTE = (GEMM, PREFILL, DECODE, MIXED, MLA, INDEXER, MOE, GROUPED_GEMM, ELEMENTWISE)
_COMMUNICATION = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, P2P, DISPATCH, COMBINE)

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in (*_COMPUTE, *_COMMUNICATION)}

__all__ = ["OPERATORS", "Columns", "Context", "Operator"]
