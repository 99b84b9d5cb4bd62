"""A case's load as a workload of the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.serving.case import Case, Lengths, Load
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload

I64 = NDArray[np.int64]

MOST_REQUESTS = 6000
"""Longer runs are cut to this many requests: their means change by less than 1 % beyond it (docs/serving-validation.md)."""

SESSION_REQUESTS = 1500
"""Requests simulated of a load stage of many minutes, the first tenth not counted."""

_PREFIX_BLOCK_TOKENS = 16


def request_count(load: Load) -> int:
    """Requests to simulate."""
    return min(load.requests, SESSION_REQUESTS if load.kind == "sessions" else MOST_REQUESTS)


def build_workload(case: Case, think_s: float = 0.0, *, saturated: float = 0.0) -> Workload:
    """The requests of a case.

    think_s    seconds a client of a closed loop spends outside the engine between two of its requests
    saturated  of `sessions`: 0 = users ask at the stated rate; otherwise every user always has a request under way, and this is the
               time in seconds that one takes, roughly
    """
    load = case.load
    rng = np.random.Generator(np.random.PCG64(case.seed()))
    if load.kind == "replay":
        table = RequestTable.build(np.array(load.arrival_s), np.array(load.prompts, dtype=np.int64), np.array(load.outputs, dtype=np.int64))
        return Workload(table)
    n = request_count(load)
    prompts, outputs = _draw(load.prompt, n, rng), _draw(load.output, n, rng)
    if load.kind == "closed":
        return Workload(RequestTable.build(np.zeros(n), prompts, outputs), concurrency=min(load.concurrency, n), think_s=think_s)
    if load.kind == "burst":
        return Workload(RequestTable.build(np.zeros(n), prompts, outputs))
    if load.kind == "open":
        return Workload(RequestTable.build(np.cumsum(rng.exponential(1.0 / load.rate_per_s, n)), prompts, outputs))
    prefix = _shared_prefixes(load, prompts, rng)
    if saturated:
        return Workload(_user_chains(load, prompts, outputs, prefix, saturated, think_s))
    return Workload(RequestTable.build(np.cumsum(rng.exponential(1.0 / load.rate_per_s, n)), prompts, outputs, prefix=prefix))


def _user_chains(load: Load, prompts: I64, outputs: I64, prefix: PrefixBlocks, period_s: float, think_s: float) -> RequestTable:
    """Each user asks again when the last answer is complete; the users start spread over one `period_s`, as arrivals would be."""
    n, users = len(prompts), load.concurrency
    row = np.arange(n)
    arrival = np.where(row < users, row * (period_s / users), think_s)
    return RequestTable.build(arrival, prompts, outputs, after=np.where(row < users, -1, row - users), prefix=prefix)


def _draw(lengths: Lengths, n: int, rng: np.random.Generator) -> I64:
    if lengths.kind == "fixed":
        values = np.full(n, lengths.mean)
    elif lengths.kind == "uniform":
        values = rng.uniform(2 * lengths.mean - lengths.high, lengths.high, n)
    elif lengths.kind == "varied":
        values = rng.normal(lengths.mean, lengths.spread * lengths.mean, n)
    else:
        sigma = lengths.spread
        values = rng.lognormal(np.log(lengths.mean) - sigma**2 / 2, sigma, n)
        values *= lengths.mean / values.mean()  # the measured mean is a fact of this very sample
    return np.maximum(np.rint(values), 1).astype(np.int64)


def _shared_prefixes(load: Load, prompts: I64, rng: np.random.Generator) -> PrefixBlocks:
    """Whole blocks of the shared part have one id per text; all else is new in every prompt."""
    blocks = (prompts // _PREFIX_BLOCK_TOKENS).astype(np.int64)
    shared = np.minimum(load.shared_prefix_tokens // _PREFIX_BLOCK_TOKENS, blocks)
    texts = rng.integers(0, max(load.prefixes, 1), len(prompts))
    offsets = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    own = np.repeat(texts, blocks) * 1_000_000 + place
    fresh = 1_000_000_000 + np.arange(offsets[-1])
    return PrefixBlocks(offsets, np.where(place < np.repeat(shared, blocks), own, fresh).astype(np.int64), _PREFIX_BLOCK_TOKENS)
