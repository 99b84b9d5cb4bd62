"""Nightly throughput baselines of vllm-ascend, with their full serve options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import ascend_options, drafts
from benchmarks.measured_runs.cells import number
from benchmarks.measured_runs.checkpoints import is_sparse, quantisation_for
from benchmarks.measured_runs.skips import DISAGGREGATED, reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load, Pool

if TYPE_CHECKING:
    import pandas as pd


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each baseline."""
    return [_case(row, dataset) for _, row in table.iterrows()]


_PREFILL = re.compile(r"""["']prefill["']\s*:\s*\{\s*["']dp_size["']\s*:\s*(\d+)\s*,\s*["']tp_size["']\s*:\s*(\d+)""")
_DECODE = re.compile(r"""["']decode["']\s*:\s*\{\s*["']dp_size["']\s*:\s*(\d+)""")


def _pools(options: str) -> tuple[Pool, Pool] | None:
    """The prefill and the decode instance of a command for disaggregated serving, each on half of the dies: the ranks of a decode replica,
    which the table cuts off, follow from that."""
    prefill, decode = _PREFILL.search(options), _DECODE.search(options)
    if prefill is None or decode is None:
        return None
    dp, tp, replicas = int(prefill[1]), int(prefill[2]), int(decode[1])
    ranks = dp * tp
    return Pool(1, tp, dp, ranks), Pool(1, max(1, ranks // replicas), replicas, ranks)


def _case(row: Any, dataset: str) -> Case:
    gpu, model = names.hardware_name(str(row["hardware"])), names.find_model(ascend_options.checkpoint(str(row["model"])))
    profile = names.engine_profile_name("vllm-ascend")
    tp, dp = int(number(row["tensor_parallel"]) or 0), int(number(row["data_parallel"]) or 1)
    sparse = bool(model) and is_sparse(model)
    skip = reason(profile, "vllm-ascend", gpu, model, row["model"])
    options = str(row["serve_options"])
    speculation = ascend_options.of_drafts(options) if row["speculative"] else {}
    if not skip and row["speculative"] and not speculation:
        skip = drafts.UNSTATED
    if not skip and not tp:
        skip = DISAGGREGATED if "PD" in str(row["config"]) else "the layout is not stated"
    shared = ascend_options.shared_prefix(f"{row['benchmark']} {row['dataset']}")
    settings: dict[str, Any] = (
        {"prefix_caching": shared > 0} | speculation | ascend_options.of_graphs(options, profile, dp if sparse else 1)
    )
    for key in ("max_num_seqs", "max_num_batched_tokens"):
        value = number(row[key])
        if value:
            settings["max_seqs" if key == "max_num_seqs" else key] = int(value)
    pools = _pools(options)
    if row["eager"] and not pools:  # the flag is the prefill instance's, whose steps hold prompts anyway
        settings["cuda_graphs"] = False
    if pools:
        settings["whole_graphs"] = True
    rate = number(row["request_rate_per_s"]) or 0.0
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
            "open" if rate else "closed",
            Lengths(float(row["input_tokens"])),
            Lengths(float(row["output_tokens"])),
            requests=int(row["num_requests"]),
            concurrency=int(row["client_concurrency"]),
            rate_per_s=rate,
            shared_prefix_fraction=shared,
        ),
        measured={"output_tokens_per_s": float(row["baseline_output_tokens_per_s"])},
        tp=tp or 1,
        dp=dp if sparse else 1,
        ep=tp * dp if sparse and row["expert_parallel"] else 1,
        pools=pools,
        settings=settings,
        skip=skip,
    )
