"""Offline batches of equal requests: how long the whole batch took, or its first token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.cells import number
from benchmarks.measured_runs.skips import reason
from simserve.model import Parallel, load_model, rank_weight_bytes
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load
from simserve.validation.devices import device_profile

if TYPE_CHECKING:
    import pandas as pd

_VERSIONS = {"vLLM": "0.6", "TensorRT-LLM": "0.12"}
"""The benchmark names no versions; it was published in autumn 2024."""


_DEVICES = {"Nvidia A100 GPU": "a100-sxm-40gb"}
"""The table says only A100. An inference: its times need 1,555 GB/s and small KV caches (docs/serving-validation.md)."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each batch; both tables of the benchmark have the same keys."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    engine = str(row["engine"])
    version = _VERSIONS.get(engine, "")
    gpu, model = _DEVICES.get(str(row["gpu"]), "") or names.hardware_name(row["gpu"]), names.find_model(row["model"])
    profile = names.engine_profile_name(engine, version)
    profile = "vllm-v0-offline" if profile == "vllm-v0" else profile
    batch, prompt, output = int(row["batch"]), int(row["input_tokens"]), int(row["output_tokens"])
    # llama-bench's batch is how many prompt tokens it computes at once, of one sequence: its times do not grow with it.
    single = profile == "llama.cpp"
    measured: dict[str, float] = {}
    if "latency_s" in row:
        latency = number(row["latency_s"])
        if latency:
            measured = {"makespan": latency}
            if not single:
                measured["total_tokens_per_s"] = batch * (prompt + output) / latency
    else:
        measured = {metric: value for metric, value in (("ttft_batch", number(row["ttft_s"])), ("e2e_mean", number(row["e2e_s"]))) if value}
    skip = reason(profile, engine, gpu, model, row["model"])
    if not skip and "makespan" in measured and measured["makespan"] < _fastest_s(gpu, model, int(row["num_gpus"]), output):
        skip = "the measured time is below what reading the weights once a token takes"
    return Case(
        dataset=dataset,
        label=f"{engine} {row['gpu']} x{row['num_gpus']} {row['model']} {prompt}+{output} batch {batch}",
        run=f"{engine}/{row['gpu']}/{row['model']}/x{row['num_gpus']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        load=Load("burst", Lengths(float(prompt)), Lengths(float(output)), requests=1 if single else batch),
        measured=measured,
        tp=1 if single else int(row["num_gpus"]),
        pp=int(row["num_gpus"]) if single else 1,
        settings={"max_num_batched_tokens": batch} if single else {"offline": True},
        skip=skip,
    )


def _fastest_s(gpu: str, model: str, devices: int, output_tokens: int) -> float:
    """Seconds to read the weights once for each output token at the devices' full memory bandwidth: some rows are faster."""
    bandwidth = device_profile(gpu).device.hbm_bytes_per_s
    return output_tokens * rank_weight_bytes(load_model(model), Parallel(tp=1)) / (devices * bandwidth)
