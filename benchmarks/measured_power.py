"""Power of decoding GPUs: joules per operation fitted on measured watts, and how far off they are on models left out.

    python -m benchmarks.measured_power [--measurements ../shared/energy_measurements] [--page docs/power-accuracy.md]

The rows are steady windows of vLLM 0.11.1 (ml-energy/leaderboard), so what the devices did in a second is known from the measured batch and
throughput; no simulated time enters the fit. Each joule has bounds that a device can have (`bounds`), links take their published figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import page_of_measurements
from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine
from simserve.contracts import Slice, Step
from simserve.cost.energy import StepTotals, Work, work
from simserve.hardware import load_profile
from simserve.hardware.device import Device
from simserve.model import ModelArchitecture, Parallel, load_model

if TYPE_CHECKING:
    import pandas as pd

F64 = NDArray[np.float64]

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "energy_measurements"
GPUS = {"H100": "h100-sxm-80gb", "B200": "b200-sxm"}
"""Names of the data set to hardware profiles."""
MODELS = {
    "Qwen/Qwen3-30B-A3B-Thinking-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507": "qwen3-235b-a22b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "llama-3.1-405b-fp8",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
}
"""Text models of the data set to bundled architectures; the others see images, whose tokens it does not state."""
PROMPTS = {"gpqa": 280, "lm-arena-chat": 400}
"""Tokens of a prompt by task: GPQA's as its README says. Those of the chats are not published: with 400 our steps of the two largest dense
models (70B, 405B), whose rows no front end limits, take as long as measured at every batch."""
FRONT_END_TOKENS_PER_S = 8000.0
"""Rows that stream more are left out: from here on throughput no longer follows the batch (10,100 to 11,900 tokens/s at 512 to 1,915
sequences of gpt-oss-120b), so the API server sets the pace and the GPUs wait for a part of the time that is not stated."""
QUIET, RARE_PROMPTS = 1.25, 0.1
"""Where a prompt joins fewer than one step in ten, the 90th percentile of the gaps is that of steps alike, and a GPU's differ by a few
percent: 1.02 to 1.18 times the median in every such row of H100, and in those of B200 with two GPUs and more. Above QUIET the host disturbs
them, as in every series of one B200 (1.3 to 2.4), whose GPUs then draw half of what they do at the same batch elsewhere: they wait."""
LINK_J_PER_BYTE = 5.2e-11
ENGINE = "vllm-v1-async"


class Row(NamedTuple):
    """One measured window: a batch that decodes, and the prompts that replace what ends."""

    model: ModelArchitecture
    parallel: Parallel
    task: str
    batch: float
    context: float
    prompt_tokens_per_step: float
    step_s: float
    watts: float
    """Of one GPU."""

    def totals(self) -> StepTotals:
        """Its work a step."""
        new, prompt = self.prompt_tokens_per_step, PROMPTS[self.task]
        attended = self.batch * self.context
        values = (1.0, self.batch + new, attended + new / 2.0, attended + new * prompt / 2.0)
        return StepTotals(*(np.array([value]) for value in values))


def read(folder: Path, gpu: str) -> list[Row]:
    """The rows of text models on a GPU that no front end limits."""
    import pandas as pd

    table = pd.read_parquet(folder / "ml_energy_v3_runs.parquet")
    table = table[(table["gpu_model"] == gpu) & table["task"].isin(list(PROMPTS)) & table["model_id"].isin(list(MODELS))]
    table = table[quiet(table) & (table["output_throughput_tokens_per_sec"] < FRONT_END_TOKENS_PER_S)]
    return [row_of(row) for _, row in table.iterrows()]


def quiet(table: pd.DataFrame) -> pd.Series:
    """Whether nothing disturbs a row's steps: not its own, nor those of a smaller batch of the same model, task and GPUs (QUIET)."""
    disturbed = (table["p90_itl_ms"] > QUIET * table["median_itl_ms"]) & (table["avg_batch_size"] < RARE_PROMPTS * table["avg_output_len"])
    series = ["model_id", "task", "gpu_model", "num_gpus"]
    first = table["avg_batch_size"].where(disturbed).groupby([table[c] for c in series]).transform("min")
    return ~(table["avg_batch_size"] >= first)


def row_of(row: pd.Series) -> Row:
    """A row of the table: its model, layout and work."""
    gpus, ep = int(row["num_gpus"]), int(row["expert_parallel"])
    parallel = Parallel(tp=int(row["tensor_parallel"]), dp=int(row["data_parallel"]), ep=ep)
    if parallel.devices != gpus:  # the experts' ranks are the attention's tensor-parallel ones
        parallel = Parallel(tp=gpus, ep=ep)
    batch, output, prompt = float(row["avg_batch_size"]), float(row["avg_output_len"]), PROMPTS[row["task"]]
    step_s = batch / float(row["output_throughput_tokens_per_sec"])
    watts = float(row["avg_power_watts"]) / gpus
    model = load_model(MODELS[row["model_id"]])
    if row["weight_precision"] == "fp8" and model.quantisation.mlp == "none":
        model = load_model(MODELS[row["model_id"]], quantisation="fp8")
    return Row(model, parallel, row["task"], batch, prompt + output / 2, batch / output * prompt, step_s, watts)


@dataclass(frozen=True)
class Joules:
    """What is fitted: watts while a step runs, joules per bf16 FLOP, per byte of memory, per byte of activations."""

    busy_w: float
    per_flop: float
    per_hbm_byte: float
    per_activation_byte: float

    def watts(self, device: Device, rates: F64) -> F64:
        """Of one device, for rates (rows, 4) of FLOPs, bytes read, activation bytes and link bytes a second."""
        drawn = self.busy_w + rates @ np.array([self.per_flop, self.per_hbm_byte, self.per_activation_byte, LINK_J_PER_BYTE])
        return np.minimum(drawn, device.tdp_w)


def bounds(device: Device) -> tuple[F64, F64]:
    """What each may be. Busy: from idle to 45 % of TDP. A FLOP: 0.5 to 1.5 times what TDP leaves for each at peak
    (a chip that multiplies without pause draws its TDP, at most half of it for what is busy anyway). A byte of memory: 30 pJ
    (HBM alone, 4 pJ/bit) to 400 pJ. A byte of activations: 30 pJ to 3 nJ (registers, shared memory and caches several times over)."""
    flop = device.tdp_w / device.peak("bf16")
    return np.array([device.idle_w, 0.5 * flop, 3e-11, 3e-11]), np.array([0.45 * device.tdp_w, 1.5 * flop, 4e-10, 3e-9])


def rates(device: Device, rows: list[Row], step_s: F64) -> F64:
    """Work of one GPU a second, shape (rows, 4)."""
    done: list[Work] = [work(device, row.model, row.parallel, row.totals()) for row in rows]
    return np.array([np.array(each) / row.parallel.devices for each, row in zip(done, rows, strict=True)]) / step_s[:, None]


def fit(device: Device, per_s: F64, watts: F64) -> Joules:
    """Least squares of relative errors within the bounds."""
    from scipy.optimize import lsq_linear

    low, high = bounds(device)
    columns = np.column_stack([np.ones(len(watts)), per_s[:, :3]]) * high / watts[:, None]
    found = lsq_linear(columns, (watts - LINK_J_PER_BYTE * per_s[:, 3]) / watts, bounds=(low / high, 1.0))
    return Joules(*(found.x * high))


def left_out(device: Device, rows: list[Row], per_s: F64, drawn: F64) -> list[Joules]:
    """For each row the joules fitted on all other models."""
    names = np.array([row.model.name for row in rows])
    by_model = {name: fit(device, per_s[names != name], drawn[names != name]) for name in dict.fromkeys(names)}
    return [by_model[name] for name in names]


def simulated_step_s(hardware: str, rows: list[Row]) -> F64:
    """Seconds of each row's step by our cost model: its decodes, and its prompts at their mean number of tokens."""
    profile, engine, out, costs = load_profile(hardware), load_engine(ENGINE), [], {}
    for row in rows:
        key = (row.model.name, row.parallel)
        if key not in costs:
            costs[key] = Deployment(row.model, profile, row.parallel, engine=engine).cost
        batch = max(1, round(row.batch))
        decode = Step.of([round(row.context)] * batch)
        seconds = costs[key].step_time(decode)
        if row.prompt_tokens_per_step:
            with_prompt = costs[key].step_time(Step.of([round(row.context)] * batch, [Slice(PROMPTS[row.task], 0)]))
            seconds += (with_prompt - seconds) * row.prompt_tokens_per_step / PROMPTS[row.task]
        out.append(seconds)
    return np.array(out)


def page(folder: Path) -> str:
    """The whole page."""
    parts = [_HEAD.format(chat=PROMPTS["lm-arena-chat"])]
    for gpu, hardware in GPUS.items():
        device, rows = load_profile(hardware).device, read(folder, gpu)
        drawn, measured_s = np.array([row.watts for row in rows]), np.array([row.step_s for row in rows])
        ours_s = simulated_step_s(hardware, rows)
        per_s, per_s_ours = rates(device, rows, measured_s), rates(device, rows, ours_s)
        others, whole = left_out(device, rows, per_s, drawn), fit(device, per_s, drawn)
        error = np.array([j.watts(device, r[None])[0] for j, r in zip(others, per_s, strict=True)]) / drawn - 1.0
        end_to_end = np.array([j.watts(device, r[None])[0] for j, r in zip(others, per_s_ours, strict=True)]) / drawn - 1.0
        experts = np.array([any(row.model.moe_layers) for row in rows])
        figures = f"{whole.busy_w:.0f} W busy, {whole.per_flop * 1e12:.2f} pJ a FLOP, {whole.per_hbm_byte * 1e12:.0f} pJ a byte of memory, "
        parts.append(
            f"## {gpu} ({hardware})\n\nFitted on all rows: {figures}{whole.per_activation_byte * 1e9:.2f} nJ a byte of activations.\n"
        )
        parts.append("| mean error of the power, models left out | rows | measured steps | simulated steps |\n|---|--:|--:|--:|")
        for name, which in (("dense", ~experts), ("with experts", experts), ("all", experts | True)):
            one, two = (f"{100 * np.abs(e[which]).mean():.1f} %" for e in (error, end_to_end))
            parts.append(f"| {name} | {which.sum()} | {one} | {two} |")
        parts.append("\n| model left out | rows | watts a GPU | error (bias) | simulated steps (bias) | our step / measured |")
        parts.append("|---|--:|--:|--:|--:|--:|")
        names = np.array([row.model.name for row in rows])
        for name in dict.fromkeys(names):
            at = names == name
            cells = [f"{100 * np.abs(e[at]).mean():.1f} % ({100 * e[at].mean():+.1f} %)" for e in (error, end_to_end)]
            ratio = np.median(ours_s[at] / measured_s[at])
            parts.append(f"| {name} | {at.sum()} | {drawn[at].min():.0f} to {drawn[at].max():.0f} | {' | '.join(cells)} | {ratio:.2f} |")
        parts.append("")
    return "\n".join(parts)


_HEAD = """# How far off is power?

Written by `python -m benchmarks.measured_power --page docs/power-accuracy.md`. What the figures mean:
[cost-models.md](cost-models.md#energy).

Measured: average power of all GPUs of a server over a steady window of vLLM 0.11.1 (ml-energy/leaderboard 0cd52dab897c), batches of 8 to
1,915, text models. What the devices did in a second follows from the measured batch, output lengths and throughput, so the fit knows no
simulated time. Each model is predicted with figures fitted on all *other* models. "Simulated steps" takes our step times too
(`vllm-v1-async`), as a run does. Prompts of the chats are not published: {chat} tokens are taken, at which our steps of the two largest
dense models agree with the measured ones at every batch. Left out: rows of more than 8,000 tokens/s, where the API server sets the
pace, and rows whose host disturbs the steps (all series of one B200: [gap-accuracy.md](gap-accuracy.md)). Rows of an
expert fill tiles of 64 (`cost/energy.py`).
"""


if __name__ == "__main__":
    page_of_measurements.run(__doc__, DEFAULT, page)
