"""One batch at a time: the length of its prompt phase and of one decode step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs.skips import reason
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd

_CAPPED, _CAPPED_PROMPT = "-pcap", 1.3
"""H100s capped at half their power (Splitwise, arXiv 2311.18677): the source's rows for them are those of the H100 with 1.3 times the
prompt phase and the same decode step, throughout. Decoding is bound by memory and stays below the cap."""

_KEYS = ["model", "hardware", "tensor_parallel", "dtype", "prompt_tokens", "batch", "output_tokens"]


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each configuration: repeats of the same batch are averaged."""
    cases = []
    for key, rows in table.groupby(_KEYS, sort=True):
        values: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        model_name, hardware, tp, _, prompt, batch, output = values
        capped = str(hardware).endswith(_CAPPED)
        gpu, model = names.hardware_name(str(hardware)), names.find_model(str(model_name))
        profile = names.engine_profile_name("vLLM", "2023")
        skip = reason(profile, "vLLM 2023", gpu, model, model_name)
        cases.append(
            Case(
                dataset=dataset,
                label=f"{model_name} {hardware} tp{tp} prompt {prompt} batch {batch} output {output}",
                run=f"{model_name}/{str(hardware).removesuffix(_CAPPED)}/tp{tp}",  # capped rows say nothing that these do not
                engine="vLLM",
                version="2023",
                profile=profile,
                gpu=gpu,
                model=model or str(model_name),
                load=Load("phases", Lengths(float(prompt)), Lengths(float(output)), concurrency=int(batch)),
                measured={
                    "prompt_phase": float(rows["prompt_phase_ms"].mean()) / 1000.0,
                    "decode_step": float(rows["decode_step_ms"].mean()) / 1000.0,
                },
                tp=int(tp),
                settings={"prompt_slowdown": _CAPPED_PROMPT} if capped else {},
                rows=len(rows),
                skip=skip,
            )
        )
    return cases
