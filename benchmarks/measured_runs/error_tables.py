"""The tables of the documentation on measured runs, and `simserve/validation/accuracy.yaml`, from outcomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from simserve.model import load_model
from simserve.validation.evaluate import Outcome
from simserve.validation.groups import dataset_table

_NO_TAILS = ("ttft_mean", "ttft_median", "tpot_mean", "tpot_median", "e2e_mean", "makespan", "output_tokens_per_s", "latency_sum")
_PHASES = ("prompt_phase", "decode_step", "ttft_batch")
_FIRST, _NEXT, _WHOLE = (
    ("ttft_mean", "ttft_median", "ttft_batch", "prompt_phase"),
    ("tpot_mean", "tpot_median", "decode_step"),
    ("e2e_mean",),
)
_RATE = ("output_tokens_per_s", "makespan", "latency_sum", "tokens_per_s_per_device")
_COLUMNS = (("first token", _FIRST), ("time per token", _NEXT), ("E2E", _WHOLE), ("throughput or time of the whole run", _RATE))


def one_table(outcomes: Sequence[Outcome]) -> str:
    """Every data set in a line: rows with a prediction of all, and for each kind of metric the median and the mean error."""
    table = dataset_table(list(outcomes))
    lines = [f"| data set | rows | {' | '.join(name for name, _ in _COLUMNS)} |", f"|---|--:|{'--:|' * len(_COLUMNS)}"]
    for dataset in sorted({o.case.dataset for o in outcomes}):
        own = [o for o in outcomes if o.case.dataset == dataset]
        rows, predicted = sum(o.case.rows for o in own), sum(o.case.rows for o in own if o.predicted)
        found = {r["metric"]: r for r in table if r["dataset"] == dataset and r["rows"]}
        cells = []
        for _, metrics in _COLUMNS:
            first = next((found[m] for m in metrics if m in found), None)
            cells.append("–" if first is None else f"{first['median_percent']:.0f} / {first['mape_percent']:.0f} %")
        lines.append(f"| {dataset} | {predicted:,} of {rows:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def groupings_table(without: Mapping[str, Sequence[Outcome]]) -> str:
    """Median and mean error of each data set and metric, by what was left out."""
    named = {grouping: {(r["dataset"], r["metric"]): r for r in dataset_table(list(o))} for grouping, o in without.items()}
    lines = [
        f"| data set | metric | rows | {' | '.join(f'{g}: median, MAPE, bias %' for g in named)} |",
        f"|---|---|--:|{'--:|' * len(named)}",
    ]
    for key, row in next(iter(named.values())).items():
        if row["rows"] and not _left_from_tables(key[1]):
            cells = []
            for found in named.values():
                r = found[key]
                cells.append("–" if not r["rows"] else f"{r['median_percent']:.1f}, {r['mape_percent']:.1f}, {r['bias_percent']:+.1f}")
            lines.append(f"| {key[0]} | {key[1]} | {row['rows']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def dataset_lines(outcomes: Sequence[Outcome]) -> str:
    """Coverage and errors of each data set and metric."""
    lines = ["| data set | metric | rows | coverage % | median % | MAPE % | bias % |", "|---|---|---:|---:|---:|---:|---:|"]
    for r in dataset_table(list(outcomes)):
        if r["rows"] and not _left_from_tables(r["metric"]):
            lines.append(
                f"| {r['dataset']} | {r['metric']} | {r['rows']:,} | {r['coverage_percent']:.0f}"
                f" | {r['median_percent']:.1f} | {r['mape_percent']:.1f} | {r['bias_percent']:+.1f} |"
            )
    return "\n".join(lines) + "\n"


def group_lines(outcomes: Sequence[Outcome]) -> str:
    """Median errors of each engine profile, device and model."""
    lines = ["| engine profile | device | model | median error %, metric (rows) |", "|---|---|---|---|"]
    for (engine, gpu, model), metrics in sorted(_errors(outcomes).items()):
        cells = ", ".join(f"{m} {np.median(e):.1f} ({len(e)})" for m, e in metrics.items() if m in (*_NO_TAILS, *_PHASES))
        lines.append(f"| {engine} | {gpu} | {model} | {cells} |")
    return "\n".join(lines) + "\n"


def accuracy_document(outcomes: Sequence[Outcome]) -> str:
    """The errors that ship with every result, by engine profile, device and model: on runs of a model that no overhead was learned from."""
    datasets: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    weights: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for o in outcomes:
        if o.predicted:
            datasets[_key(o)].add(o.case.dataset)
            weights[_key(o)].add(load_model(o.case.model, quantisation=o.case.quantisation).quantisation.name)
    combinations = []
    for key, metrics in sorted(_errors(outcomes).items()):
        if metrics:
            combinations.append(
                {
                    "engine": key[0],
                    "hardware": key[1],
                    "model": key[2],
                    "held_out": True,
                    "rows": max(len(e) for e in metrics.values()),
                    "datasets": sorted(datasets[key]),
                    "weights": sorted(weights[key]),
                    "metrics": {
                        m: {"rows": len(e), "mape_percent": round(float(np.mean(e)), 1), "median_percent": round(float(np.median(e)), 1)}
                        for m, e in sorted(metrics.items())
                    },
                }
            )
    note = (
        "# Errors on measured runs, written by python -m benchmarks.measured_runs report: of each model, with overheads that were learned\n"
        "# without it.\n"
    )
    return note + yaml.safe_dump({"combinations": combinations}, sort_keys=False, default_flow_style=None, width=150)


def _left_from_tables(metric: str) -> bool:
    """Metrics that say the same as others of their rows."""
    return metric.endswith("p90") or metric == "total_tokens_per_s"


def _errors(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for metric, error in outcome.errors_percent().items():
            found[_key(outcome)][metric] += [abs(error)] * outcome.case.rows
    return found


def _key(outcome: Outcome) -> tuple[str, str, str]:
    case = outcome.case
    return case.profile, case.gpu, load_model(case.model).name
