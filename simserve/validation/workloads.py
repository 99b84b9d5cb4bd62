"""A case's load as a workload of the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.validation.arrivals import arrival_times
from simserve.validation.case import Case, Lengths, Load
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload

I64 = NDArray[np.int64]

MOST_REQUESTS = 6000
"""Longer runs are cut to this many requests; what that changes is in docs/serving-validation.md."""

STAGE_REQUESTS = 1000
"""Requests simulated of a load stage of many minutes, the first tenth not counted."""

_SCALINGS = 16
"""Times that lengths are scaled to their mean and cut at the longest: the mean is then right to a thousandth (ShareGPT's lengths)."""

_PREFIX_BLOCK_TOKENS = 16
_SHARED_BLOCK_TOKENS = 128
"""Of prompts with one beginning: a multiple of every engine's KV block."""


def request_count(load: Load) -> int:
    """Requests to simulate."""
    requests = load.requests + sum(count for _, count in load.later_stages)
    return min(requests, STAGE_REQUESTS if load.kind == "repeated" else MOST_REQUESTS)


def build_workload(case: Case) -> Workload:
    """The requests of a case. Those of closed loops and bursts state the length of their answers, as benchmark clients do."""
    load = case.load
    rng = np.random.Generator(np.random.PCG64(case.seed()))
    if load.kind == "replay":
        table = RequestTable.build(np.array(load.arrival_s), np.array(load.prompts, dtype=np.int64), np.array(load.outputs, dtype=np.int64))
        return Workload(table)
    n = request_count(load)
    rates = _rates(load, n)
    prompts, outputs = _draw(load.prompt, n, rng), _draw(load.output, n, rng)
    if load.kind == "closed":
        contents = _repeated_prompts(load, prompts) if load.distinct_prompts else _shared_prefix(load, prompts)
        table = RequestTable.build(np.zeros(n), prompts, outputs, max_output_tokens=outputs, prefix=contents)
        return Workload(table, concurrency=min(load.concurrency, n))
    if load.kind == "burst":
        return Workload(RequestTable.build(np.zeros(n), prompts, outputs, max_output_tokens=outputs))
    if load.kind == "open":
        table = RequestTable.build(arrival_times(load, rates, rng), prompts, outputs)
        return Workload(table, max_concurrency=load.concurrency) if load.concurrency else Workload(table)
    arrival = np.cumsum(rng.exponential(1.0, n) / rates)
    return Workload(RequestTable.build(arrival, prompts, outputs, prefix=_repeated_prompts(load, prompts)))


def _rates(load: Load, n: int) -> NDArray[np.float64]:
    """The request rate that each of `n` requests belongs to; stages keep their shares when the run is shortened."""
    stages = ((load.rate_per_s, load.requests), *load.later_stages)
    total = sum(count for _, count in stages)
    ends = np.rint(np.cumsum([count for _, count in stages]) * n / max(total, 1)).astype(int)
    rates: NDArray[np.float64] = np.array([rate for rate, _ in stages], dtype=np.float64)[np.searchsorted(ends, np.arange(n), "right")]
    return rates


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
        if lengths.high > lengths.mean:  # so is the longest that its client sends
            for _ in range(_SCALINGS):
                values = np.minimum(values * (lengths.mean / values.mean()), lengths.high)
    tokens: I64 = np.maximum(np.rint(values), 1).astype(np.int64)
    return tokens


def _shared_prefix(load: Load, prompts: I64) -> PrefixBlocks | None:
    """Prompts that begin with the same blocks and go on with their own; None where nothing is shared."""
    if not load.shared_prefix_fraction:
        return None
    blocks = prompts // _SHARED_BLOCK_TOKENS
    offsets = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    shared = np.repeat(np.floor(load.shared_prefix_fraction * blocks), blocks)
    own = np.repeat(np.arange(1, len(prompts) + 1), blocks)
    return PrefixBlocks(offsets, (np.where(place < shared, 0, own) * 1_000_000 + place).astype(np.int64), _SHARED_BLOCK_TOKENS)


def _repeated_prompts(load: Load, prompts: I64) -> PrefixBlocks:
    """Request i asks question i mod `distinct_prompts`: equal ids for equal questions, one id for each whole block."""
    blocks = prompts // _PREFIX_BLOCK_TOKENS
    offsets = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    question = np.repeat(np.arange(len(prompts)) % load.distinct_prompts, blocks)
    return PrefixBlocks(offsets, (question * 1_000_000 + place).astype(np.int64), _PREFIX_BLOCK_TOKENS)
