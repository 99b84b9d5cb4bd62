"""Replays of traces of which only means are known: mean TTFT, mean TPOT, summed request latency."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.checkpoints import quantisation_for
from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd

_RATES = {"025": 0.25, "05": 0.5, "1": 1.0}
"""Requests per second of the whole trace, Poisson (apex_plus, traces/README.md)."""

_SPREAD = {"creation": (0.3, 0.35), "lmsys": (1.0, 0.9), "summarization": (0.5, 0.4)}
"""Sigma of lognormal prompt and output lengths, from the published traces' files (not shipped here)."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each replay; a replica of several got its share of the arrivals, round robin."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    layout = str(row["parallelism"])
    told = re.match(r"(?:(\d+)DP)?(\d+)TP", layout)
    lower = re.match(r"(tp|ep)(\d+)$", layout)
    replicas = int(told[1] or 1) if told else 1
    degree = int(told[2]) if told else int(lower[2]) if lower else 0
    engine = str(row["engine"])
    version = "0.6.0" if engine == "vLLM" else ""
    gpu, model_name = names.hardware_name(row["gpu"]), str(row["model"]).split(" (")[0]
    model, profile = names.find_model(model_name), names.engine_profile_name(engine, version)
    skip = reason(profile, engine, gpu, model, model_name)
    if not skip and not degree:
        skip = f"parallelism {layout} is not understood"
    count, spread = int(row["num_requests"]), _SPREAD[str(row["trace"])]
    load = Load(
        "open",
        Lengths(float(row["served_input_tokens"]) / count, "lognormal", spread=spread[0]),
        Lengths(float(row["served_output_tokens"]) / count, "lognormal", spread=spread[1]),
        rate_per_s=_RATES[str(row["rate_tag"])] / replicas,
        requests=count,
    )
    measured = {"latency_sum": float(row["sum_request_latency_s"])}
    if engine != "SGLang":  # its replay client reports no per-token latency and counts the wait for a whole batch as TTFT
        measured |= {"ttft_mean": float(row["mean_ttft_s"]), "tpot_mean": float(row["mean_tpot_s"])}
    fp8 = "fp8" in layout or "(FP8)" in str(row["model"])
    return Case(
        dataset=dataset,
        label=str(row["run"]),
        run=f"{row['model']}/{row['trace']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or model_name,
        quantisation=quantisation_for(model, "fp8" if fp8 else "") if model else None,
        load=load,
        measured=measured,
        tp=degree or 1,
        ep=degree if lower and lower[1] == "ep" else 1,
        skip=skip,
    )
