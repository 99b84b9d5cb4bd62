"""How step times vary: learned on measured gaps between tokens, and how far off their quantiles are for models left out.

    python -m benchmarks.step_jitter [--measurements ../shared/energy_measurements] [--page docs/jitter-accuracy.md]

The rows are runs of vLLM 0.11.1 with asynchronous scheduling on H100 (ml-energy/leaderboard): 1,024 requests at once, `max_num_seqs` of
them running, quantiles of the gaps between tokens that clients saw. Gaps vary for two reasons: steps differ (contexts grow, prompts are
computed beside decodes), which the simulation knows, and equal steps take different times. Each row is simulated without jitter; what that
does not explain is learned from. A quantile counts only where steps with prompts are rarer than half of what lies beyond it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import page_of_measurements
from benchmarks.measured_power import MODELS, PROMPTS
from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine, scheduler_defaults
from simserve.cost.host import HostOverheads
from simserve.engine import simulate
from simserve.engine.jitter import FLOOR, STALLS, host_factors, stall_seconds
from simserve.engine.records import LaneLog
from simserve.hardware import load_profile
from simserve.model import ModelArchitecture, Parallel, load_model
from simserve.policies import registry
from simserve.speculation.draws import draws, key
from simserve.validation.metrics import step_starts_s
from simserve.validation.physical import JITTER
from simserve.workload.requests import RequestTable, Workload

if TYPE_CHECKING:
    import pandas as pd

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "energy_measurements"
GPU, HARDWARE, ENGINE = "H100", "h100-sxm-80gb", "vllm-v1-async"
QUANTILES = (0.9, 0.95, 0.99)
FULL_BATCH = 0.97
"""Rows whose mean batch is smaller were short of memory: requests were preempted or waited."""
MOST_SEQS = 256
"""Larger batches are left out: beyond 8,000 tokens/s the API server sets the pace (`benchmarks.measured_power`)."""
WHOLE_STEP_SPREADS = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04)
PULL = 0.005
"""Logarithmic error that a parameter at the other end of its range must gain."""
MOST_STEPS = 4_000
"""Steps of a row that are looked at: spread over all of them."""


class Jitter(NamedTuple):
    """What is learned."""

    spread: float
    stall_probability: float
    stall_s: float


NONE = Jitter(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """One measured run beside the simulated one.

    measured_s  median and the QUANTILES of gaps
    seconds, decodes  of the simulated steps: what each takes without jitter, and how many requests get a token
    mixed       fraction of the simulated gaps in which prompts are computed too
    """

    task: str
    model: str
    gpus: int
    seqs: int
    measured_s: F64
    seconds: F64
    decodes: I64
    mixed: float
    host: HostOverheads
    drawn: I64 = field(repr=False)

    def quantiles(self, jitter: Jitter, level: float = 1.0) -> F64:
        """Median and QUANTILES of the simulated gaps, seconds; all steps stretched by `level`."""
        mean, stalls = stall_seconds(jitter.stall_probability, jitter.stall_s)
        factors = host_factors(jitter.spread)[self.drawn >> 41]
        host = self.host.per_step_s + self.host.per_decode_request_s * self.decodes
        steps = level * self.seconds
        varied = steps + (host * (factors - 1.0) + (stalls[self.drawn & (STALLS - 1)] - mean * factors))
        return _weighted(np.maximum(varied, FLOOR * steps), self.decodes)

    def whole_step_errors(self, spread: float, level: float) -> F64:
        """`errors` where a factor varies the whole step instead."""
        ours = _weighted(level * self.seconds * host_factors(spread)[self.drawn >> 41], self.decodes)
        found: F64 = np.log(ours[1:] / ours[0]) - np.log(self.measured_s[1:] / self.measured_s[0])
        return found

    def clean(self) -> NDArray[np.bool_]:
        """Which of the QUANTILES steps with prompts do not decide."""
        return np.array([self.mixed < (1.0 - q) / 2.0 for q in QUANTILES])

    def errors(self, jitter: Jitter, level: float = 1.0) -> F64:
        """ln of (quantile / median) simulated over measured, for each of the QUANTILES."""
        ours = self.quantiles(jitter, level)
        found: F64 = np.log(ours[1:] / ours[0]) - np.log(self.measured_s[1:] / self.measured_s[0])
        return found

    @property
    def level(self) -> float:
        """Measured over simulated median: how far the step times themselves are off."""
        return float(self.measured_s[0] / self.quantiles(NONE)[0])


def _weighted(values: F64, weights: I64) -> F64:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    places = np.searchsorted(below, np.array([0.5, *QUANTILES]) * below[-1])
    found: F64 = values[order][places]
    return found


def read(folder: Path) -> Iterable[Row]:
    """The rows of text models on H100, simulated."""
    import pandas as pd

    table = pd.read_parquet(folder / "ml_energy_v3_runs.parquet")
    lengths = pd.read_parquet(folder / "ml_energy_v3_output_lengths.parquet")
    keep = (table["gpu_model"] == GPU) & table["task"].isin(list(PROMPTS)) & table["model_id"].isin(list(MODELS))
    keep &= (table["avg_batch_size"] >= FULL_BATCH * table["max_num_seqs"]) & (table["max_num_seqs"] <= MOST_SEQS)
    same = ["task", "model_id", "config", "gpu_model", "num_gpus", "max_num_seqs"]
    for _, row in table[keep].sort_values(["model_id", "task", "num_gpus", "max_num_seqs"]).iterrows():
        yield simulated(row, lengths[(lengths[same] == row[same]).all(axis=1)])


def simulated(row: pd.Series, lengths: pd.DataFrame) -> Row:
    """A row beside its simulation: all requests at once, output lengths drawn from the run's histogram."""
    gpus, seqs = int(row["num_gpus"]), int(row["max_num_seqs"])
    parallel = Parallel(tp=int(row["tensor_parallel"]), dp=int(row["data_parallel"]), ep=int(row["expert_parallel"]))
    if parallel.devices != gpus:  # the experts' ranks are the attention's tensor-parallel ones
        parallel = Parallel(tp=gpus, ep=int(row["expert_parallel"]))
    count = min(1024, 8 * seqs + 64)
    rng = np.random.Generator(np.random.PCG64(seqs))
    weights = lengths["count"].to_numpy(float)
    bins = rng.choice(len(weights), count, p=weights / weights.sum())
    low, high = lengths["bin_low"].to_numpy(float)[bins], lengths["bin_high"].to_numpy(float)[bins]
    outputs = np.maximum(1, np.rint(rng.uniform(low, high))).astype(np.int64)
    deployed = _deployed(_model(row), parallel, seqs)
    prompts = np.full(count, PROMPTS[row["task"]], dtype=np.int64)
    workload = Workload(RequestTable.build(np.zeros(count), prompts, outputs))
    records = simulate(workload, [deployed.instance_spec("i")])
    lane, from_s = records.lanes[0], float(np.sort(records.requests.finish_s)[seqs // 2])
    seconds, decodes, prompt_tokens = _steady(lane, from_s, seqs)
    every = max(1, len(seconds) // MOST_STEPS)
    mixed = float(decodes[prompt_tokens > 0].sum() / decodes.sum())
    measured = np.array([row[f"{name}_itl_ms"] for name in ("median", "p90", "p95", "p99")], dtype=np.float64) / 1000.0
    kept = seconds[::every], decodes[::every]
    drawn = draws(key(0, seqs), 0, len(kept[0]))
    return Row(row["task"], MODELS[row["model_id"]], gpus, seqs, measured, *kept, mixed, deployed.host_overheads, drawn)


def _model(row: pd.Series) -> ModelArchitecture:
    model = load_model(MODELS[row["model_id"]])
    if row["weight_precision"] == "fp8" and model.quantisation.mlp == "none":
        return load_model(MODELS[row["model_id"]], quantisation="fp8")
    return model


def _deployed(model: ModelArchitecture, parallel: Parallel, seqs: int) -> Deployment:
    engine, hardware = load_engine(ENGINE), load_profile(HARDWARE)
    policy = registry.scheduler_class(engine.scheduler.policy)
    defaults = scheduler_defaults(engine, HARDWARE, hardware.device.hbm_bytes)
    scheduler = policy(policy.Params(**{**defaults, "max_seqs": seqs}))
    return Deployment(model, hardware, parallel, scheduler=scheduler, policy=engine.scheduler.policy, engine=engine)


def _steady(lane: LaneLog, from_s: float, seqs: int) -> tuple[F64, I64, I64]:
    """Steps of a full batch, from a time on: seconds, decoding requests, prompt tokens."""
    starts = step_starts_s(lane)
    decodes, prompts = (np.repeat(each, lane.span_steps) for each in (lane.span_decode_requests, lane.span_prefill_tokens))
    kept = (starts >= from_s) & ((decodes >= FULL_BATCH * seqs) | (prompts > 0)) & (decodes > 0)
    return (lane.step_end_s - starts)[kept], decodes[kept], prompts[kept]


def fit(rows: Sequence[Row]) -> Jitter:
    """Least absolute logarithmic errors of the clean quantiles within `physical.JITTER`; models weigh the same. Steps are brought to the
    measured median first: what the cost model is off by is not learned from. What the rows do not tell stays as usual (`PULL`)."""
    from scipy.optimize import minimize

    low, high = (np.log([getattr(JITTER[name], end) for name in Jitter._fields]) for end in ("least", "largest"))
    usual = np.log([JITTER[name].typical for name in Jitter._fields])
    by_model = {name: [(row, row.level, row.clean()) for row in rows if row.model == name] for name in dict.fromkeys(r.model for r in rows)}

    def misses(logs: F64) -> float:
        jitter = Jitter(*np.exp(np.clip(logs, low, high)))
        means = [np.mean([np.abs(row.errors(jitter, level)[clean]).mean() for row, level, clean in group]) for group in by_model.values()]
        return float(np.mean(means) + PULL * (((logs - usual) / (high - low)) ** 2).sum())

    options = {"maxiter": 120, "initial_simplex": usual + np.vstack([np.zeros(3), 0.6 * np.eye(3)]), "fatol": 1e-5}
    found = minimize(misses, usual, method="Nelder-Mead", options=options)
    return Jitter(*(float(f"{value:.2g}") for value in np.exp(np.clip(found.x, low, high))))


def left_out(rows: Sequence[Row]) -> dict[str, Jitter]:
    """For each model what the others teach."""
    return {name: fit([row for row in rows if row.model != name]) for name in dict.fromkeys(row.model for row in rows)}


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    rows = [row for row in rows if row.clean().any()]
    whole, others = fit(rows), left_out(rows)
    without = np.array([row.errors(NONE) for row in rows])
    judged = np.array([row.errors(others[row.model]) for row in rows])
    taught = np.array([row.errors(whole) for row in rows])
    clean, models = np.array([row.clean() for row in rows]), np.array([row.model for row in rows])
    host = rows[0].host
    lines = [_HEAD.format(rows=len(rows), models=len(others), batch=max(row.seqs for row in rows), engine=ENGINE, hardware=HARDWARE)]
    lines.append(
        f"Learned on all rows: spread {whole.spread:g} of the host's {host.per_step_s * 1e3:g} ms a step and"
        f" {host.per_decode_request_s * 1e6:g} us a decoding request; stalls of {whole.stall_s * 1e3:g} ms on average in"
        f" {100 * whole.stall_probability:g} % of the steps.\n"
    )
    lines.append("| quantile over median | rows | without jitter: MAPE, bias | model left out: MAPE, bias | all rows: MAPE, bias |")
    lines.append("|---|--:|--:|--:|--:|")
    for place, q in enumerate(QUANTILES):
        at = clean[:, place]
        cells = [_cell(each[at, place]) for each in (without, judged, taught)]
        lines.append(f"| p{100 * q:.0f} | {at.sum()} | {' | '.join(cells)} |")
    lines.append("\n| model left out | rows | spread, stalls learned | p90: without, with | p95: without, with | p99: without, with |")
    lines.append("|---|--:|---|--:|--:|--:|")
    for name, jitter in others.items():
        at = models == name
        cells = []
        for place in range(len(QUANTILES)):
            counted = at & clean[:, place]
            both = [f"{100 * np.expm1(each[counted, place]).mean():+.1f} %" for each in (without, judged) if counted.any()]
            cells.append(", ".join(both))
        learned = f"{jitter.spread:g}; {1000 * jitter.stall_s:g} ms in {100 * jitter.stall_probability:g} %"
        lines.append(f"| {name} | {at.sum()} | {learned} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + _FOOT.format(seqs=MOST_SEQS, **_host_or_whole(rows, whole))


def _host_or_whole(rows: Sequence[Row], learned: Jitter) -> dict[str, str]:
    """Errors of p90 and p95 at the measured step times, models weighing the same: of the learned jitter, and of the best factor on whole
    steps."""

    def mean(of: Callable[[Row], F64]) -> F64:
        by_model = {row.model: [np.abs(np.expm1(of(one)[:2])) for one in rows if one.model == row.model and one.clean()[1]] for row in rows}
        found: F64 = np.mean([np.mean(errors, axis=0) for errors in by_model.values() if errors], axis=0)
        return found

    tried = {spread: mean(lambda row, spread=spread: row.whole_step_errors(spread, row.level)) for spread in WHOLE_STEP_SPREADS}
    best = min(tried, key=lambda spread: tried[spread].sum())
    host, other = mean(lambda row: row.errors(learned, row.level)), tried[best]
    words = [f"{100 * p90:.1f} and {100 * p95:.1f} %" for p90, p95 in (host, other)]
    return {"host": words[0], "other": words[1], "spread": f"{100 * best:g} %"}


def _cell(errors: F64) -> str:
    relative = np.expm1(errors)
    return f"{100 * np.abs(relative).mean():.1f}, {100 * relative.mean():+.1f} %"


_HEAD = """# How far off are the tails of token gaps?

Written by `python -m benchmarks.step_jitter --page docs/jitter-accuracy.md`. What varies, and why:
[cost-models.md](cost-models.md#step-jitter).

Measured: quantiles of the gaps between tokens that clients saw, vLLM 0.11.1 with asynchronous scheduling on H100 (ml-energy/leaderboard
0cd52dab897c), text models, full batches of 8 to {batch} sequences, 1,024 requests at once; output lengths are drawn from each run's
histogram, prompts have the lengths of [power-accuracy.md](power-accuracy.md). Each of the {rows} runs of {models} models is simulated
(`{engine}` on `{hardware}`). Compared is a quantile of the gaps over their median, so that the level of the step times does not count. Only
quantiles that steps with prompts do not decide are compared: such steps are rarer than half of what lies beyond the quantile. "Model left
out": what was learned from all other models.
"""


_FOOT = """
- It is the host's part that varies: p90 is 0.1 to 0.6 ms over the median at 8 sequences, whether a step takes 7 ms or 34. At the measured
  step times, models weighing the same, p90 and p95 are {host} off; with the best factor on whole steps (a spread of {spread}) {other},
  too wide for long steps and too narrow for short ones.
- Stalls are hardly told by these rows: in half of those with a clean p99 there are none in a hundred steps, in the others (Qwen3 on a
  single GPU, answers of 8,000 tokens) p99 is 3 to 5 ms above p95 at any batch. No rule for which server stalls was
  found. What is learned of them hangs on single models (without gpt-oss-120b, six times as many), so p99 is no better with jitter than
  without.
- Gaps are those of clients: what varies on the way of a token to its client is in them, and is taken for the engine's here.
- Not learned from: B200 (on a single GPU p90 is 1.2 to 2.5 times the median, and the median of equal batches up to six times that of
  another task: servers whose hosts were full), rows short of memory, more than {seqs} sequences (the API server sets the pace), tasks with
  images.
- A request's TPOT is a mean over its tokens: independent steps leave its tail as it was. On single requests (RTX PRO 6000, RTX 4090) its
  p99 moves by 0.2 %.
"""


def _page(folder: Path) -> str:
    rows = []
    for row in read(folder):
        print(f"{row.model} {row.task} on {row.gpus}, {row.seqs} sequences", file=sys.stderr)
        rows.append(row)
    return page(rows)


if __name__ == "__main__":
    page_of_measurements.run(__doc__, DEFAULT, _page)
