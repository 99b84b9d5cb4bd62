"""Random workloads for SGLang's rules, one function a kind; the same seed gives the same workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

Kind = Callable[[int], ScheduleWorkload]

KINDS: dict[str, Kind] = {}
"""By name, in the order in which they are run."""


def _kind(function: Kind) -> Kind:
    KINDS["sglang-" + function.__name__.lstrip("_").replace("_", "-")] = function
    return function


def _rng(seed: int, kind: str) -> np.random.Generator:
    return np.random.default_rng([seed, *kind.encode()])


def _requests(
    rng: np.random.Generator, count: int, per_s: float, prompt: tuple[int, int], output: tuple[int, int], spare: int = 0, **more: Any
) -> list[dict[str, Any]]:
    """Poisson arrivals at whole milliseconds, between steps; `spare` = most tokens that clients allow beyond what they get."""
    arrivals = np.floor(np.cumsum(rng.exponential(1 / per_s, count)) * 1000) / 1000 + 0.0005
    made = []
    for arrival in arrivals:
        tokens = int(rng.integers(*output, endpoint=True))
        one = {"arrival_s": round(float(arrival), 4), "prompt_tokens": int(rng.integers(*prompt, endpoint=True)), "output_tokens": tokens}
        if spare:
            one["max_tokens"] = tokens + int(rng.integers(0, spare, endpoint=True))
        made.append(one | more)
    return made


def _made(kind: str, seed: int, requests: list[dict[str, Any]], **settings: Any) -> ScheduleWorkload:
    named = {"block_tokens": 1, "kv_blocks": 20_000, "max_num_seqs": 64, "chunked_prefill_size": 512} | settings
    return ScheduleWorkload(f"sglang-{kind}", seed, ScheduleSettings(**named), tuple(ScheduleRequest(**one) for one in requests))


@_kind
def roomy(seed: int) -> ScheduleWorkload:
    """Enough of everything."""
    rng = _rng(seed, "roomy")
    return _made("roomy", seed, _requests(rng, 40, 25, (5, 400), (1, 60), spare=40))


@_kind
def tight(seed: int) -> ScheduleWorkload:
    """Memory for a few requests that may all run long: admission by what they are expected to generate, and retraction."""
    rng = _rng(seed, "tight")
    conservativeness = float(rng.choice([1.0, 0.3, 0.1]))
    blocks = int(rng.integers(600, 1600))
    requests = _requests(rng, 40, 60, (5, 200), (20, 250), spare=60)
    return _made("tight", seed, requests, kv_blocks=blocks, schedule_conservativeness=conservativeness)


@_kind
def chunks(seed: int) -> ScheduleWorkload:
    """Prompts of many chunks."""
    rng = _rng(seed, "chunks")
    requests = _requests(rng, 25, 10, (50, 3000), (1, 60), spare=20)
    return _made("chunks", seed, requests, chunked_prefill_size=int(rng.choice([128, 256, 512])))


@_kind
def chunks_tight(seed: int) -> ScheduleWorkload:
    """Prompts of many chunks, and memory for a few of them."""
    rng = _rng(seed, "chunks-tight")
    requests = _requests(rng, 25, 30, (50, 1500), (20, 150), spare=60)
    settings = {"kv_blocks": int(rng.integers(2500, 5000)), "schedule_conservativeness": float(rng.choice([1.0, 0.3]))}
    return _made("chunks-tight", seed, requests, chunked_prefill_size=int(rng.choice([128, 256])), **settings)


@_kind
def unchunked(seed: int) -> ScheduleWorkload:
    """Prompts run whole, up to max_prefill_tokens a step."""
    rng = _rng(seed, "unchunked")
    requests = _requests(rng, 30, 40, (5, 900), (1, 60), spare=20)
    return _made("unchunked", seed, requests, chunked=False, chunked_prefill_size=0, max_prefill_tokens=int(rng.integers(300, 1500)))


@_kind
def slots(seed: int) -> ScheduleWorkload:
    """Fewer sequence slots than requests."""
    rng = _rng(seed, "slots")
    requests = _requests(rng, 40, 60, (5, 500), (1, 80), spare=20)
    return _made("slots", seed, requests, max_num_seqs=int(rng.integers(2, 10)), chunked_prefill_size=256)


@_kind
def prefill_limits(seed: int) -> ScheduleWorkload:
    """Limits of a prefill batch: its tokens and its requests."""
    rng = _rng(seed, "prefill-limits")
    requests = _requests(rng, 40, 100, (5, 300), (1, 60), spare=20)
    limits = {"max_prefill_tokens": int(rng.integers(200, 900)), "prefill_max_requests": int(rng.integers(0, 4))}
    return _made("prefill-limits", seed, requests, **limits)


@_kind
def pages(seed: int) -> ScheduleWorkload:
    """Pages of several tokens, memory for a few requests."""
    rng = _rng(seed, "pages")
    page = int(rng.choice([4, 16, 64]))
    requests = _requests(rng, 40, 50, (5, 400), (20, 200), spare=60)
    settings = {"kv_blocks": int(rng.integers(1200, 3000)) // page, "schedule_conservativeness": float(rng.choice([1.0, 0.3]))}
    return _made("pages", seed, requests, block_tokens=page, chunked_prefill_size=256, **settings)


@_kind
def mixed(seed: int) -> ScheduleWorkload:
    """Decodes ride in prefill batches; sometimes memory is tight."""
    rng = _rng(seed, "mixed")
    requests = _requests(rng, 30, 40, (5, 900), (5, 120), spare=30)
    return _made("mixed", seed, requests, mixed_chunk=True, chunked_prefill_size=128, kv_blocks=int(rng.choice([1800, 20_000])))


def _shared(rng: np.random.Generator, requests: list[dict[str, Any]], page: int, families: int, depth: tuple[int, int]) -> None:
    """Gives prompts one of a few beginnings, cut somewhere: they share what is before the cut."""
    for one in requests:
        family = int(rng.integers(families))
        most = min(int(rng.integers(*depth, endpoint=True)), one["prompt_tokens"] // page)
        one["prefix_ids"] = tuple(family * 10_000 + place for place in range(most))


@_kind
def prefix(seed: int) -> ScheduleWorkload:
    """Prompts with beginnings in common, enough memory."""
    rng = _rng(seed, "prefix")
    page = int(rng.choice([1, 16]))
    requests = _requests(rng, 40, 25, (60, 900), (1, 60), spare=20)
    _shared(rng, requests, page, 4, (2, 600 // page))
    return _made("prefix", seed, requests, block_tokens=page, kv_blocks=60_000 // page, prefix_caching=True)


@_kind
def prefix_tight(seed: int) -> ScheduleWorkload:
    """Beginnings in common, and memory so short that the tree is evicted and requests are retracted."""
    rng = _rng(seed, "prefix-tight")
    page = int(rng.choice([1, 16]))
    requests = _requests(rng, 40, 40, (60, 400), (20, 150), spare=60)
    _shared(rng, requests, page, 4, (2, 300 // page))
    settings = {"kv_blocks": int(rng.integers(1500, 3000)) // page, "schedule_conservativeness": float(rng.choice([1.0, 0.3, 0.1]))}
    return _made("prefix-tight", seed, requests, block_tokens=page, prefix_caching=True, **settings)


@_kind
def lpm(seed: int) -> ScheduleWorkload:
    """Longest prefix first."""
    rng = _rng(seed, "lpm")
    requests = _requests(rng, 50, 120, (60, 600), (5, 60), spare=20)
    _shared(rng, requests, 1, 5, (2, 500))
    return _made("lpm", seed, requests, order="longest-prefix", prefix_caching=True, max_num_seqs=8)


@_kind
def priority(seed: int) -> ScheduleWorkload:
    """Priorities, with slots too few: those that differ enough preempt."""
    rng = _rng(seed, "priority")
    requests = _requests(rng, 40, 60, (5, 400), (5, 100), spare=20)
    for one in requests:
        one["priority"] = int(rng.integers(0, 30))
    return _made("priority", seed, requests, order="priority", max_num_seqs=int(rng.integers(3, 8)))


@_kind
def overlap(seed: int) -> ScheduleWorkload:
    """Steps are planned one ahead."""
    rng = _rng(seed, "overlap")
    requests = _requests(rng, 40, 40, (5, 700), (1, 80), spare=30)
    return _made("overlap", seed, requests, async_scheduling=True, chunked_prefill_size=256, kv_blocks=int(rng.choice([2500, 20_000])))


@_kind
def abort(seed: int) -> ScheduleWorkload:
    """Clients give up, while they wait or in the middle."""
    rng = _rng(seed, "abort")
    requests = _requests(rng, 40, 40, (5, 500), (5, 100), spare=20)
    for one in requests:
        if rng.random() < 0.3:
            one["abort_s"] = round(one["arrival_s"] + float(rng.integers(1, 600)) / 1000, 4)
    return _made("abort", seed, requests, max_num_seqs=6)
