"""aiperf and its predecessor genai-perf: a mapping of statistics for each metric in the unit it names, options under `input_config`.

Which options decide (aiperf's load generator options reference, "Option Priority"): a fixed schedule, then a user-centric rate, then a
request rate, then concurrency alone. A rate with a concurrency sends a request at its time if fewer than that many are under way. aiperf
does not catch up: what could not be sent waits for the next time of the schedule, where here it is sent as soon as a slot is free; the
numbers under way differ by the part of a gap, less than one request.
"""

from __future__ import annotations

from typing import Any

from simserve.validation.case import Lengths, Load, Ramp
from simserve.validation.readers.clients.fields import Fields
from simserve.validation.readers.clients.run import EQUAL_GAPS, ClientRun, LoadError, arriving, closed

_UNIT_S = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_RATE_STEP_S = 0.1
"""aiperf's ramp begins at the rate it has after one update: target x 0.1 s / duration (its ramping tutorial)."""

_GENAI_PERF_KEYS = ("concurrency", "request_rate", "perf_analyzer")
_SCHEDULED = ("mooncake_trace", "bailian_trace")
"""Data sets that bring their own times (aiperf's trace replay tutorial)."""

_CONVERSATIONS = ("multi_turn",)
"""Data sets of conversations, each turn of which sends the ones before it again."""


def is_one(document: Fields) -> bool:
    """Whether a document has the keys of these clients."""
    return isinstance(document.raw("time_to_first_token"), dict) and "benchmarks" not in document


def read(document: Fields) -> ClientRun:
    """The run of one document. Raises LoadError."""
    config = document.inside("input_config")
    load, stated = _load(config)
    measured = {
        "ttft_mean": _statistic(document, "time_to_first_token"),
        "ttft_median": _statistic(document, "time_to_first_token", "p50"),
        "ttft_p90": _statistic(document, "time_to_first_token", "p90"),
        "ttft_p99": _statistic(document, "time_to_first_token", "p99"),
        "tpot_mean": _statistic(document, "inter_token_latency"),
        "tpot_median": _statistic(document, "inter_token_latency", "p50"),
        "tpot_p99": _statistic(document, "inter_token_latency", "p99"),
        "e2e_mean": _statistic(document, "request_latency"),
        "e2e_p90": _statistic(document, "request_latency", "p90"),
        "e2e_p99": _statistic(document, "request_latency", "p99"),
        "output_tokens_per_s": document.inside("output_token_throughput").number("avg"),
    }
    return ClientRun(
        requests=_requests(document, stated),
        failed=document.inside("error_request_count").count("avg", least=0) or 0,
        prompt=Lengths(document.inside("input_sequence_length").number("avg") or 0.0),
        output=Lengths(document.inside("output_sequence_length").number("avg") or 0.0),
        load=load,
        measured=measured,
        model=_model(config),
    )


def _statistic(document: Fields, metric: str, statistic: str = "avg") -> float | None:
    entry = document.inside(metric)
    unit = entry.text("unit").lower()
    if statistic in entry and unit not in _UNIT_S:
        raise LoadError(f"{metric} is in a unit '{unit[:30]}' that is not understood" if unit else f"{metric} does not name its unit")
    return entry.seconds(statistic, _UNIT_S.get(unit, 1.0))


def _requests(document: Fields, stated: int | None) -> int:
    entry = document.inside("request_count").number("avg", most=1e9)
    return int(entry or stated or 0)


def _model(config: Fields) -> str:
    """`endpoint.model_names` of aiperf, `models.items` of its later configuration, `model_names` or `model` of genai-perf."""
    for names in (config.inside("endpoint").raw("model_names"), config.raw("model_names"), config.raw("model")):
        first = names[0] if isinstance(names, list) and names else names
        if isinstance(first, str) and first:
            return first
    models = config.raw("models")
    items = models.get("items") if isinstance(models, dict) else models
    first = items[0] if isinstance(items, list) and items else None
    name = first.get("name") if isinstance(first, dict) else first
    return name if isinstance(name, str) else ""


def _load(config: Fields) -> tuple[Load, int | None]:
    """The load, and the number of requests that the options state."""
    if "phases" in config:
        phase = _profiling_phase(config)
        return _of_phase(phase), phase.count("requests")
    if "loadgen" in config:
        return _of_options(config), config.inside("loadgen").count("request_count")
    if any(key in config for key in _GENAI_PERF_KEYS):
        return _of_genai_perf(config), config.count("request_count")
    raise LoadError("the result does not say how requests were sent (input_config without loadgen or phases)")


def _of_options(config: Fields) -> Load:
    """`loadgen`: the options of the command line."""
    options, data = config.inside("loadgen"), config.inside("input")
    dataset = data.text("custom_dataset_type").lower()
    if data.flag("fixed_schedule") or dataset in _SCHEDULED:
        raise LoadError("a fixed schedule replays a trace, which is not in the result")
    if dataset in _CONVERSATIONS or (data.inside("conversation", "turn").number("mean") or 1.0) > 1.0:
        raise LoadError("conversations of several turns: the result has no lengths of single turns")
    if "user_centric_rate" in options:
        raise LoadError("a user-centric rate is not simulated")
    for key, what in (
        ("concurrency_ramp_duration", "a concurrency that ramps"),
        ("prefill_concurrency", "a limit on requests without a first token"),
        ("request_cancellation_rate", "requests that are cancelled"),
        ("request_rate_series", "a series of rates"),
    ):
        if options.raw(key):
            raise LoadError(f"{what} ({key}) is not simulated")
    concurrency, rate = options.count("concurrency"), options.rate("request_rate")
    if rate is None:
        if concurrency is None:
            raise LoadError("the result states neither request_rate nor concurrency")
        return closed(concurrency)
    pattern = options.text("arrival_pattern") or options.text("request_rate_mode") or "poisson"
    ramp = _ramp(options.seconds("request_rate_ramp_duration"), rate)
    return _paced(pattern, rate, concurrency, options.number("arrival_smoothness", least=1e-6, most=1e9), ramp)


def _profiling_phase(config: Fields) -> Fields:
    """The one phase that is measured; warm-up phases drain before it begins (aiperf's warm-up waits for its requests by default)."""
    phases: Any = config.raw("phases")
    named = list(phases.items()) if isinstance(phases, dict) else [("", p) for p in phases] if isinstance(phases, list) else []
    kept = []
    for name, phase in named:
        if not isinstance(phase, dict):
            raise LoadError("a phase that is not a mapping")
        words = f"{name} {phase.get('name', '')}".lower()
        if "warmup" not in words.replace("_", "").replace("-", "") and not phase.get("exclude_from_results"):
            kept.append(phase)
    if len(kept) != 1:
        raise LoadError(f"{len(kept) or 'no'} measured phases; a run has one load")
    return Fields(kept[0], "phases", config.problems)


def _of_phase(phase: Fields) -> Load:
    """A phase of the later configuration: {type, rate, concurrency, smoothness, rate_ramp, ...}."""
    kind = phase.text("type")
    for key in ("concurrency_ramp", "prefill_concurrency", "prefill_ramp", "rate_series", "cancellation"):
        if phase.raw(key):
            raise LoadError(f"a phase with {key} is not simulated")
    concurrency = phase.count("concurrency")
    if kind == "concurrency":
        if concurrency is None:
            raise LoadError("a phase of constant concurrency without its concurrency")
        return closed(concurrency)
    if kind in ("poisson", "gamma", "constant"):
        rate = phase.rate("rate")
        if rate is None:
            raise LoadError(f"a {kind} phase without its rate")
        ramp = phase.raw("rate_ramp")
        shape = Fields(ramp, "rate_ramp", phase.problems) if isinstance(ramp, dict) else None
        if shape is not None and shape.text("strategy") not in ("", "linear"):
            raise LoadError(f"a rate ramp of strategy '{shape.text('strategy')[:30]}' is not understood")
        duration = phase.seconds("rate_ramp") if shape is None else shape.seconds("duration")
        return _paced(kind, rate, concurrency, phase.number("smoothness", least=1e-6, most=1e9), _ramp(duration, rate))
    if kind == "fixed_schedule":
        raise LoadError("a fixed schedule replays a trace, which is not in the result")
    raise LoadError(f"a phase of type '{kind[:30]}' is not simulated")


def _paced(pattern: str, rate: float, concurrency: int | None, smoothness: float | None, ramp: Ramp | None) -> Load:
    cap = concurrency or 0
    if rate == float("inf") or pattern == "concurrency_burst":
        if not cap:
            raise LoadError("requests as fast as possible without a limit on their number")
        return closed(cap)
    burstiness = {"poisson": 1.0, "constant": EQUAL_GAPS, "gamma": smoothness or 1.0}.get(pattern)
    if burstiness is None:
        raise LoadError(f"an arrival pattern '{pattern[:30]}' is not understood")
    return arriving(rate, cap=cap, burstiness=burstiness, ramp=ramp)


def _ramp(duration_s: float | None, rate: float) -> Ramp | None:
    return Ramp("seconds", rate * min(_RATE_STEP_S / duration_s, 1.0), rate, duration_s) if duration_s else None


def _of_genai_perf(config: Fields) -> Load:
    """genai-perf hands its load to perf_analyzer: a number of clients, or a rate with equal gaps (its --request-distribution)."""
    found = config
    if "perf_analyzer" in config:
        found = config.inside("perf_analyzer", "stimulus")
    for key in ("session_concurrency", "fixed_schedule", "request_intervals"):
        if found.raw(key):
            raise LoadError(f"{key} is not simulated")
    concurrency, rate = found.count("concurrency"), found.rate("request_rate")
    if concurrency is not None and rate is None:
        return closed(concurrency)
    if rate is not None and concurrency is None and rate != float("inf"):
        return arriving(rate, burstiness=EQUAL_GAPS)
    raise LoadError("the result states neither or both of request_rate and concurrency, of which perf_analyzer takes one")
