"""Random workloads by kind, each about one rule of a scheduler or the meeting of two. The same seed gives the same workload everywhere.

Here: vLLM's kinds, which vllm-ascend shares, and who asks for those of which engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simserve.errors import ConfigError, nearest
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

Kind = Callable[[int], ScheduleWorkload]

VLLM: dict[str, Kind] = {}
"""By name, in the order in which they are run."""

BLOCK = 16
"""Tokens of a block in all of them: vLLM's default on GPUs."""


def kinds_of(engine: str) -> dict[str, Kind]:
    """The kinds that an engine is asked."""
    if engine == "sglang":
        found: dict[str, Kind] = importlib.import_module("simserve.validation.schedules.kinds_sglang").KINDS
        return found
    return VLLM


def workloads(engine: str, kinds: Sequence[str] = (), count: int = 100, seed: int = 0) -> list[ScheduleWorkload]:
    """`count` workloads over these kinds (all that the engine has, if none is named), as many of each as it goes; `seed` is that of the
    first of each. Raises ConfigError for a kind that the engine does not have."""
    known = kinds_of(engine)
    for kind in kinds:
        if kind not in known:
            raise ConfigError(f"kind '{kind}': {engine} has none of that name{nearest(kind, known)}")
    names = list(kinds) or list(known)
    return [known[names[number % len(names)]](seed + number // len(names)) for number in range(count)]


def _kind(function: Kind) -> Kind:
    VLLM[function.__name__.replace("_", "-")] = function
    return function


def _rng(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *kind.encode()])


def _lengths(rng: np.random.Generator, count: int, least: int, most: int) -> list[int]:
    """Log-uniform: mostly short, some long."""
    return [int(one) for one in np.exp(rng.uniform(np.log(least), np.log(most + 1), count))]


def _requests(
    rng: np.random.Generator, count: int, per_s: float, prompt: tuple[int, int], output: tuple[int, int], spare: int = 0
) -> list[dict[str, Any]]:
    """Poisson arrivals to the microsecond, no two at the same one, or all at 0 where the rate is 0; of every third request, `spare` more
    tokens are allowed than it needs."""
    arrivals = np.cumsum(np.maximum(rng.exponential(1 / per_s, count), 2e-6)) if per_s else np.zeros(count)
    rows = zip(arrivals, _lengths(rng, count, *prompt), _lengths(rng, count, *output), strict=True)
    found: list[dict[str, Any]] = [{"arrival_s": round(float(s), 6), "prompt_tokens": p, "output_tokens": o} for s, p, o in rows]
    for one in found[::3] if spare else ():
        one["max_tokens"] = one["output_tokens"] + int(rng.integers(1, spare + 1))
    return found


def _longest(requests: Sequence[dict[str, Any]]) -> int:
    """Tokens of the longest sequence that may come of them, in whole blocks: what max_model_len has to be."""
    longest: int = max(one["prompt_tokens"] + one.get("max_tokens", one["output_tokens"]) for one in requests)
    return -(-(longest + 1) // BLOCK) * BLOCK


def _made(kind: str, seed: int, requests: Sequence[dict[str, Any]], **settings: Any) -> ScheduleWorkload:
    """With the smallest context that all requests fit in, and never less memory than one sequence of that length needs."""
    context = settings.pop("max_model_len", _longest(requests))
    named: dict[str, Any] = {"max_model_len": context, "max_num_seqs": 64, "kv_blocks": 4000, "max_num_batched_tokens": 1024} | settings
    named["kv_blocks"] = max(named["kv_blocks"], context // BLOCK)
    return ScheduleWorkload(kind, seed, ScheduleSettings(block_tokens=BLOCK, **named), tuple(ScheduleRequest(**one) for one in requests))


def _pool(rng: np.random.Generator, requests: Sequence[dict[str, Any]], least: float = 1.2, most: float = 3.0) -> int:
    """Blocks for few sequences of the longest kind."""
    return int(_longest(requests) // BLOCK * rng.uniform(least, most))


def _priorities(rng: np.random.Generator, requests: Sequence[dict[str, Any]]) -> None:
    for one in requests:
        one["priority"] = int(rng.integers(0, 4))


def _prefixes(rng: np.random.Generator, requests: Sequence[dict[str, Any]], roots: int, most_blocks: int) -> None:
    """Prompts that begin with a part of one of a few long texts, some of them nothing but that."""
    for one in requests:
        root, blocks = int(rng.integers(roots)), int(rng.integers(0, most_blocks + 1))
        one["prefix_ids"] = tuple(1000 * root + number for number in range(blocks))
        one["prompt_tokens"] = blocks * BLOCK + (0 if blocks and rng.random() < 0.2 else int(rng.integers(1, 120)))


def _accepted(rng: np.random.Generator, requests: Sequence[dict[str, Any]], drafted: int) -> None:
    """Drafts of most requests, accepted from the first on with a probability of its own."""
    for one in requests:
        if rng.random() < 0.85:
            chance = rng.uniform(0.2, 0.95)
            drawn = rng.geometric(1 - chance, one["output_tokens"]) - 1
            one["accepted"] = tuple(int(min(number, drafted)) for number in drawn)


@_kind
def roomy(seed: int) -> ScheduleWorkload:
    """Enough of everything; prompts of more than one step."""
    rng = _rng("roomy", seed)
    return _made(
        "roomy", seed, _requests(rng, 50, 25, (5, 1500), (2, 100), spare=30), max_num_batched_tokens=int(rng.choice([256, 512, 2048]))
    )


@_kind
def tight(seed: int) -> ScheduleWorkload:
    """Memory for a few sequences: preemption, first come first served."""
    rng = _rng("tight", seed)
    requests = _requests(rng, 60, 50, (5, 400), (10, 200), spare=30)
    return _made(
        "tight", seed, requests, kv_blocks=_pool(rng, requests, 1.0, 4.0), max_num_batched_tokens=int(rng.choice([128, 512, 2048]))
    )


@_kind
def burst(seed: int) -> ScheduleWorkload:
    """All at once."""
    rng = _rng("burst", seed)
    requests = _requests(rng, 60, 0, (20, 800), (5, 120))
    return _made("burst", seed, requests, kv_blocks=_pool(rng, requests, 3.0, 12.0), max_num_batched_tokens=int(rng.choice([512, 2048])))


@_kind
def slots(seed: int) -> ScheduleWorkload:
    """Few sequences at once."""
    rng = _rng("slots", seed)
    return _made("slots", seed, _requests(rng, 50, 30, (5, 600), (2, 80)), max_num_seqs=int(rng.integers(2, 9)), max_num_batched_tokens=256)


@_kind
def threshold(seed: int) -> ScheduleWorkload:
    """Long prompts may have a part of a step only."""
    rng = _rng("threshold", seed)
    requests = _requests(rng, 40, 15, (5, 2000), (2, 80))
    pool = _pool(rng, requests, 1.5, 8.0)
    return _made(
        "threshold",
        seed,
        requests,
        long_prefill_token_threshold=int(rng.choice([32, 100, 256])),
        max_num_batched_tokens=512,
        kv_blocks=pool,
    )


@_kind
def prefix(seed: int) -> ScheduleWorkload:
    """Prompts found in the prefix cache."""
    rng = _rng("prefix", seed)
    requests = _requests(rng, 60, 30, (5, 100), (2, 60))
    _prefixes(rng, requests, int(rng.integers(1, 6)), 30)
    return _made("prefix", seed, requests, prefix_caching=True, max_num_batched_tokens=int(rng.choice([256, 1024])))


@_kind
def prefix_tight(seed: int) -> ScheduleWorkload:
    """Prompts found in a prefix cache that has to forget, and preempted requests that find their own."""
    rng = _rng("prefix-tight", seed)
    requests = _requests(rng, 60, 40, (5, 100), (5, 120), spare=20)
    _prefixes(rng, requests, int(rng.integers(2, 8)), 24)
    pool = _pool(rng, requests, 1.2, 5.0)
    return _made("prefix-tight", seed, requests, prefix_caching=True, kv_blocks=pool, max_num_batched_tokens=int(rng.choice([128, 512])))


@_kind
def priority(seed: int) -> ScheduleWorkload:
    """Some go first, and all fit."""
    rng = _rng("priority", seed)
    requests = _requests(rng, 50, 40, (5, 600), (2, 100))
    _priorities(rng, requests)
    return _made("priority", seed, requests, order="priority", max_num_seqs=int(rng.integers(3, 20)), max_num_batched_tokens=512)


@_kind
def priority_tight(seed: int) -> ScheduleWorkload:
    """Some go first, and the others give way."""
    rng = _rng("priority-tight", seed)
    requests = _requests(rng, 50, 40, (5, 400), (10, 150))
    _priorities(rng, requests)
    caching = bool(rng.random() < 0.3)
    pool = _pool(rng, requests, 1.0, 4.0)
    return _made("priority-tight", seed, requests, order="priority", kv_blocks=pool, prefix_caching=caching, max_num_batched_tokens=512)


@_kind
def unchunked(seed: int) -> ScheduleWorkload:
    """Prompts run whole or wait."""
    rng = _rng("unchunked", seed)
    requests = _requests(rng, 50, 30, (5, 900), (2, 80))
    context = _longest(requests)
    pool = _pool(rng, requests, 1.2, 6.0)
    return _made("unchunked", seed, requests, chunked=False, max_num_batched_tokens=context + int(rng.integers(0, 400)), kv_blocks=pool)


@_kind
def abort(seed: int) -> ScheduleWorkload:
    """Clients that give up: in the queue, in a prompt, in an answer."""
    rng = _rng("abort", seed)
    requests = _requests(rng, 60, 50, (5, 600), (5, 150))
    for one in requests:
        if rng.random() < 0.4:
            one["abort_s"] = round(one["arrival_s"] + float(rng.exponential(0.4)), 6)
    pool = _pool(rng, requests, 1.2, 5.0)
    return _made("abort", seed, requests, kv_blocks=pool, prefix_caching=bool(rng.random() < 0.5), max_num_batched_tokens=256)


@_kind
def asynchronous(seed: int) -> ScheduleWorkload:
    """The plan of a step is made while the one before it runs."""
    rng = _rng("asynchronous", seed)
    requests = _requests(rng, 50, 30, (5, 800), (2, 80), spare=20)
    return _made(
        "asynchronous", seed, requests, async_scheduling=True, max_num_seqs=int(rng.choice([4, 16, 64])), max_num_batched_tokens=512
    )


@_kind
def asynchronous_tight(seed: int) -> ScheduleWorkload:
    """The same under memory pressure: what is preempted may be running."""
    rng = _rng("asynchronous-tight", seed)
    requests = _requests(rng, 50, 60, (5, 400), (10, 150), spare=20)
    caching = bool(rng.random() < 0.4)
    pool = _pool(rng, requests, 1.2, 4.0)
    return _made(
        "asynchronous-tight", seed, requests, async_scheduling=True, kv_blocks=pool, prefix_caching=caching, max_num_batched_tokens=512
    )


@_kind
def pipeline(seed: int) -> ScheduleWorkload:
    """Stages, each with a batch of its own."""
    rng = _rng("pipeline", seed)
    requests = _requests(rng, 50, 60, (5, 800), (2, 120), spare=20)
    settings = {"pipeline_stages": int(rng.choice([2, 4])), "max_num_batched_tokens": int(rng.choice([64, 128])), "kv_blocks": 4000}
    if rng.random() < 0.5:
        settings["kv_blocks"] = _pool(rng, requests, 1.1, 2.5)
    return _made("pipeline", seed, requests, max_num_seqs=32, **settings)


@_kind
def speculation(seed: int) -> ScheduleWorkload:
    """Drafted tokens, some accepted, in roomy and in scarce memory."""
    rng = _rng("speculation", seed)
    drafted = int(rng.integers(1, 6))
    requests = _requests(rng, 50, 50, (5, 500), (5, 160))
    _accepted(rng, requests, drafted)
    context = _longest(requests) + BLOCK
    settings = {"max_num_batched_tokens": 512, "max_model_len": context, "kv_blocks": 4000, "prefix_caching": bool(rng.random() < 0.3)}
    if rng.random() < 0.5:
        settings["kv_blocks"] = _pool(rng, requests, 1.1, 2.5)
    return _made("speculation", seed, requests, speculation_tokens=drafted, **settings)


@_kind
def window(seed: int) -> ScheduleWorkload:
    """Layers that attend to the last tokens only, alone or beside layers that attend to all."""
    rng = _rng("window", seed)
    return _windowed("window", seed, rng, _requests(rng, 50, 60, (5, 700), (5, 200)))


@_kind
def window_prefix(seed: int) -> ScheduleWorkload:
    """The same, with prompts that are found in the prefix cache."""
    rng = _rng("window-prefix", seed)
    requests = _requests(rng, 50, 60, (5, 100), (5, 200))
    _prefixes(rng, requests, int(rng.integers(1, 5)), 24)
    return _windowed("window-prefix", seed, rng, requests, prefix_caching=True)


def _windowed(kind: str, seed: int, rng: np.random.Generator, requests: list[dict[str, Any]], **more: Any) -> ScheduleWorkload:
    """One to four groups; the pool holds at least one sequence of the longest kind in each group, as vLLM demands before it starts."""
    attended = int(rng.choice([32, 64, 100, 128]))
    windows = [(attended,), (0, attended), (0, attended, attended, attended)][int(rng.integers(3))]
    pool = int(len(windows) * (_longest(requests) // BLOCK + 1) * rng.uniform(1.0, 2.5)) + 1
    return _made(kind, seed, requests, kv_windows=windows, kv_blocks=pool, max_num_batched_tokens=int(rng.choice([128, 512])), **more)


@_kind
def reserve(seed: int) -> ScheduleWorkload:
    """An admission needs blocks for the whole prompt, or only for its first chunk."""
    rng = _rng("reserve", seed)
    requests = _requests(rng, 50, 40, (50, 1200), (5, 80))
    pool = _pool(rng, requests, 1.1, 3.0)
    return _made(
        "reserve", seed, requests, reserve_full_prompt=bool(seed % 2), kv_blocks=pool, max_num_batched_tokens=int(rng.choice([128, 256]))
    )


@_kind
def watermark(seed: int) -> ScheduleWorkload:
    """An admission leaves some blocks free."""
    rng = _rng("watermark", seed)
    requests = _requests(rng, 50, 50, (5, 400), (10, 150))
    pool = _pool(rng, requests, 1.5, 4.0)
    caching = bool(rng.random() < 0.3)
    part = float(rng.choice([0.02, 0.1, 0.25]))
    return _made("watermark", seed, requests, watermark=part, kv_blocks=pool, prefix_caching=caching, max_num_batched_tokens=512)


@_kind
def interval(seed: int) -> ScheduleWorkload:
    """Prompts are computed in every n-th step only."""
    rng = _rng("interval", seed)
    requests = _requests(rng, 50, 25, (5, 900), (5, 100))
    steps, pool = int(rng.integers(2, 9)), _pool(rng, requests, 1.5, 8.0)
    return _made(
        "interval", seed, requests, prefill_schedule_interval=steps, kv_blocks=pool, max_num_batched_tokens=int(rng.choice([256, 1024]))
    )


@_kind
def adaptive(seed: int) -> ScheduleWorkload:
    """The threshold of long prompts follows the number of requests."""
    rng = _rng("adaptive", seed)
    requests = _requests(rng, 40, 15, (5, 2000), (2, 80))
    settings = {"long_prefill_token_threshold": int(rng.choice([32, 64])), "max_num_batched_tokens": int(rng.choice([512, 1024]))}
    return _made("adaptive", seed, requests, adaptive_threshold=True, **settings)


@_kind
def active(seed: int) -> ScheduleWorkload:
    """Fewer may run than there are slots."""
    rng = _rng("active", seed)
    requests = _requests(rng, 50, 30, (5, 600), (2, 80))
    return _made("active", seed, requests, max_active_seqs=int(rng.integers(2, 12)), max_num_seqs=32, max_num_batched_tokens=256)


@_kind
def queue_limit(seed: int) -> ScheduleWorkload:
    """Newcomers are refused when there are too many already, or too many tokens of prompts that wait."""
    rng = _rng("queue-limit", seed)
    requests = _requests(rng, 60, 60, (5, 600), (10, 120))
    limit = {"max_queued": int(rng.integers(4, 20))} if seed % 2 else {"max_queued_tokens": int(rng.integers(500, 3000))}
    return _made("queue-limit", seed, requests, max_num_seqs=int(rng.integers(4, 16)), max_num_batched_tokens=256, **limit)
