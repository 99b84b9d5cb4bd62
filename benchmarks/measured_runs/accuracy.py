"""Learns the bundled engine profiles' overheads from measured runs and writes down how wrong the simulator is on them.

Needs the measurements in ../shared/serving_measurements.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.measured_runs import TABLES
from benchmarks.measured_runs.goals import goal_table
from benchmarks.measured_runs.lessons import LESSONS, cases_for, is_held_out
from simserve.config import engine_profile
from simserve.config.held_out import RECORD
from simserve.errors import SimserveError
from simserve.model import load_model
from simserve.validation.engine_file import with_overheads
from simserve.validation.evaluate import Outcome
from simserve.validation.fit import fit_overheads
from simserve.validation.groups import dataset_table, skipped_reasons, worst_rows
from simserve.validation.held_out import bundled_records
from simserve.validation.prediction_cache import cache_folder
from simserve.validation.readers import read_directory
from simserve.validation.validate import validate_serving

ROOT = Path(__file__).parents[2]
MEASUREMENTS = ROOT.parent / "shared" / "serving_measurements"
DOCUMENT = ROOT / "docs" / "serving-validation.md"
GOALS = ROOT / "docs" / "serving-accuracy.md"
ACCURACY = ROOT / "simserve" / "validation" / "accuracy.yaml"
BEGIN, END = "<!-- begin: written by python -m benchmarks.measured_runs report -->", "<!-- end -->"
NO_TAILS = ("ttft_mean", "tpot_mean", "e2e_mean", "makespan", "output_tokens_per_s", "latency_sum", "prompt_phase", "decode_step")


def fit(wanted: list[str]) -> None:
    """Learns and writes the profiles named, or all."""
    cases = read_directory(MEASUREMENTS, readers=TABLES)
    for lesson in LESSONS:
        if wanted and lesson.profile not in wanted:
            continue
        try:
            result = fit_overheads(
                cases_for(lesson, cases),
                parameters=lesson.parameters,
                most_cases=lesson.most_cases,
                progress=lambda line: print(line, file=sys.stderr),
            )
        except SimserveError as problem:
            print(f"{lesson.profile}: {problem}")
            continue
        path = engine_profile.find(lesson.profile)
        data = ", ".join(lesson.datasets) or "all data sets of this engine"
        after = ", ".join(f"{metric} {error:.1f} %" for metric, error in result.after_percent.items())
        part = "its only run" if lesson.check_too else "the fit part"
        note = f"least squares on {result.rows} rows of {result.runs} runs ({part} of {data}); median error there - {after}"
        path.write_text(with_overheads(path.read_text(encoding="utf-8"), result.overheads, note), encoding="utf-8")
        print(
            lesson.profile,
            {name: float(f"{value:.3g}") for name, value in result.values.items()},
            "before",
            result.before_percent,
            "after",
            result.after_percent,
        )


def report() -> None:
    """Predicts everything and writes the tables."""
    result = validate_serving(
        MEASUREMENTS, readers=TABLES, cache=cache_folder(), progress=lambda done, total: print(f"{done} of {total}", file=sys.stderr)
    )
    outcomes = result.outcomes
    check = [o for o in outcomes if is_held_out(o.case)]
    parts = [
        "\n## Check part: runs kept from the fit\n",
        _dataset_lines(check),
        "\n## All runs\n",
        _dataset_lines(outcomes),
        "\n## Check part by engine, device and model\n",
        _group_lines(check),
        "\n## Rows without a prediction (all runs)\n",
        "\n".join(f"- {count:,}: {reason}" for reason, count in skipped_reasons(outcomes).items()),
        "\n\n## Furthest off (check part)\n",
        "\n".join(
            f"- {w.label.strip()}: {w.metric} {w.predicted:.4g} predicted, {w.measured:.4g} measured ({w.error_percent:+.0f} %): {w.reason}"
            for w in worst_rows(check, 15)
        ),
        "\n",
    ]
    _write(DOCUMENT, "\n".join(parts))
    _write(GOALS, "\n" + goal_table(outcomes) + "\n")
    ACCURACY.write_text(_accuracy(outcomes), encoding="utf-8")
    RECORD.write_text(bundled_records(check, "40 % of whole runs, by a hash of their names"), encoding="utf-8")
    print(_dataset_lines(check))
    print(_dataset_lines(outcomes))


def _told(done: int, total: int) -> None:
    print(f"{done} of {total}", file=sys.stderr)


def _write(page: Path, text: str) -> None:
    """Replaces what lies between the page's markers."""
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(head + BEGIN + "\n" + text + END + rest.split(END, 1)[1], encoding="utf-8")


def _dataset_lines(outcomes: Any) -> str:
    lines = ["| data set | metric | rows | coverage % | median % | MAPE % | bias % |", "|---|---|---:|---:|---:|---:|---:|"]
    for r in dataset_table(list(outcomes)):
        if r["rows"] and not r["metric"].endswith(("p90", "median")) and r["metric"] != "total_tokens_per_s":
            lines.append(
                f"| {r['dataset']} | {r['metric']} | {r['rows']:,} | {r['coverage_percent']:.0f}"
                f" | {r['median_percent']:.1f} | {r['mape_percent']:.1f} | {r['bias_percent']:+.1f} |"
            )
    return "\n".join(lines) + "\n"


def _errors(outcomes: list[Outcome]) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    found: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for metric, error in outcome.errors_percent().items():
            case = outcome.case
            found[(case.profile, case.gpu, load_model(case.model).name)][metric] += [abs(error)] * case.rows
    return found


def _group_lines(outcomes: list[Outcome]) -> str:
    lines = ["| engine profile | device | model | median error %, metric (rows) |", "|---|---|---|---|"]
    for (engine, gpu, model), metrics in sorted(_errors(outcomes).items()):
        cells = ", ".join(f"{m} {np.median(e):.1f} ({len(e)})" for m, e in metrics.items() if m in NO_TAILS)
        lines.append(f"| {engine} | {gpu} | {model} | {cells} |")
    return "\n".join(lines) + "\n"


def _accuracy(outcomes: Any) -> str:
    check, every = _errors([o for o in outcomes if is_held_out(o.case)]), _errors(list(outcomes))
    datasets: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for o in outcomes:
        if o.predicted:
            datasets[(o.case.profile, o.case.gpu, load_model(o.case.model).name)].add(o.case.dataset)
    combinations = []
    for key in sorted(every):
        metrics = check.get(key) or every[key]
        combinations.append(
            {
                "engine": key[0],
                "hardware": key[1],
                "model": key[2],
                "held_out": key in check,
                "rows": max(len(e) for e in metrics.values()),
                "datasets": sorted(datasets[key]),
                "metrics": {
                    m: {"rows": len(e), "mape_percent": round(float(np.mean(e)), 1), "median_percent": round(float(np.median(e)), 1)}
                    for m, e in sorted(metrics.items())
                },
            }
        )
    note = (
        "# Errors on measured runs, written by python -m benchmarks.measured_runs report. held_out: on runs no overhead was learned from.\n"
    )
    return note + yaml.safe_dump({"combinations": combinations}, sort_keys=False, default_flow_style=None, width=150)
