"""What is asked of the simulator on measured runs, and how it answers on models, devices and engine versions left out of the fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.measured_runs.intervals import Judged, inside_percent
from simserve.validation.evaluate import Outcome
from simserve.validation.groups import dataset_table
from simserve.validation.split import GROUPINGS


class Goal(NamedTuple):
    """One line: a data set, the statistic of each metric's errors, and the largest percentages asked for.

    name       of each metric, for people
    statistic  `median` or `mape` (mean) of the absolute errors
    coverage   least fraction of the rows that must have a prediction, percent; None = nothing is asked
    apart      only runs whose prefill and decode are on different instances
    """

    data: str
    dataset: str
    metrics: tuple[str, ...]
    name: str
    statistic: str
    limits: tuple[float, ...]
    coverage: float | None = None
    apart: bool = False


_STAGES, _FIXED = "vllm_h100_a100_stage_latency", "engine_ttft_tpot_h100_h200"
GOALS = (
    Goal(
        "load stages, vLLM on H100, A100, L40S",
        _STAGES,
        ("e2e_mean", "ttft_mean", "tpot_mean"),
        "MAPE of E2E, TTFT, TPOT",
        "mape",
        (6, 10, 5),
    ),
    Goal("fixed concurrency, H100 and H200", _FIXED, ("tpot_mean", "ttft_mean"), "MAPE of TPOT, TTFT", "mape", (12, 20), 95),
    Goal("the same", _FIXED, ("tpot_mean", "ttft_mean"), "median of TPOT, TTFT", "median", (8, 13)),
    Goal("of these, prefill and decode apart", _FIXED, ("tpot_mean", "ttft_mean"), "MAPE of TPOT, TTFT", "mape", (12, 20), apart=True),
    Goal(
        "prompts of 1k to 32k, 8 H200",
        "prompt_length_sweep_h200",
        ("tpot_median", "ttft_median"),
        "MAPE of median TPOT, TTFT",
        "mape",
        (12, 20),
    ),
    Goal(
        "requests on RTX PRO 6000",
        "per_request_vllm_rtx",
        ("tpot_mean", "e2e_mean", "ttft_mean"),
        "mean TPOT, E2E, TTFT",
        "mape",
        (8, 10, 15),
    ),
    Goal(
        "requests on RTX 4090",
        "per_request_vllm_rtx_4090",
        ("tpot_mean", "e2e_mean", "ttft_mean"),
        "mean TPOT, E2E, TTFT",
        "mape",
        (8, 10, 15),
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
    Goal("`vllm bench serve` pages", "vllm_bench_serve_gpustack_lab", ("output_tokens_per_s",), "MAPE of throughput", "mape", (25,), 95),
    Goal("Ascend baselines", "ascend_nightly_throughput_baseline", ("output_tokens_per_s",), "MAPE of throughput", "mape", (25,)),
    Goal("Ascend, published", "ascend_published_serving", ("output_tokens_per_s",), "MAPE of throughput", "mape", (25,)),
)


def goal_table(left_out: Mapping[str, Sequence[Outcome]]) -> str:
    """The Markdown table, from the outcomes of all rows by what was left out of the fits. A goal is met where no grouping misses it."""
    tables = {grouping: (_by_metric(outcomes), _by_metric(_apart(outcomes))) for grouping, outcomes in left_out.items()}
    lines = [
        f"| data | metric | rows | {' | '.join(f'without the {g}' for g in GROUPINGS)} | asked | |",
        f"|---|---|--:|{'--:|' * len(GROUPINGS)}--:|---|",
    ]
    for goal in GOALS:
        found = {}
        for grouping in GROUPINGS:
            own = tables[grouping][goal.apart]
            rows = [own[goal.dataset, metric] for metric in goal.metrics if (goal.dataset, metric) in own]
            if len(rows) == len(goal.metrics) and all(row["rows"] for row in rows):
                found[grouping] = rows
        if len(found) == len(GROUPINGS):
            lines.append(_line(goal, found))
    return "\n".join(lines) + "\n"


LEAST_COVERAGE, INSIDE = 95.0, (75.0, 88.0)
"""Asked of all rows: percent that must have a prediction, and percent of the measured figures that must lie in their 80 % intervals."""


def interval_goals(outcomes: Sequence[Outcome], judged: Sequence[Judged]) -> str:
    """Two more lines of that table, on models left out: rows with a prediction, and figures in their intervals."""
    rows, predicted = sum(o.case.rows for o in outcomes), sum(o.case.rows for o in outcomes if o.predicted)
    covered, inside = 100.0 * predicted / rows, inside_percent(judged)
    low, high = INSIDE
    empty = " – |" * (len(GROUPINGS) - 1)
    return (
        f"| all data sets | rows with a prediction | {rows:,} | {covered:.1f} % |{empty} {LEAST_COVERAGE:g} % |"
        f" {'met' if covered >= LEAST_COVERAGE else 'missed'} |\n"
        f"| all data sets | figures in their 80 % interval; each model alike {inside_percent(judged, alike=True):.0f} % | {len(judged):,} |"
        f" {inside:.1f} % |{empty} {low:g} to {high:g} % | {'met' if low <= inside <= high else 'missed'} |\n"
    )


def _apart(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.case.pools is not None]


def _by_metric(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["dataset"], row["metric"]): row for row in dataset_table(outcomes)}


def _line(goal: Goal, found: Mapping[str, list[dict[str, Any]]]) -> str:
    cells, met = [], True
    for rows in found.values():
        errors = [row[f"{goal.statistic}_percent"] for row in rows]
        cells.append(", ".join(f"{e:.1f}" for e in errors) + " %")
        met = met and all(e <= limit for e, limit in zip(errors, goal.limits, strict=True))
    first = next(iter(found.values()))[0]
    covered, name, asked = first["coverage_percent"], goal.name, ", ".join(f"{limit:g}" for limit in goal.limits) + " %"
    if goal.coverage is not None or covered < 99.5:
        name += f"; coverage {covered:.0f} %"
        asked += f"; {goal.coverage:g} %" if goal.coverage is not None else ""
        met = met and covered >= (goal.coverage or 0.0)
    return f"| {goal.data} | {name} | {first['rows']:,} | {' | '.join(cells)} | {asked} | {'met' if met else 'missed'} |"
