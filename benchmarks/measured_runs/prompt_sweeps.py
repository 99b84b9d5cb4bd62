"""Sweeps over prompt lengths: closed loops of short answers on one server, `benchmark_serving` results with their lengths and clients.

SemiAnalysisAI/InferenceX, experimental/token_position_decode_slo: vLLM's defaults (chunks of 8,192 tokens, prefix caching over random
prompts), ten requests a client, and for GLM-5 one token of its own prediction layer
(glm-5/serve_glm5_sbatch.sh: --speculative-config.method mtp, num_speculative_tokens 1).

The server's jobs ask Slurm for eight GPUs and for no CPUs (`#SBATCH --gres=gpu:8` and no `--cpus-per-task`), and one CPU a task is what
sbatch gives where a partition says nothing else. That their eight processes shared one core is an inference, which the rows bear out:
steps of graphs alone take 7 to 9 ms more than their kernels whatever the model, steps with prompts 0.2 to 1 s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import drafts
from benchmarks.measured_runs.checkpoints import over_random_tokens
from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd

_VERSION = "0.16"
"""vLLM of February 2026."""

_BUDGET = 8192

_CORES = 1


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each run."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    gpu, model = names.hardware_name("h200"), names.find_model(str(row["model_id"]))
    profile = names.engine_profile_name("vllm", _VERSION)
    layout = _layout(str(row["layout"]))
    skip = reason(profile, "vllm", gpu, model, str(row["model_id"]))
    if not skip and not layout:
        skip = f"unknown layout {row['layout']}"
    speculation = drafts.mtp(1) if "glm-5" in str(row["model_id"]).lower() else {}
    return Case(
        dataset=dataset,
        label=f"{row['model_id']} {row['layout']} {row['isl']}+{row['osl']} c{row['conc']}",
        run=f"{row['model_id']}/{row['layout']}/{row['isl']}",
        engine="vllm",
        version=_VERSION,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model_id"]),
        load=Load(
            "closed",
            Lengths(float(row["isl"])),
            Lengths(float(row["osl"])),
            requests=int(row["num_prompts"]),
            concurrency=int(row["conc"]),
        ),
        measured={
            "ttft_median": float(row["median_ttft"]),
            "tpot_median": float(row["median_tpot"]),
            "output_tokens_per_s": float(row["output_throughput"]),
        },
        settings={"max_num_batched_tokens": _BUDGET, "host_cores": _CORES} | speculation | over_random_tokens(model),
        skip=skip,
        **layout,
    )


def _layout(told: str) -> dict[str, Any]:
    """tp8: eight tensor-parallel devices; tep8: their experts whole; dep8: attention in eight replicas."""
    found = re.fullmatch(r"(tp|tep|dep)(\d+)", told)
    if found is None:
        return {}
    devices = int(found[2])
    if found[1] == "dep":
        return {"tp": 1, "dp": devices, "ep": devices}
    return {"tp": devices, "dp": 1, "ep": devices if found[1] == "tep" else 1}
