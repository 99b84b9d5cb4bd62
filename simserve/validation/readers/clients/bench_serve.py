"""`vllm bench serve` and `sglang.bench_serving`: flat documents with the same names.

Both start a task for every request at its time; with --max-concurrency the task waits for a semaphore, and the clock of its latencies
starts behind it (vllm/benchmarks/serve.py, limited_request_func; sglang/bench_serving.py likewise). So a finite rate with a cap is open
arrivals under a cap, and a rate of infinity with a cap a closed loop.
"""

from __future__ import annotations

import math

from simserve.validation import names
from simserve.validation.case import Lengths, Load, Ramp
from simserve.validation.readers.clients import speculating
from simserve.validation.readers.clients.fields import LEAST_RATE_PER_S, MOST_RATE_PER_S, Fields
from simserve.validation.readers.clients.run import ClientRun, LoadError, arriving, at_once, closed, spread

_MILLI = 1e-3


def is_one(document: Fields) -> bool:
    """Whether a document has the keys of these clients."""
    return "mean_ttft_ms" in document and "completed" in document


def read(document: Fields) -> ClientRun:
    """The run of one document; lengths of every request where details were saved. Raises LoadError."""
    count = document.count("completed", least=0) or 0
    total_in, total_out = document.number("total_input_tokens") or 0.0, document.number("total_output_tokens") or 0.0
    prompt, output = Lengths(total_in / max(count, 1)), Lengths(total_out / max(count, 1))
    prompts, outputs = document.numbers("input_lens"), document.numbers("output_lens")
    if prompts and outputs and len(prompts) == len(outputs) == count:
        prompt, output = spread(prompts), spread(outputs)
    measured: dict[str, float | None] = {}
    for key, name in (("ttft", "ttft"), ("tpot", "tpot"), ("e2el", "e2e"), ("e2e_latency", "e2e")):
        for statistic in ("mean", "median", "p90", "p99"):
            if f"{statistic}_{key}_ms" in document:
                measured[f"{name}_{statistic}"] = document.seconds(f"{statistic}_{key}_ms", _MILLI)
    measured["output_tokens_per_s"] = document.number("output_throughput")
    server = document.inside("server_info")  # SGLang since 0.5: what the server says of itself
    engine = _engine(document)
    return ClientRun(
        requests=count,
        failed=_failed(document, count),
        prompt=prompt,
        output=output,
        load=_load(document),
        measured=measured,
        model=document.text("model_id") or document.text("model") or server.text("model_path"),
        engine=engine,
        version=document.text("engine_version") or document.text("version") or server.text("version"),
        gpu=names.hardware_name(document.text("gpu")) if "gpu" in document else "",
        tp=_degree(document) or server.count("tp_size") or 1,
        settings=speculating.stated(document, server),
    )


def _failed(document: Fields, completed: int) -> int:
    """vLLM states the failed requests since late 2025, and before only how many it was to send."""
    failed = document.count("failed", least=0)
    return max((document.count("num_prompts", least=0) or 0) - completed, 0) if failed is None else failed


def _engine(document: Fields) -> str:
    """The engine where it is named: by the user's metadata, or by a back end that is an engine's own."""
    word = document.text("engine") or document.text("backend") or document.text("endpoint_type")
    return word if names.engine_profile_name(word) else ""


def _degree(document: Fields) -> int | None:
    """Metadata given on vLLM's command line (KEY=VALUE) is text."""
    for key in ("tp", "tensor_parallel_size"):
        value = document.raw(key)
        if isinstance(value, str) and value.isdigit() and len(value) < 6:
            return max(int(value), 1)
        if value is not None:
            return document.count(key)
    return None


def _load(document: Fields) -> Load:
    rate, cap = _rate(document), document.count("max_concurrency") or 0
    burstiness = 1.0
    if document.raw("burstiness") in ("inf", math.inf):
        burstiness = math.inf
    elif "burstiness" in document:
        burstiness = document.number("burstiness", least=1e-6, most=1e9) or 1.0
    ramp = _ramp(document)
    if ramp is not None:  # vLLM demands that --request-rate is left at infinity with a ramp
        return arriving(max(ramp.start_per_s, ramp.end_per_s), cap=cap, burstiness=burstiness, ramp=ramp)
    if rate is None:
        if "request_rate" in document or cap:  # a cap alone: vLLM's rate is infinity unless it is given
            rate = math.inf
        else:
            raise LoadError("the result states neither request_rate nor max_concurrency")
    if math.isinf(rate):
        return closed(cap) if cap else at_once()
    # vLLM scales the gaps so that all requests are sent in requests / rate seconds ("normalize_factor" in get_request).
    return arriving(rate, cap=cap, burstiness=burstiness, exact_rate="burstiness" in document)


def _rate(document: Fields) -> float | None:
    word = document.raw("request_rate")
    if isinstance(word, str) and word not in ("inf", "Infinity"):
        if word == "trace":  # SGLang replays the times of its data set, which the result does not contain
            raise LoadError("requests were sent at the times of a trace, which is not in the result")
        raise LoadError(f"a request_rate of '{word[:30]}' is not understood")
    return document.rate("request_rate")


def _ramp(document: Fields) -> Ramp | None:
    strategy = document.text("ramp_up_strategy")
    if not strategy:
        return None
    start, end = (document.number(f"ramp_up_{which}_rps", most=MOST_RATE_PER_S) for which in ("start", "end"))
    if start is None or end is None:
        raise LoadError("a ramp without its start and end rates")
    if strategy == "linear":
        least = LEAST_RATE_PER_S
        if max(start, end) < least:
            raise LoadError("a ramp whose rates are 0")
        return Ramp("linear", max(start, least), max(end, least))
    if strategy == "exponential":
        if start < LEAST_RATE_PER_S or end < LEAST_RATE_PER_S:
            raise LoadError("an exponential ramp from or to a rate of 0")
        return Ramp("exponential", start, end)
    raise LoadError(f"a ramp-up strategy '{strategy[:30]}' is not understood")
