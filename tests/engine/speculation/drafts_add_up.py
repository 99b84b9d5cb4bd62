"""Checker of the steps of lanes that speculate: what the log of a step says is what its requests had got by then and got in it (I2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from simserve.engine.records import RunRecords


def drafts_add_up(records: RunRecords) -> Iterator[str]:
    """Step by step, from the tokens of each request alone: a request that has g tokens has prompt + g - 1 in the KV cache; its last query
    attends these, itself and the drafted tokens before it; all of its queries attend (1 + d) c + (1 + d) (2 + d) / 2 pairs."""
    e, prompts = records.emissions, records.table.prompt_tokens.tolist()
    at_once, has = e.at_once().tolist(), [0] * len(records.table)
    bursts = set(e.bursts[:, 0].tolist())
    took_part: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for segment, (row, lane, first, last) in enumerate(zip(e.request, e.lane, e.first_tick, e.last_tick, strict=True)):
        if segment in bursts:
            took_part[int(lane), int(first)].append((max(1, prompts[row]) + has[row] - 1, at_once[segment]))
        has[row] += at_once[segment] + int(last - first) + 1
    for number, lane in enumerate(records.lanes):
        if not len(lane.ticks):
            continue
        decodes = [int(n) for n, steps in zip(lane.span_decode_requests, lane.span_steps, strict=True) for _ in range(steps) if n]
        if len(decodes) != len(lane.ticks):
            yield f"{len(decodes)} steps decode, {len(lane.ticks)} are noted"
        firsts = lane.step_context_tokens()[lane.span_first_step].tolist()
        if firsts != lane.span_context_tokens.tolist():
            yield f"spans attend {lane.span_context_tokens.tolist()} tokens in their first steps, which attend {firsts}"
        for tick, (n, (drafted, accepted, attended, pairs)) in enumerate(zip(decodes, lane.ticks.tolist(), strict=False)):
            members = took_part[number, tick]
            cached = sum(c for c, _ in members)
            if (len(members), sum(tokens - 1 for _, tokens in members)) != (n, accepted):
                yield f"tick {tick} has {n} decodes and {accepted} accepted tokens, its requests got {[tokens for _, tokens in members]}"
            if not 0 <= accepted <= drafted:
                yield f"tick {tick} accepts {accepted} of {drafted} drafted tokens"
            if attended != cached + n + drafted:
                yield f"tick {tick} attends {attended} tokens: {cached} cached, {n} decoded, {drafted} drafted"
            lone = (1 + drafted) * (2 + drafted) // 2
            least, most = (min((c for c, _ in members), default=0), max((c for c, _ in members), default=0))
            low, high = (lone if n == 1 else n + 2 * drafted) + cached + least * drafted, lone + n - 1 + cached + most * drafted
            if not low <= pairs <= high:
                yield f"tick {tick} attends {pairs} (query, key) pairs, {low} to {high} can be"
