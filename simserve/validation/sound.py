"""Whether a case can be of a real run: measurement files hold typing errors, and a number out of all bounds is skipped, not simulated."""

from __future__ import annotations

import math
from typing import Any

from simserve.files.words import shown
from simserve.validation.case import Case, Lengths, Load

MOST_TOKENS = 10_000_000
"""Longer than any model's context."""

MOST_CLIENTS = 1_000_000
MOST_REQUESTS = 10**9
MOST_DEVICES = 4096
MOST_RATE_PER_S = 1e6
LEAST_RATE_PER_S = 1e-6
MOST_SECONDS = 1e8

_POSITIVE_SETTINGS = ("max_seqs", "max_num_batched_tokens", "max_model_len", "kv_blocks", "block_tokens", "largest_graph", "kv_bits")
_FRACTIONS = ("memory_utilisation",)


def unsound(case: Case) -> str:
    """The first value that cannot be, as a reason to skip the case; '' when there is none."""
    for name in ("tp", "pp", "dp", "ep"):
        if not _within(getattr(case, name), 1, MOST_DEVICES):
            return f"a layout with {name} = {shown(getattr(case, name), 20)}"
    for name in _POSITIVE_SETTINGS:
        if name in case.settings and not _within(case.settings[name], 1e-9, 1e12):
            return f"a setting {name} = {shown(case.settings[name], 20)}"
    for name in _FRACTIONS:
        if name in case.settings and not _within(case.settings[name], 1e-9, 1.0):
            return f"a setting {name} = {shown(case.settings[name], 20)}, not a fraction"
    for metric, value in case.measured.items():
        if not _within(value, 1e-12, 1e15):
            return f"a measured {metric} of {shown(value, 20)}"
    return _unsound_load(case.load)


def _unsound_load(load: Load) -> str:
    if load.kind == "replay":
        return _unsound_replay(load)
    for name, lengths in (("prompts", load.prompt), ("answers", load.output)):
        if not _possible(lengths):
            return f"{name} of {shown(lengths.mean, 20)} tokens on average"
    if load.kind == "phases":
        return "" if _within(load.concurrency, 1, MOST_CLIENTS) else f"a batch of {shown(load.concurrency, 20)}"
    if not _within(load.requests, 1, MOST_REQUESTS):
        return f"a run of {shown(load.requests, 20)} requests"
    if load.kind == "closed" and not _within(load.concurrency, 1, MOST_CLIENTS):
        return f"a closed loop of {shown(load.concurrency, 20)} clients"
    for rate, count in ((load.rate_per_s, load.requests), *load.later_stages):
        if load.kind in ("open", "repeated") and not (
            _within(rate, LEAST_RATE_PER_S, MOST_RATE_PER_S) and _within(count, 1, MOST_REQUESTS)
        ):
            return f"{shown(count, 20)} requests at {shown(rate, 20)} a second"
    if load.kind == "repeated" and not _within(load.distinct_prompts, 1, MOST_REQUESTS):
        return f"{shown(load.distinct_prompts, 20)} distinct prompts"
    return ""


def _unsound_replay(load: Load) -> str:
    if not load.arrival_s or not len(load.arrival_s) == len(load.prompts) == len(load.outputs):
        return "a trace without requests, or with columns of different lengths"
    for i, (arrival, prompt, output) in enumerate(zip(load.arrival_s, load.prompts, load.outputs, strict=True)):
        if not (_within(arrival, 0, MOST_SECONDS) and _within(prompt, 0, MOST_TOKENS) and _within(output, 0, MOST_TOKENS)):
            return f"request {i} of a trace: {shown(prompt, 20)} and {shown(output, 20)} tokens at {shown(arrival, 20)} s"
    return "" if all(a <= b for a, b in zip(load.arrival_s, load.arrival_s[1:], strict=False)) else "a trace that is not in order of time"


def _possible(lengths: Lengths) -> bool:
    """`spread` above 5 is a lognormal whose mean is made by one request in a million."""
    return _within(lengths.mean, 1e-3, MOST_TOKENS) and _within(lengths.high, 0, MOST_TOKENS) and _within(lengths.spread, 0, 5.0)


def _within(value: Any, least: float, most: float) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return bool(least <= value <= most) and not math.isnan(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
