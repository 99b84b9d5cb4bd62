"""Load stages of a run: one request rate for some minutes; means and tails of TTFT, ITL and end-to-end latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.cells import number, seconds
from benchmarks.measured_runs.checkpoints import quantisation_for
from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd


_OUTPUT_VARIATION = 0.05
"""Answers end a little before or after their nominal length: their mean in the measured runs is 1 to 5 % below it."""


_VERSION = "0.15"
"""Not stated; the runs that carry a date are of February 2026."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each row. The row of a whole run (stage -1) runs its stages one after the other."""
    stages: dict[str, list[tuple[float, int]]] = {}
    for _, row in table.sort_values("stage_index", kind="stable").iterrows():
        rate = number(row["request_rate_per_s"])
        if row["stage_index"] >= 0 and rate:
            stages.setdefault(str(row["run"]), []).append((rate, round(rate * (number(row["stage_duration_s"]) or 600.0))))
    return [_case(row, dataset, stages.get(str(row["run"]), [])) for _, row in table.iterrows()]


def _case(row: Any, dataset: str, stages: list[tuple[float, int]]) -> Case:
    index = int(row["stage_index"])
    own = stages if index < 0 else stages[index : index + 1]
    if index < 0 and number(row["stage1_to_stage0_requests"]) and len(own) < 2:
        own = []  # the table lacks one of the stages that this mean is over
    gpu, model = names.hardware_name(row["hardware"]), names.find_model(row["model"])
    profile = names.engine_profile_name("vLLM", _VERSION)
    skip = reason(profile, "vLLM", gpu, model, row["model"])
    if not skip and not own:
        skip = "the request rate is not stated"
    # An inference from the runs, not stated: TTFT is 3 steps whatever the prompt's length, so one prompt for each user of each system
    # prompt is sent round and round, and after the first round every prompt is in the prefix cache.
    load = Load(
        "repeated",
        Lengths(float(row["system_prompt_tokens"] + row["question_tokens"])),
        Lengths(float(row["output_tokens"]), "varied", spread=_OUTPUT_VARIATION),
        distinct_prompts=int(row["unique_system_prompts"] * row["users_per_system_prompt"]),
        rate_per_s=own[0][0] if own else 0.0,
        requests=own[0][1] if own else 0,
        later_stages=tuple(own[1:]),
    )
    # Offloading to the CPU acts when the cache overflows, which `predict` refuses to guess at.
    offloads = {"kv_offload": True} if row["cpu_offload"] == "yes" else {}
    settings: dict[str, Any] = {**offloads, "max_num_batched_tokens": int(row["max_num_batched_tokens"]), "prefix_caching": True}
    for key, column in (("memory_utilisation", "gpu_mem_util"), ("max_seqs", "max_num_seqs"), ("kv_blocks", "kv_blocks_16_tokens")):
        value = number(row[column])
        if value:
            settings[key] = value if key == "memory_utilisation" else int(value)
    return Case(
        dataset=dataset,
        label=f"{row['run']} stage {row['stage_index']}",
        run=str(row["run"]),
        engine="vLLM",
        version=_VERSION,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        quantisation=quantisation_for(model, "fp8" if row["precision"] == "FP8" else "") if model else None,
        load=load,
        measured=seconds(
            row,
            ttft_mean="ttft_mean_ms",
            ttft_p90="ttft_p90_ms",
            ttft_p99="ttft_p99_ms",
            tpot_mean="itl_mean_ms",
            e2e_mean="e2e_mean_ms",
            e2e_p90="e2e_p90_ms",
            e2e_p99="e2e_p99_ms",
        ),
        tp=int(row["tp"]),
        settings=settings,
        skip=skip,
    )
