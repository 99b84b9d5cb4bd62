"""Results of benchmark clients: `vllm bench serve`, `sglang.bench_serving`, aiperf and guidellm JSON files.

None of them says which device or layout served the model (unless the user added it as metadata), so the caller completes that:
see `completed_by`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simserve.errors import ConfigError
from simserve.serving import names
from simserve.serving.case import Case, Lengths, Load
from simserve.serving.readers.common import number

_NO_DEVICE = "the result does not name its device: give --hardware"
_MILLI = 1e-3


def read(file: Path) -> list[Case]:
    """The runs of one result file; sglang appends one line for each run.

    Raises ConfigError: not JSON, empty, or a document of none of the four clients, naming the keys that were looked for.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{file}: cannot be read ({problem})") from None
    documents = _documents(text, file)
    cases: list[Case] = []
    for index, document in enumerate(documents):
        label = file.name if len(documents) == 1 else f"{file.name} line {index + 1}"
        if isinstance(document, dict) and isinstance(document.get("benchmarks"), list):
            cases += [_guidellm(run, document, f"{label} benchmark {i + 1}", file.stem) for i, run in enumerate(document["benchmarks"])]
        elif isinstance(document, dict) and isinstance(document.get("time_to_first_token"), dict):
            cases.append(_aiperf(document, label, file.stem))
        elif isinstance(document, dict) and "mean_ttft_ms" in document and "completed" in document:
            cases.append(_bench_serve(document, label, file.stem))
        else:
            raise ConfigError(
                f"{file}: not a result of a known client. Looked for 'mean_ttft_ms' and 'completed' (vllm bench serve,"
                " sglang.bench_serving), 'time_to_first_token' (aiperf), 'benchmarks' (guidellm)"
            )
    return cases


def completed_by(
    *, hardware: str | None = None, model: str | None = None, engine: str | None = None, tp: int = 1
) -> Callable[[list[Case]], list[Case]]:
    """A function that gives the runs of benchmark clients what their files do not say; other runs stay as they are."""

    def complete(cases: list[Case]) -> list[Case]:
        return [_complete(case, hardware, model, engine, tp) if case.settings.get("client") else case for case in cases]

    return complete


def _complete(case: Case, hardware: str | None, model: str | None, engine: str | None, tp: int) -> Case:
    gpu = hardware or case.gpu
    name = names.find_model(model or case.model)
    profile = engine or case.profile
    skip = case.settings.get("lacks", "")
    if not skip:
        skip = _NO_DEVICE if not gpu else "" if names.hardware_exists(gpu) else f"no hardware profile for {gpu}"
    if not skip and not name:
        skip = f"unknown model {model or case.model}"
    if not skip and not profile:
        skip = f"no engine profile for {case.engine or 'a result that names no engine'}: give --engine"
    return replace(case, gpu=gpu, model=name or case.model, profile=profile, tp=max(tp, case.tp), skip=skip)


def _case(
    label: str, dataset: str, engine: str, version: str, model: str, gpu: str, tp: int, load: Load, measured: Mapping[str, float | None]
) -> Case:
    lacks = ""
    if load.requests < 1 or load.prompt.mean <= 0 or load.output.mean <= 0:
        lacks = "the result lacks its request count or lengths"
    case = Case(
        dataset=dataset,
        label=label,
        run=dataset,
        engine=engine,
        version=version,
        profile=names.engine_profile_name(engine, version) if engine else "",
        gpu=gpu,
        model=model,
        load=load,
        measured={metric: value for metric, value in measured.items() if value},
        tp=tp,
        settings={"client": True, **({"lacks": lacks} if lacks else {})},
    )
    return _complete(case, None, None, None, tp)


def _bench_serve(d: dict[str, Any], label: str, dataset: str) -> Case:
    """vllm bench serve and sglang.bench_serving: flat documents with the same names; lengths of every request when details were saved."""
    count = int(number(d.get("completed")) or 0)
    prompts, outputs = d.get("input_lens"), d.get("output_lens")
    total_in, total_out = number(d.get("total_input_tokens")) or 0.0, number(d.get("total_output_tokens")) or 0.0
    rate = number(d.get("request_rate"))  # "inf" is not finite: None, all at once
    concurrency = int(number(d.get("max_concurrency")) or 0)
    kept = isinstance(prompts, list) and isinstance(outputs, list) and len(prompts) == len(outputs) == count and count > 0
    prompt, output = Lengths(total_in / max(count, 1)), Lengths(total_out / max(count, 1))
    if kept:
        prompt, output = _spread([float(v) for v in prompts or ()]), _spread([float(v) for v in outputs or ()])
    load = Load(
        "closed" if concurrency else "open" if rate else "burst",
        prompt,
        output,
        requests=count,
        concurrency=concurrency,
        rate_per_s=rate or 0.0,
    )
    milli = {
        metric: d.get(f"{statistic}_{key}_ms")
        for key, name in (("ttft", "ttft"), ("tpot", "tpot"), ("e2el", "e2e"), ("e2e_latency", "e2e"))
        for statistic in ("mean", "median", "p99")
        for metric in (f"{name}_{statistic}",)
        if number(d.get(f"{statistic}_{key}_ms"))
    }
    measured: dict[str, float | None] = {metric: (number(value) or 0.0) * _MILLI for metric, value in milli.items()}
    measured["output_tokens_per_s"] = number(d.get("output_throughput"))
    engine = str(d.get("backend") or d.get("endpoint_type") or "")
    known = str(d.get("engine") or engine)
    return _case(
        label,
        dataset,
        known if names.engine_profile_name(known) else "",
        str(d.get("engine_version") or d.get("version") or ""),
        str(d.get("model_id") or d.get("model") or ""),
        names.hardware_name(str(d["gpu"])) if d.get("gpu") else "",
        int(number(d.get("tp") or d.get("tensor_parallel_size")) or 1),
        load,
        measured,
    )


def _aiperf(d: dict[str, Any], label: str, dataset: str) -> Case:
    """aiperf (and genai-perf): a mapping of statistics for each metric, in the unit it names."""

    def value(metric: str, statistic: str = "avg") -> float | None:
        entry = d.get(metric)
        found = number(entry.get(statistic)) if isinstance(entry, dict) else None
        return None if found is None else found * {"ms": _MILLI, "us": 1e-6, "ns": 1e-9}.get(str(entry.get("unit")), 1.0)  # type: ignore[union-attr]

    settings = d.get("input_config") if isinstance(d.get("input_config"), dict) else {}
    assert isinstance(settings, dict)
    loadgen, endpoint = settings.get("loadgen") or {}, settings.get("endpoint") or {}
    concurrency, rate = int(number(loadgen.get("concurrency")) or 0), number(loadgen.get("request_rate")) or 0.0
    models = endpoint.get("model_names") or [""]
    load = Load(
        "closed" if concurrency else "open" if rate else "burst",
        Lengths(value("input_sequence_length") or 0.0),
        Lengths(value("output_sequence_length") or 0.0),
        requests=int(value("request_count") or number(loadgen.get("request_count")) or 0),
        concurrency=concurrency,
        rate_per_s=rate,
    )
    measured = {
        "ttft_mean": value("time_to_first_token"),
        "ttft_p99": value("time_to_first_token", "p99"),
        "tpot_mean": value("inter_token_latency"),
        "tpot_p99": value("inter_token_latency", "p99"),
        "e2e_mean": value("request_latency"),
        "e2e_p99": value("request_latency", "p99"),
        "output_tokens_per_s": value("output_token_throughput"),
    }
    return _case(label, dataset, "", "", str(models[0]), "", 1, load, measured)


def _guidellm(run: Any, document: dict[str, Any], label: str, dataset: str) -> Case:
    """guidellm: one benchmark of a document; statistics of successful requests."""
    metrics = run.get("metrics", {}) if isinstance(run, dict) else {}

    def value(metric: str, statistic: str = "mean") -> float | None:
        found = metrics.get(metric, {}).get("successful", {})
        return number(found.get("percentiles", {}).get(statistic, found.get(statistic)))

    def milli(metric: str, statistic: str = "mean") -> float | None:
        found = value(metric, statistic)
        return None if found is None else found * _MILLI

    settings = run.get("config") or run.get("args") or {} if isinstance(run, dict) else {}
    strategy = settings.get("strategy") or {}
    kind = str(strategy.get("type_") or strategy.get("type") or "")
    streams, rate = int(number(strategy.get("streams")) or 0), number(strategy.get("rate")) or 0.0
    totals = metrics.get("request_totals") or run.get("request_totals") or {}
    load = Load(
        "closed" if kind in ("concurrent", "synchronous") else "open" if rate else "burst",
        Lengths(value("prompt_token_count") or 0.0),
        Lengths(value("output_token_count") or 0.0),
        requests=int(number(totals.get("successful")) or 0),
        concurrency=streams or (1 if kind == "synchronous" else 0),
        rate_per_s=rate,
    )
    measured = {
        "ttft_mean": milli("time_to_first_token_ms"),
        "ttft_p99": milli("time_to_first_token_ms", "p99"),
        "tpot_mean": milli("inter_token_latency_ms"),
        "e2e_mean": value("request_latency"),
        "e2e_p99": value("request_latency", "p99"),
        "output_tokens_per_s": value("output_tokens_per_second"),
    }
    model = (document.get("args") or {}).get("model") or (settings.get("backend") or {}).get("model") or ""
    return _case(label, dataset, "", "", str(model), "", 1, load, measured)


def _spread(values: list[float]) -> Lengths:
    """Lognormal lengths with the mean and the variance of the measured ones; fixed when they hardly differ."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    if variance < (0.02 * mean) ** 2:
        return Lengths(mean)
    return Lengths(mean, "lognormal", spread=math.sqrt(math.log(1.0 + variance / mean**2)))


def _documents(text: str, file: Path) -> list[Any]:
    if not text.strip():
        raise ConfigError(f"{file}: is empty")
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as problem:
        lines = [line for line in text.splitlines() if line.strip()]
        found = []
        for place, line in enumerate(lines, start=1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                where = f"line {problem.lineno}" if len(lines) == 1 or place == 1 else f"line {place}"
                raise ConfigError(f"{file}, {where}: not JSON ({problem.msg}); is the file complete?") from None
        return found
