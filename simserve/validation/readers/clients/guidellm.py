"""guidellm: a document with a list of benchmarks, each with the strategy that made its load and statistics of its successful requests.

Strategies (guidellm/scheduler/strategies.py): synchronous is one client; concurrent is `streams` clients; throughput sends at once as many
as `max_concurrency` allows and another for each that ends; constant and poisson send at a rate with at most `max_concurrency` under way.
Where throughput states no limit, the setting GUIDELLM__MAX_CONCURRENCY held, 512 unless changed (guidellm/settings.py). A sweep is a list
of such benchmarks.
"""

from __future__ import annotations

from typing import Any

from simserve.validation.case import Lengths, Load
from simserve.validation.readers.clients.fields import MOST_COUNT, Fields
from simserve.validation.readers.clients.run import EQUAL_GAPS, ClientRun, LoadError, arriving, closed, replayed

_MILLI = 1e-3
_DEFAULT_CONCURRENCY = 512


def is_one(document: Fields) -> bool:
    """Whether a document has the keys of this client."""
    return isinstance(document.raw("benchmarks"), list)


def read(benchmark: Fields, document: Fields) -> ClientRun:
    """The run of one benchmark of a document. Raises LoadError."""
    metrics = benchmark.inside("metrics")

    def value(metric: str, statistic: str = "mean", unit: float = 1.0) -> float | None:
        found = metrics.inside(metric, "successful")
        inner = found.inside("percentiles")
        return inner.seconds(statistic, unit) if statistic in inner else found.seconds(statistic, unit)

    settings = benchmark.inside("config") if "config" in benchmark else benchmark.inside("args")
    totals = metrics.inside("request_totals") if "request_totals" in metrics else benchmark.inside("request_totals")
    warm_up, cool_down = _fraction(settings, "warmup"), _fraction(settings, "cooldown")
    load = _load(settings.inside("strategy"), benchmark)
    ttft, tpot = "time_to_first_token_ms", "inter_token_latency_ms"
    return ClientRun(
        requests=round((totals.count("successful", least=0) or 0) / (1.0 - warm_up - cool_down)),
        prompt=Lengths(metrics.inside("prompt_token_count", "successful").number("mean") or 0.0),
        output=Lengths(metrics.inside("output_token_count", "successful").number("mean") or 0.0),
        failed=totals.count("errored", least=0) or 0,
        load=_with_margins(load, warm_up, cool_down),
        measured={
            "ttft_mean": value(ttft, unit=_MILLI),
            "ttft_median": value(ttft, "p50", _MILLI),
            "ttft_p90": value(ttft, "p90", _MILLI),
            "ttft_p99": value(ttft, "p99", _MILLI),
            "tpot_mean": value(tpot, unit=_MILLI),
            "e2e_mean": value("request_latency"),
            "e2e_p90": value("request_latency", "p90"),
            "e2e_p99": value("request_latency", "p99"),
            "output_tokens_per_s": metrics.inside("output_tokens_per_second", "successful").number("mean"),
        },
        model=_model(settings, document),
    )


def _model(settings: Fields, document: Fields) -> str:
    """Where the model is named: args of the document, its specification since 0.7, the back end of the benchmark."""
    for found in (
        document.inside("args").raw("model"),
        document.inside("config", "spec", "backend").raw("model"),
        settings.inside("backend").raw("model"),
    ):
        if isinstance(found, str) and found:
            return found
    return ""


def _fraction(settings: Fields, key: str) -> float:
    """The fraction of a run that is cut off at one end: a fraction. A number of requests or seconds is another thing."""
    for old in (f"{key}_number", f"{key}_duration"):
        if settings.raw(old):
            raise LoadError(f"a {key} given in requests or seconds ({old}) is not simulated")
    found: Any = settings.raw(key)
    if isinstance(found, dict):
        given = {name: v for name, v in found.items() if v and not isinstance(v, str)}
        if set(given) - {"percent"}:
            raise LoadError(f"a {key} given in requests or seconds is not simulated")
        found = given.get("percent")
    if not found:
        return 0.0
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 0.5:
        return float(found)
    raise LoadError(f"a {key} that is not a fraction below one half is not simulated")


def _with_margins(load: Load, warm_up: float, cool_down: float) -> Load:
    from dataclasses import replace

    return replace(load, warm_up_fraction=warm_up, cool_down_fraction=cool_down) if warm_up or cool_down else load


def _load(strategy: Fields, benchmark: Fields) -> Load:
    kind = strategy.text("type_") or strategy.text("type") or strategy.text("kind")
    ramps = any(strategy.number(key) for key in ("rampup_duration", "startup_duration"))
    if ramps:
        raise LoadError(f"a {kind[:30]} strategy whose requests begin over a time (rampup_duration) is not simulated")
    cap = strategy.count("max_concurrency") or 0
    if kind == "synchronous":
        return closed(1)
    if kind == "concurrent":
        streams = strategy.count("streams") or cap
        if not streams:
            raise LoadError("a concurrent strategy without its streams")
        return closed(streams)
    if kind == "throughput":
        return closed(cap or _DEFAULT_CONCURRENCY)
    if kind in ("constant", "poisson"):
        rate = strategy.rate("rate")
        if rate is None or rate == float("inf"):
            raise LoadError(f"a {kind} strategy without a finite rate")
        # Until 0.3 both strategies began with floor(rate) requests at once (initial_burst).
        burst = int(rate) if strategy.flag("initial_burst") else 0
        return arriving(rate, cap=cap, burstiness=EQUAL_GAPS if kind == "constant" else 1.0, first_at_once=burst)
    if kind in ("trace", "replay"):
        return replayed(_sent(benchmark))
    raise LoadError(f"a strategy '{kind[:30]}' is not understood" if kind else "the result does not state its strategy")


def _sent(benchmark: Fields) -> list[tuple[float, int, int]]:
    """Start, prompt and output tokens of the successful requests, as far as every one has them."""
    rows = benchmark.inside("requests").raw("successful")
    found = []
    for row in rows if isinstance(rows, list) else []:
        one = Fields(row, "requests", [])
        start = one.number("request_start_time") if "request_start_time" in one else one.number("start_time")
        prompt, output = one.count("prompt_tokens"), one.count("output_tokens")
        if start is None or prompt is None or output is None or max(prompt, output) > MOST_COUNT:
            raise LoadError("a trace is replayed whose requests have no start or lengths in the result")
        found.append((start, prompt, output))
    if not found:
        raise LoadError("a fixed schedule replays a trace, which is not in the result")
    return found
