"""Nightly throughput baselines of vllm-ascend, with their full serve options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import drafts
from benchmarks.measured_runs.cells import number
from benchmarks.measured_runs.checkpoints import is_sparse, quantisation_for
from benchmarks.measured_runs.skips import DISAGGREGATED, reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each baseline."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    gpu, model = names.hardware_name(str(row["hardware"])), names.find_model(str(row["model"]))
    profile = names.engine_profile_name("vllm-ascend")
    tp, dp = int(number(row["tensor_parallel"]) or 0), int(number(row["data_parallel"]) or 1)
    sparse = bool(model) and is_sparse(model)
    skip = reason(profile, "vllm-ascend", gpu, model, row["model"])
    speculation = drafts.stated(str(row["serve_options"])) if row["speculative"] else {}
    if not skip and row["speculative"] and not speculation:
        skip = drafts.UNSTATED
    if not skip and not tp:
        skip = DISAGGREGATED if "PD" in str(row["config"]) else "the layout is not stated"
    if not skip and "prefix" in str(row["benchmark"]) and str(row["benchmark"]) != "prefix0":  # prefix0: nothing is shared
        skip = "the prompts' shared prefixes are not stated"
    settings: dict[str, Any] = {"prefix_caching": False} | speculation
    for key in ("max_num_seqs", "max_num_batched_tokens"):
        value = number(row[key])
        if value:
            settings["max_seqs" if key == "max_num_seqs" else key] = int(value)
    if row["eager"]:
        settings["cuda_graphs"] = False
    w8a8 = "w8a8" in str(row["model"]).lower()
    return Case(
        dataset=dataset,
        label=f"{row['config']} {row['benchmark']} {row['input_tokens']:g}+{row['output_tokens']}",
        run=str(row["config"]),
        engine="vllm-ascend",
        version="",
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        quantisation=quantisation_for(model, "w8a8" if w8a8 else "") if model else None,
        load=Load(
            "closed",
            Lengths(float(row["input_tokens"])),
            Lengths(float(row["output_tokens"])),
            requests=int(row["num_requests"]),
            concurrency=int(row["client_concurrency"]),
        ),
        measured={"output_tokens_per_s": float(row["baseline_output_tokens_per_s"])},
        tp=tp or 1,
        dp=dp if sparse else 1,
        ep=tp * dp if sparse and row["expert_parallel"] else 1,
        settings=settings,
        skip=skip,
    )
