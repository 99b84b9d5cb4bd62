"""Highest output throughput of an instance that has all requests queued at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import trtllm_bench
from benchmarks.measured_runs.checkpoints import cache_settings, over_random_tokens, quantisation_for
from benchmarks.measured_runs.skips import reason
from simserve.model import load_model
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each row."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    engine, version = str(row["engine"]).split(" v")[0], str(row["engine"]).split(" v")[-1].split()[0]
    gpu, model = names.hardware_name(row["gpu"]), names.find_model(row["model"])
    profile = names.engine_profile_name(engine, version)
    count, mode = int(row["tensor_parallel"]), str(row["dtype"])
    skip = reason(profile, engine, gpu, model, row["model"])
    prompt, output = int(row["input_tokens"]), int(row["output_tokens"])
    own = load_model(model, quantisation=quantisation_for(model, mode)) if model and not skip else None
    settings = {"offline": True, **({} if _plain_cache(str(row["model"])) else cache_settings(profile, mode))}
    if own is not None:
        settings |= over_random_tokens(model)
        settings |= trtllm_bench.settings(own, gpu, count, prompt, output, settings.get("kv_bits", 16.0) / 8.0)
    layout = {"tp": count} if own is None else trtllm_bench.layout(own, count)
    return Case(
        dataset=dataset,
        label=f"{row['model']} {row['gpu']} tp{count} {row['input_tokens']}+{row['output_tokens']}",
        run=f"{row['model']}/{row['gpu']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        quantisation=quantisation_for(model, mode) if model else None,
        load=Load("burst", Lengths(float(prompt)), Lengths(float(output)), requests=int(row["num_requests"])),
        measured={"output_tokens_per_s": float(row["output_tokens_per_s"])},
        settings=settings,
        skip=skip,
        tp=layout["tp"],
        dp=layout.get("dp", 1),
        ep=layout.get("ep", 1),
    )


def _plain_cache(model: str) -> bool:
    """NVIDIA's fp8 checkpoints of Llama-4 state no format for the KV cache, which is then of 16 bits: TensorRT-LLM's own accuracy tests
    list them so (tests/integration/defs/accuracy/references/mmlu.yaml), those of other models with `kv_cache_quant_algo: FP8`."""
    return "llama-4" in model.lower()
