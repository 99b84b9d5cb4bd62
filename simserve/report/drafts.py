"""Speculative decoding in figures: drafted, accepted and wasted tokens, and what a request gets in a step (docs/metrics.md)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simserve.engine.records import I64, LaneLog, RunRecords
from simserve.report.window import Window


def speculates(records: RunRecords) -> bool:
    """Whether some step verified drafted tokens, or could have: an instance that speculates, or a policy that had tokens verified."""
    return any(len(lane.ticks) or len(lane.verified) for lane in records.lanes)


def step_tokens(lane: LaneLog) -> I64 | np.ndarray:
    """By span: new tokens of one of its steps, drafted ones included (their mean over the steps of the span where they draft)."""
    prompt = lane.sliced()[1]
    return (lane.decoded().tokens / lane.span_steps if len(lane.ticks) else lane.span_decode_requests) + prompt


def speculation_summary(records: RunRecords, window: Window) -> dict[str, Any] | None:
    """The `speculation` part of summary.json, over the steps that ended in the window; None for runs without speculation.

    decodes            requests x steps in which they decoded on instances that speculate (or verified, where a policy says who does)
    verifications      those of steps that verified drafted tokens
    drafted_tokens     computed beside the ordinary ones
    accepted_tokens    of them, those that the requests got
    wasted_tokens      the others
    acceptance_rate    accepted / drafted
    acceptance_length  tokens that a request got in a step that verified: 1 + accepted / verifications
    tokens_per_step    the same over all its steps: 1 + accepted / decodes
    """
    if not speculates(records):
        return None
    total = np.zeros(4, dtype=np.int64)
    for number, lane in enumerate(records.lanes):
        total += _of_group(lane, window) + _of_slices(records, number, lane, window)
    decodes, verifications, drafted, accepted = total.tolist()
    return {
        "decodes": decodes,
        "verifications": verifications,
        "drafted_tokens": drafted,
        "accepted_tokens": accepted,
        "wasted_tokens": drafted - accepted,
        "acceptance_rate": accepted / drafted if drafted else math.nan,
        "acceptance_length": 1 + accepted / verifications if verifications else math.nan,
        "tokens_per_step": 1 + accepted / decodes if decodes else math.nan,
    }


def _of_group(lane: LaneLog, window: Window) -> I64:
    """Decodes, verifications, drafted and accepted tokens of the decoding group of an instance that speculates."""
    if not len(lane.ticks):
        return np.zeros(4, dtype=np.int64)
    spans = lane.span_decode_requests > 0
    requests = np.repeat(lane.span_decode_requests[spans], lane.span_steps[spans])
    inside = window.holds(lane.tick_end_s())
    drafted, accepted = lane.ticks[:, 0], lane.ticks[:, 1]
    return np.array(
        [requests[inside].sum(), requests[inside & (drafted > 0)].sum(), drafted[inside].sum(), accepted[inside].sum()], dtype=np.int64
    )


def _of_slices(records: RunRecords, number: int, lane: LaneLog, window: Window) -> I64:
    """The same of the slices in which a policy had drafted tokens verified. Their bursts stand beside those of the group."""
    if not len(lane.verified):
        return np.zeros(4, dtype=np.int64)
    span, requests, tokens, _ = lane.verified.T
    inside = window.holds(lane.step_end_s[lane.span_first_step[span] + lane.span_steps[span] - 1])
    emissions = records.emissions
    segments = emissions.bursts[:, 0]
    here = (emissions.lane[segments] == number) & window.holds(emissions.prefill_end_s[segments])
    gained = int((emissions.bursts[here, 1] - 1).sum()) - int(_of_group(lane, window)[3])
    verified = int(requests[inside].sum())
    return np.array([verified, verified, tokens[inside].sum() - verified, gained], dtype=np.int64)
