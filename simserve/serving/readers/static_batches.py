"""Offline batches of equal requests: how long the whole batch took, or its first token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simserve.serving import names
from simserve.serving.case import Case, Lengths, Load
from simserve.serving.readers.common import number, reason

if TYPE_CHECKING:
    import pandas as pd

_VERSIONS = {"vLLM": "0.6"}
"""The benchmark names no versions; it was published in autumn 2024."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each batch; both tables of the benchmark have the same keys."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    engine = str(row["engine"])
    version = _VERSIONS.get(engine, "")
    gpu, model = names.hardware_name(row["gpu"]), names.find_model(row["model"])
    profile = names.engine_profile_name(engine, version)
    batch, prompt, output = int(row["batch"]), int(row["input_tokens"]), int(row["output_tokens"])
    measured: dict[str, float] = {}
    if "latency_s" in row:
        latency = number(row["latency_s"])
        if latency:
            measured = {"makespan": latency, "total_tokens_per_s": batch * (prompt + output) / latency}
    else:
        measured = {metric: value for metric, value in (("ttft_mean", number(row["ttft_s"])), ("e2e_mean", number(row["e2e_s"]))) if value}
    return Case(
        dataset=dataset,
        label=f"{engine} {row['gpu']} x{row['num_gpus']} {row['model']} {prompt}+{output} batch {batch}",
        run=f"{engine}/{row['gpu']}/{row['model']}/x{row['num_gpus']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        load=Load("burst", Lengths(float(prompt)), Lengths(float(output)), requests=batch),
        measured=measured,
        tp=int(row["num_gpus"]),
        settings={"offline": True},
        skip=reason(profile, engine, gpu, model, row["model"]),
    )
