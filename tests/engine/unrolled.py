"""Records read token by token and step by step: spans unrolled, emission segments turned into times."""

from __future__ import annotations

import math
from typing import NamedTuple

from simserve.engine.records import LaneLog, RunRecords


class StepRow(NamedTuple):
    start_s: float
    end_s: float
    decodes: int
    context_tokens: int
    prefills: int
    prefill_tokens: int
    prefill_pairs: int
    layers: tuple[int, int]
    verified: tuple[int, int, int] = (0, 0, 0)
    """Where the instance speculates: drafted tokens, accepted ones, (query, key) pairs of the decodes."""

    @property
    def computes(self) -> bool:
        """Whether the chunks have passed through all layers at its end."""
        return self.layers[0] + 1 == self.layers[1]


def token_times(records: RunRecords) -> list[list[float]]:
    """Seconds at which each request got each of its tokens, in the order of its segments."""
    times: list[list[float]] = [[] for _ in range(len(records.table))]
    ticks = [lane.tick_end_s().tolist() for lane in records.lanes]
    e = records.emissions
    bursts = {int(segment): int(tokens) for segment, tokens in e.bursts}
    columns = (e.request, e.lane, e.prefill_end_s, e.first_tick, e.last_tick)
    for segment, (request, lane, prefill_end_s, first, last) in enumerate(zip(*columns, strict=True)):
        if math.isfinite(prefill_end_s):
            times[request].extend([float(prefill_end_s)] * bursts.get(segment, 1))
        if last >= first:
            assert first >= 0 and last < len(ticks[lane]), f"a segment of request {request} ends at tick {last} of {len(ticks[lane])}"
            times[request].extend(ticks[lane][first : last + 1])
    return times


def steps(lane: LaneLog) -> list[StepRow]:
    """Each step of a lane."""
    out: list[StepRow] = []
    layers = {int(span): (int(group), int(groups)) for span, group, groups in lane.layered}
    contexts, ticks = lane.step_context_tokens().tolist(), iter(lane.ticks.tolist())
    for j in range(len(lane.span_steps)):
        first, start = int(lane.span_first_step[j]), float(lane.span_start_s[j])
        decodes = int(lane.span_decode_requests[j])
        chunks = int(lane.span_prefill_requests[j]), int(lane.span_prefill_tokens[j]), int(lane.span_prefill_pairs[j])
        for i in range(int(lane.span_steps[j])):
            end = float(lane.step_end_s[first + i])
            drafted, accepted, _, pairs = next(ticks) if decodes and len(lane.ticks) else (0, 0, 0, 0)
            verified = drafted, accepted, pairs
            out.append(StepRow(start, end, decodes, contexts[first + i], *chunks, layers.get(j, (0, 1)), verified))
            start = end
    return out
