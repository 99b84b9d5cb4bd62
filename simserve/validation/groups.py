"""Errors grouped as people ask for them: by data set, engine, device, model and metric. Rows without a prediction are counted too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simserve.validation.evaluate import Outcome

_RATE_METRICS = frozenset({"total_tokens_per_s"})
"""Metrics that say the same as another one of their rows; they are left out of the list of worst rows."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A prediction far off, with what is known about why."""

    label: str
    dataset: str
    metric: str
    measured: float
    predicted: float
    error_percent: float
    reason: str


def error_groups(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """One entry for each (dataset, engine, gpu, model, metric): rows, skipped, mape_percent, median_percent.

    `rows` have a prediction, `skipped` were measured but have none; median_percent is the median of the absolute errors. Both errors
    are None where nothing was predicted.
    """
    errors: dict[tuple[str, ...], list[float]] = {}
    counts: dict[tuple[str, ...], list[int]] = {}
    for outcome in outcomes:
        case = outcome.case
        found = outcome.errors_percent()
        for metric in case.measured or {"none": 0.0}:
            key = (case.dataset, f"{case.engine} {case.version}".strip(), case.gpu, case.model, metric)
            count = counts.setdefault(key, [0, 0])
            if metric in found:
                count[0] += case.rows
                errors.setdefault(key, []).extend([abs(found[metric])] * case.rows)
            else:
                count[1] += case.rows
    return [
        {
            "dataset": key[0],
            "engine": key[1],
            "gpu": key[2],
            "model": key[3],
            "metric": key[4],
            "rows": rows,
            "skipped": skipped,
            "mape_percent": round(float(np.mean(errors[key])), 3) if key in errors else None,
            "median_percent": round(float(np.median(errors[key])), 3) if key in errors else None,
        }
        for key, (rows, skipped) in sorted(counts.items())
    ]


def skipped_reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Rows without a prediction, by reason, most first."""
    reasons: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.skip:
            reasons[outcome.skip] += outcome.case.rows
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def dataset_table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Coverage, mean and median error of each data set and metric; every row weighs the same."""
    table = []
    for dataset in sorted({o.case.dataset for o in outcomes}):
        own = [o for o in outcomes if o.case.dataset == dataset]
        rows = sum(o.case.rows for o in own)
        covered = sum(o.case.rows for o in own if not o.skip)
        metrics = sorted({m for o in own for m in o.case.measured})
        for metric in metrics:
            found = [abs(e[metric]) for o in own for e in [o.errors_percent()] if metric in e for _ in range(o.case.rows)]
            signed = [e[metric] for o in own for e in [o.errors_percent()] if metric in e for _ in range(o.case.rows)]
            table.append(
                {
                    "dataset": dataset,
                    "metric": metric,
                    "rows": len(found),
                    "coverage_percent": 100.0 * covered / rows,
                    "mape_percent": float(np.mean(found)) if found else None,
                    "median_percent": float(np.median(found)) if found else None,
                    "bias_percent": float(np.median(signed)) if signed else None,
                }
            )
    return table


def worst_rows(outcomes: Iterable[Outcome], count: int = 10) -> list[Worst]:
    """The predictions furthest off (by ratio, so too low counts like too high), at most one of a row."""
    found = []
    for outcome in outcomes:
        errors = {m: e for m, e in outcome.errors_percent().items() if m not in _RATE_METRICS}
        if not errors:
            continue
        metric = max(errors, key=lambda m: abs(np.log(max(outcome.predicted[m], 1e-9) / outcome.case.measured[m])))
        case = outcome.case
        found.append(
            Worst(
                case.label, case.dataset, metric, case.measured[metric], outcome.predicted[metric], errors[metric], _reason(outcome, metric)
            )
        )
    return sorted(found, key=lambda w: -abs(float(np.log(max(w.predicted, 1e-9) / w.measured))))[:count]


def _reason(outcome: Outcome, metric: str) -> str:
    """What the row's other metrics say about a miss."""
    errors = outcome.errors_percent()
    if metric.startswith("ttft"):
        step = errors.get("tpot_mean")
        if step is not None and abs(step) < 15:
            return "steps are right, waiting is not: queueing or client start-up"
        return "waiting follows from the steps being off" if step is not None else "time to first token alone"
    if metric.startswith(("tpot", "decode")):
        return "step time: kernels or host"
    return "throughput or total time: step time, batch size or KV cache capacity"
