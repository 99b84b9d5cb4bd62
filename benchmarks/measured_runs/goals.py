"""What is asked of the simulator on measured serving runs, and how the check part answers: the table of docs/serving-accuracy.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.measured_runs.lessons import is_held_out
from simserve.validation.evaluate import Outcome
from simserve.validation.groups import dataset_table


class Goal(NamedTuple):
    """One line: a data set, the statistic of each metric's errors, and the largest percentages asked for.

    name       of each metric, for people
    statistic  `median` or `mape` (mean) of the absolute errors
    coverage   least fraction of the rows that must have a prediction, percent; None = nothing is asked
    in_sample  the only run of its kind, which was learned from: judged on itself
    apart      only runs whose prefill and decode are on different instances
    """

    data: str
    dataset: str
    metrics: tuple[str, ...]
    name: str
    statistic: str
    limits: tuple[float, ...]
    coverage: float | None = None
    in_sample: bool = False
    apart: bool = False


GOALS = (
    Goal(
        "load stages, vLLM on H100, A100, L40S",
        "vllm_h100_a100_stage_latency",
        ("e2e_mean", "ttft_mean", "tpot_mean"),
        "median error of E2E, TTFT, time per token",
        "median",
        (8, 15, 8),
    ),
    Goal(
        "fixed concurrency, H100 and H200",
        "engine_ttft_tpot_h100_h200",
        ("tpot_mean", "ttft_mean"),
        "MAPE of TPOT, TTFT",
        "mape",
        (10, 25),
        90,
    ),
    Goal(
        "of these, prefill and decode apart",
        "engine_ttft_tpot_h100_h200",
        ("tpot_mean", "ttft_mean"),
        "MAPE of TPOT, TTFT",
        "mape",
        (10, 25),
        apart=True,
    ),
    Goal(
        "batch phases of 2023, A100 and H100",
        "batch_phase_latency_a100_h100",
        ("prompt_phase", "decode_step"),
        "MAPE of prompt phase, decode step",
        "mape",
        (10, 10),
    ),
    Goal("static batches, A100 and H100", "static_batch_throughput_a100_h100", ("makespan",), "MAPE of the makespan", "mape", (15,)),
    Goal("trace means, 8 H100", "trace_mean_latency_8xh100", ("latency_sum",), "MAPE of the summed latency", "mape", (15,)),
    Goal("offline throughput, TensorRT-LLM", "max_throughput_trtllm_h100_h200", ("output_tokens_per_s",), "MAPE", "mape", (15,)),
    Goal("`vllm bench serve` pages", "vllm_bench_serve_gpustack_lab", ("output_tokens_per_s",), "MAPE of throughput", "mape", (15,)),
    Goal(
        "requests on RTX PRO 6000, one run, which was also learned from",
        "per_request_vllm_rtx",
        ("tpot_mean", "e2e_mean", "ttft_mean"),
        "mean TPOT, E2E, TTFT",
        "mape",
        (2, 2, 5),
        in_sample=True,
    ),
    Goal("Ascend baselines", "ascend_nightly_throughput_baseline", ("output_tokens_per_s",), "MAPE of throughput", "mape", (25,)),
)

_FEW_ROWS = 5


def goal_table(outcomes: Sequence[Outcome]) -> str:
    """The Markdown table, from the outcomes of all rows of all data sets."""
    held_out = [outcome for outcome in outcomes if is_held_out(outcome.case)]
    check, every = _by_metric(held_out), _by_metric(outcomes)
    apart = _by_metric([outcome for outcome in held_out if outcome.case.pools is not None])
    lines = ["| data | metric | rows | error | asked | |", "|---|---|--:|--:|--:|---|"]
    for goal in GOALS:
        own = every if goal.in_sample else apart if goal.apart else check
        found = [own[goal.dataset, metric] for metric in goal.metrics if (goal.dataset, metric) in own]
        if len(found) == len(goal.metrics):
            lines.append(_line(goal, found))
    return "\n".join(lines) + "\n"


def _by_metric(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["dataset"], row["metric"]): row for row in dataset_table(outcomes)}


def _line(goal: Goal, found: list[dict[str, Any]]) -> str:
    errors = [row[f"{goal.statistic}_percent"] for row in found]
    covered = found[0]["coverage_percent"]
    error, asked = ", ".join(f"{e:.1f}" for e in errors) + " %", ", ".join(f"{limit:g}" for limit in goal.limits) + " %"
    name = goal.name
    met = all(e <= limit for e, limit in zip(errors, goal.limits, strict=True))
    if goal.coverage is not None or covered < 99.5:
        name += "; coverage"
        error += f"; {covered:.0f} %"
        asked += f"; {goal.coverage:g} %" if goal.coverage is not None else ""
        met = met and covered >= (goal.coverage or 0.0)
    rows = found[0]["rows"]
    verdict = "in-sample" if goal.in_sample else "too few" if rows < _FEW_ROWS else "met" if met else "missed"
    return f"| {goal.data} | {name} | {rows:,} | {error} | {asked} | {verdict} |"
