"""Single published figures: TPOT and throughput of a page or a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.bench_pages import sharegpt
from benchmarks.measured_runs.cells import number, seconds
from benchmarks.measured_runs.checkpoints import is_sparse
from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd

_NO_LOAD = "the figure's load is not stated in requests"


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each figure; those without a stated load are skipped."""
    return [_case(row, dataset, index) for index, row in table.iterrows()]


def _case(row: Any, dataset: str, index: Any) -> Case:
    hardware, engine = str(row["hardware"]), str(row["engine"]).split(",")[0]
    gpu, model = names.hardware_name(hardware), names.find_model(str(row["model"]))
    profile = names.engine_profile_name(engine)
    told = {key: number(row[key]) if key in row else None for key in ("concurrency", "input_tokens", "output_tokens", "num_requests")}
    skip = reason(profile, engine, gpu, model, row["model"])
    measured: dict[str, float] = {}
    if "tokens_per_s_per_gpu" in row:
        measured["tokens_per_s_per_device"] = float(row["tokens_per_s_per_gpu"])
        skip = skip or _NO_LOAD
    else:
        measured = seconds(row, tpot_mean="tpot_ms", ttft_mean="ttft_ms")
        for metric, column in (("output_tokens_per_s", "output_tokens_per_s"), ("tokens_per_s_per_device", "tokens_per_s_per_npu")):
            value = number(row[column])
            if value:
                measured[metric] = value
    if not skip and (told["input_tokens"] is None or told["num_requests"] is None):
        skip = _NO_LOAD
    if not skip and "MTP" in str(row["engine"]):
        skip = "how many tokens are drafted is not stated"
    devices = 16 if "16 x" in hardware else 1
    if "suffix_speculative_decoding" in str(row["source"]):
        # The page's column without speculation, `Base`: four cards of an Atlas 800T A2, launched with --tensor-parallel-size 4.
        gpu, devices = names.hardware_name("Atlas A2 64G"), 4
        skip = reason(profile, engine, gpu, model, row["model"])
    sparse = bool(model) and is_sparse(model)
    rate = told["concurrency"] is None
    text = "ShareGPT" in str(row.get("workload", ""))
    return Case(
        dataset=dataset,
        label=f"{row['model']} {hardware} {row['workload'] if 'workload' in row else row['phase']} row {index}",
        run=f"{row['model']}/{hardware}",
        engine=engine,
        version="",
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        load=Load(
            "open" if rate else "closed",
            sharegpt(told["input_tokens"], 0) if text else Lengths(told["input_tokens"] or 1.0),
            sharegpt(told["output_tokens"], 1) if text else Lengths(told["output_tokens"] or 1.0),
            requests=int(told["num_requests"] or 0),
            concurrency=int(told["concurrency"] or 0),
            rate_per_s=1.0 if rate else 0.0,
        ),
        measured=measured,
        tp=devices,
        ep=devices if sparse else 1,
        skip=skip,
    )
