"""Spans whose steps carry chunks of prompts: each request gets as many tokens in each of them, and the decodes go on beside.

Of each step is recorded what would be if the policy had been asked before it.
"""

from __future__ import annotations

from array import array

from simserve.contracts import Slice
from simserve.contracts.step import slice_of
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.kv_cache import KvCache
from simserve.engine.planned import Planned
from simserve.engine.records import span_bytes
from simserve.engine.request import State
from simserve.errors import InvariantError

_PREFILLING = State.PREFILLING  # read in a third of the time of an enumeration's attributes


def steps_alike(plan: Planned, block_tokens: int, steps: int) -> int:
    """Of so many steps, those that can carry the plan's chunks: each request has the tokens and the blocks."""
    if len(plan.sliced) != len(plan.slices):  # written by the policy, which is told when the step ends
        return 1
    for request, (new, computed, _, _, _) in zip(plan.sliced, plan.slices, strict=True):
        if request.target_tokens - computed < 2 * new or request.state is not _PREFILLING:
            return 1
        left = (min(request.target_tokens, request.held_blocks * block_tokens) - computed) // new
        if left < steps:
            steps = left
    return steps


def hand_out(
    plan: Planned, group: DecodeGroup, kv: KvCache, log: array[float], ends: array[float], first: int, last: int, newcomers: list[int]
) -> None:
    """The steps from the `first` of `ends` to the `last` are over: records all but the last, and brings the plan and its group to the
    beginning of that one. `newcomers`: for each request that has come meanwhile the first step, counted from the span's, that is planned
    after."""
    decodes = plan.decodes
    context_tokens, start_s, waiting = plan.context_tokens, plan.start_s, plan.waiting
    chunks = [(new, computed) for new, computed, _, _, _ in plan.slices]
    steps, came = last - first, len(newcomers)
    seen = 0
    for number in range(steps):
        tokens = pairs = 0
        for new, computed in chunks:
            tokens += new
            computed += number * new
            pairs += new * computed + new * (new + 1) // 2
        log.frombytes(span_bytes(1, start_s, decodes, context_tokens, len(chunks), tokens, pairs, kv._used, waiting))
        start_s = ends[first + number]
        if decodes:
            group.tick += 1
            context_tokens += decodes
            need = group.blocks_needed()
            if need and not kv.take(need):
                raise InvariantError(f"invariant I3 is broken: a span of {steps + 1} steps has taken more KV blocks than were free")
        while seen < came and newcomers[seen] <= number + 1:
            waiting += 1
            seen += 1
    plan.context_tokens, plan.start_s, plan.waiting = context_tokens, start_s, waiting
    plan.slices = plan._made = [
        slice_of(Slice, (new, computed + steps * new, layers, kind, row)) for new, computed, layers, kind, row in plan.slices
    ]
