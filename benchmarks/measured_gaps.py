"""Median time between tokens of decoding GPUs: measured on H100 and B200, and as simulated.

    python -m benchmarks.measured_gaps [--measurements ../shared/energy_measurements] [--page docs/gap-accuracy.md]

The rows are those of `measured_power`: steady windows of vLLM 0.11.1. One number is fitted on some of
them, how unevenly tokens choose experts (`CostOptions.expert_popularity`, gpt-oss-120b on one H100); every other model is a new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import page_of_measurements
from benchmarks.measured_power import DEFAULT, ENGINE, FRONT_END_TOKENS_PER_S, GPUS, MODELS, PROMPTS, Row, quiet, row_of
from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine
from simserve.contracts import Slice, Step
from simserve.hardware import load_profile

if TYPE_CHECKING:
    import pandas as pd


class Gap(NamedTuple):
    """One row: its model and GPUs, the batch, the median gap measured and ours in seconds, and whether the GPUs set the pace."""

    model: str
    gpus: int
    task: str
    batch: float
    measured_s: float
    ours_s: float
    quiet: bool

    @property
    def error(self) -> float:
        """Ours against the measured gap."""
        return self.ours_s / self.measured_s - 1.0


def gaps(folder: Path, gpu: str, hardware: str) -> list[Gap]:
    """Every row of a text model on a GPU."""
    import pandas as pd

    table = pd.read_parquet(folder / "ml_energy_v3_runs.parquet")
    table = table[(table["gpu_model"] == gpu) & table["task"].isin(list(PROMPTS)) & table["model_id"].isin(list(MODELS))]
    table = table.assign(quiet=quiet(table) & (table["output_throughput_tokens_per_sec"] < FRONT_END_TOKENS_PER_S))
    profile, engine, costs, out = load_profile(hardware), load_engine(ENGINE), {}, []
    for _, line in table.sort_values(["model_id", "task", "num_gpus", "avg_batch_size"]).iterrows():
        row = row_of(line)
        key = (row.model.name, row.parallel)
        if key not in costs:
            costs[key] = Deployment(row.model, profile, row.parallel, engine=engine).cost
        ours_s = costs[key].step_time(usual_step(row, line))
        measured_s = float(line["median_itl_ms"]) * 1e-3
        out.append(Gap(row.model.name, int(line["num_gpus"]), row.task, row.batch, measured_s, ours_s, bool(line["quiet"])))
    return out


def usual_step(row: Row, line: pd.Series) -> Step:
    """The step of the median gap: the batch, and as many prompts as join half of the steps (Poisson, batch / output a step)."""
    mean = row.batch / float(line["avg_output_len"])
    prompts, chance = 0, float(np.exp(-mean))
    below = chance
    while below < 0.5:
        prompts += 1
        chance *= mean / prompts
        below += chance
    return Step.of([round(row.context)] * max(1, round(row.batch)), [Slice(PROMPTS[row.task], 0)] * prompts)


def page(folder: Path) -> str:
    """The whole page."""
    parts = [_HEAD]
    for gpu, hardware in GPUS.items():
        found = gaps(folder, gpu, hardware)
        parts.append(f"## {gpu} ({hardware})\n\n| rows | number | median error | mean error | bias |\n|---|--:|--:|--:|--:|")
        for name, some in (("the GPUs set the pace", [g for g in found if g.quiet]), ("all", found)):
            parts.append(f"| {name} | {_figures([g.error for g in some])} |")
        parts.append(
            "\n| model | GPUs | task | rows the GPUs pace | gaps, ms | median error | mean error | bias | all rows: median error |"
        )
        parts.append("|---|--:|---|--:|--:|--:|--:|--:|--:|")
        for key in dict.fromkeys((g.model, g.gpus, g.task) for g in found):
            alike = [g for g in found if (g.model, g.gpus, g.task) == key]
            paced = [g for g in alike if g.quiet]
            between = f"{1e3 * min(g.measured_s for g in alike):.1f} to {1e3 * max(g.measured_s for g in alike):.0f}"
            shown = _figures([g.error for g in paced]).split(" | ", 1)[1] if paced else "– | – | –"
            whole = f"{100 * np.median([abs(g.error) for g in alike]):.1f} %"
            parts.append(f"| {key[0]} | {key[1]} | {key[2]} | {len(paced)} of {len(alike)} | {between} | {shown} | {whole} |")
        parts.append("")
    return "\n".join(parts)


def _figures(errors: list[float]) -> str:
    values = 100 * np.array(errors)
    return f"{len(values)} | {np.median(np.abs(values)):.1f} % | {np.abs(values).mean():.1f} % | {np.median(values):+.1f} %"


_HEAD = """# How far off is the time between tokens?

Written by `python -m benchmarks.measured_gaps --page docs/gap-accuracy.md`.

Measured: median time between two tokens of a request (ITL) in steady windows of vLLM 0.11.1 (ml-energy/leaderboard 0cd52dab897c), batches
of 8 to 4,095, text models in their published weights. Ours: the time of one step of the profile `vllm-v1-async` over that batch at its mean
context, with as many prompts as join half of the steps. Kernels come from the profile; the host's seconds were learned on other runs of
other machines (A100, H100 and H200 servers), none of B200. One number was fitted on some of these rows, how unevenly tokens choose experts
(`expert_popularity`, [cost-models.md](cost-models.md)): on gpt-oss-120b on one H100. All others count as left out. Prompts of the chats are
not published ([power-accuracy.md](power-accuracy.md)).

*The GPUs set the pace* in rows below 8,000 tokens/s whose steps are alike: the 90th percentile of their gaps, where prompts are rare, lies
within 25 % of the median, as does that of every smaller batch of the series. The series of one B200 fail that, all of them: Qwen3-8B at
batch 8 takes 5.0 ms a token in chats and 32.5 ms in GPQA on the same GPU, which draws 646 and 294 W. Such rows wait for their host; they
are in "all".

Asked of B200: a median of 12 % over the rows that its GPUs pace. Where it is missed: Qwen3-235B and Llama-4 come out too fast on H100, and
Qwen3-235B on B200 as much, so it is not the device; gpt-oss-120b and Qwen3-30B do not. Llama-3.1-70B lacks 22 us a layer on two B200 and
none on four H100; no measured kernel holds them, and element-wise kernels were not measured on B200.
"""


if __name__ == "__main__":
    page_of_measurements.run(__doc__, DEFAULT, page)
