"""Request-level logs: when each request was queued, scheduled, got its first and its last token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each run, replayed with its own arrivals and lengths."""
    cases = []
    for run, rows in table.groupby("run", sort=True):
        rows = rows.sort_values("queued_s", kind="stable")
        head = rows.iloc[0]
        version = str(head["engine"]).split(maxsplit=1)[-1]
        profile, gpu, model = (
            names.engine_profile_name(head["engine"], version),
            names.hardware_name(head["gpu"]),
            names.find_model(head["model"]),
        )
        arrival = rows["queued_s"].to_numpy(float) - float(head["queued_s"])
        prompts, outputs = rows["input_tokens"].to_numpy(int), rows["output_tokens"].to_numpy(int)
        load = Load(
            "replay",
            Lengths(float(prompts.mean())),
            Lengths(float(outputs.mean())),
            requests=len(rows),
            arrival_s=tuple(arrival.tolist()),
            prompts=tuple(prompts.tolist()),
            outputs=tuple(outputs.tolist()),
        )
        cases.append(
            Case(
                dataset=dataset,
                label=str(run),
                run=str(run),
                engine="vLLM",
                version=version,
                profile=profile,
                gpu=gpu,
                model=model or str(head["model"]),
                load=load,
                measured=_measured(rows),
                tp=int(head["tensor_parallel"]),
                # the log's times are the scheduler's own: a request is queued when the engine takes it, between two steps
                settings={
                    "clock": "engine",
                    "max_seqs": int(head["max_num_seqs"]),
                    "max_num_batched_tokens": int(head["max_num_batched_tokens"]),
                },
                rows=len(rows),
                skip=reason(profile, head["engine"], gpu, model, head["model"]),
            )
        )
    return cases


def _measured(rows: pd.DataFrame) -> dict[str, float]:
    e2e = (rows["last_token_s"] - rows["queued_s"]).to_numpy(float)
    ttft = (rows["first_token_s"] - rows["queued_s"]).to_numpy(float)
    many = rows["output_tokens"].to_numpy(int) > 1
    tpot = (e2e - ttft)[many] / (rows["output_tokens"].to_numpy(int)[many] - 1)
    found: dict[str, float] = {}
    for name, values in (("ttft", ttft), ("tpot", tpot), ("e2e", e2e)):
        found[f"{name}_mean"] = float(values.mean())
        found[f"{name}_p99"] = float(np.percentile(values, 99))
    return found
