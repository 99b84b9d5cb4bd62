"""Moving averages of a request's inter-token latencies: how long a stall is felt."""

from __future__ import annotations

import math

import numpy as np

from simserve.engine.records import F64, I64, RunRecords


def highest_average_s(records: RunRecords, span_tokens: int) -> F64:
    """For each request the highest exponential moving average of its gaps, in seconds; NaN for fewer than two tokens.

    After gap t the average weighs gap i by (1 - a)^(t - i), a = 2 / (span + 1), over the gaps so far: the first gap stands alone.
    The work is proportional to the tokens of the run.
    """
    gaps, first, count = _gaps(records)
    keep = 1 - 2 / (span_tokens + 1)
    highest = np.where(count > 0, -math.inf, math.nan)
    weighted, weights = np.zeros(len(count)), 0.0
    rows = np.arange(len(count))
    for place in range(int(count.max(initial=0))):
        rows = rows[count[rows] > place]
        weighted[rows] = gaps[first[rows] + place] + keep * weighted[rows]
        weights = 1 + keep * weights
        highest[rows] = np.maximum(highest[rows], weighted[rows] / weights)
    return highest


def _gaps(records: RunRecords) -> tuple[F64, I64, I64]:
    """The gaps of all requests one after the other, and where each request's begin and how many they are."""
    emissions, requests = records.emissions, len(records.table)
    order = np.argsort(emissions.request, kind="stable")
    at_once = emissions.at_once()
    ticks = [lane.tick_end_s() for lane in records.lanes]
    pieces: list[F64] = []
    owners: list[int] = []
    for segment in order:
        times = ticks[emissions.lane[segment]][emissions.first_tick[segment] : emissions.last_tick[segment] + 1]
        of_prefill = emissions.prefill_end_s[segment]
        pieces.append(times if math.isnan(of_prefill) else np.concatenate([[of_prefill] * int(at_once[segment]), times]))
        owners.append(int(emissions.request[segment]))
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    tokens = np.zeros(requests, dtype=np.int64)
    np.add.at(tokens, np.array(owners, dtype=np.int64), lengths)
    gaps = np.diff(np.concatenate(pieces)) if pieces else np.empty(0)
    return gaps, np.cumsum(tokens) - tokens, np.maximum(tokens - 1, 0)
