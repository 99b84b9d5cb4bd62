"""A dozen requests on a busy instance, in variants: short of memory, with a host to swap to, with room, closed loop, sessions, drafts."""

from __future__ import annotations

import dataclasses

from simserve.contracts import FREED
from tests.engine.speculation.toys import Drafting
from tests.engine.strategies import Case, Row
from tests.reference.toy_cost import JaggedCost

BUSY = tuple(Row(0.05 * i, 5 + 7 * i % 11, 3 + 5 * i % 13, priority=i % 3) for i in range(12))
RECOMPUTE = Case(BUSY, "vllm-v1", (("max_num_batched_tokens", 16),), JaggedCost(), kv_blocks=12, block_tokens=4, max_seqs=6)
SWAP = dataclasses.replace(RECOMPUTE, preemption="swap", host_kv_blocks=40)
ROOMY = dataclasses.replace(RECOMPUTE, kv_blocks=200)
CLOSED = dataclasses.replace(RECOMPUTE, concurrency=4, think_s=0.1)
CHAIN = dataclasses.replace(ROOMY, rows=(*BUSY[:6], Row(0.3, 8, 6, after=2), Row(0.0, 9, 5, after=6), Row(0.0, 4, 4, after=7)))
SPECULATES = dataclasses.replace(ROOMY, speculation=Drafting(3))
SPECULATES_AND_FREES = dataclasses.replace(RECOMPUTE, kv_blocks=16, speculation=Drafting(5, right=2, rejected_kv=FREED))
SPECULATES_BY_BATCH = dataclasses.replace(ROOMY, speculation=Drafting(3, quiet_at=3))
LONG_COURSES = dataclasses.replace(SPECULATES, rows=tuple(Row(0, 5 + i, 30) for i in range(4)), kv_blocks=20)
