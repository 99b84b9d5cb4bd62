"""Token counts of BurstGPT-like requests, and which of them fail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.workload.generators.burstgpt import facts
from simserve.workload.generators.burstgpt.rates import Rates
from simserve.workload.requests import F64, I64

MODELS = ("ChatGPT", "GPT-4")


def conversation_tokens(rng: np.random.Generator, gpt4: NDArray[np.bool_]) -> tuple[I64, I64]:
    """Joint (input, output) tokens of conversation rows: the input from its quantile table, the output from the table of its input bin."""
    n = len(gpt4)
    u_in, u_out = rng.random(n), rng.random(n)
    prompt, output = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for code, model in enumerate(MODELS):
        rows = np.flatnonzero(gpt4 == bool(code))
        tokens = np.floor(np.interp(u_in[rows], facts.INPUT_P, facts.INPUT_TOKENS[model])).astype(np.int64)
        prompt[rows] = tokens
        bins = np.searchsorted(facts.INPUT_BIN_FROM, tokens, side="right") - 1
        for b in range(len(facts.INPUT_BIN_FROM)):
            inside = rows[bins == b]
            output[inside] = np.interp(u_out[inside], facts.OUTPUT_P, facts.OUTPUT_TOKENS_BY_BIN[model][b]).astype(np.int64)
    return prompt, np.maximum(output, 1)


def scaled_quantiles(u: F64, p: F64, tokens: F64, mean: float) -> F64:
    """Values at u of the piecewise linear quantile table, its values above the median scaled so that the distribution has `mean`."""
    grid = (np.arange(20_000) + 0.5) / 20_000
    table = np.interp(grid, p, tokens)
    median = float(np.interp(0.5, p, tokens))
    upper = table > median
    factor = (mean * len(grid) - table[~upper].sum() - median * upper.sum()) / (table[upper] - median).sum()
    value = np.interp(u, p, tokens)
    scaled: F64 = np.where(value > median, median + (value - median) * factor, value)
    return scaled


def draw_failures(rng: np.random.Generator, rates: Rates, second: F64, api: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows fail. `second` counts from the start of the block of 61 days. Outages strike in windows, so failures cluster."""
    window = (second // facts.OUTAGE_S).astype(np.int64)
    hour = (second % facts.DAY_S // facts.HOUR_S).astype(np.int64)
    busy = rates.conversation_per_step.reshape(facts.DAYS, 24, -1).sum(axis=(0, 2))
    base = (facts.CONVERSATION_FAILED - facts.OUTAGE_FRACTION * facts.OUTAGE_FAILED) / (1.0 - facts.OUTAGE_FRACTION)
    by_hour = facts.FAILED_BY_HOUR * base / np.average(facts.FAILED_BY_HOUR, weights=busy)
    api_base = (facts.API_FAILED - facts.OUTAGE_FRACTION * facts.OUTAGE_API_FAILED) / (1.0 - facts.OUTAGE_FRACTION)
    calm = np.where(api, api_base, by_hour[hour])
    struck = np.where(api, facts.OUTAGE_API_FAILED, facts.OUTAGE_FAILED)
    failed: NDArray[np.bool_] = rng.random(len(second)) < np.where(rates.outage[window], struck, calm)
    return failed
