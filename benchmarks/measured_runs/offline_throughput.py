"""Highest output throughput of an instance that has all requests queued at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.checkpoints import cache_settings, quantisation_for
from benchmarks.measured_runs.skips import reason
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
    tp = int(row["tensor_parallel"])
    return Case(
        dataset=dataset,
        label=f"{row['model']} {row['gpu']} tp{tp} {row['input_tokens']}+{row['output_tokens']}",
        run=f"{row['model']}/{row['gpu']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model"]),
        quantisation=quantisation_for(model, str(row["dtype"])) if model else None,
        load=Load("burst", Lengths(float(row["input_tokens"])), Lengths(float(row["output_tokens"])), requests=int(row["num_requests"])),
        measured={"output_tokens_per_s": float(row["output_tokens_per_s"])},
        tp=tp,
        settings={"offline": True, **cache_settings(profile, str(row["dtype"]))},
        skip=reason(profile, engine, gpu, model, row["model"]),
    )
