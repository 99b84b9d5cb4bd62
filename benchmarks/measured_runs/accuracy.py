"""`python -m benchmarks.measured_runs report`: how wrong the simulator is on measured runs, written down.

Every prediction is cached: an interrupted call goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measured_runs import error_tables as tables
from benchmarks.measured_runs.goals import goal_table, interval_goals
from benchmarks.measured_runs.intervals import Judged, coverage_table, label_table, learn_intervals, sentence
from benchmarks.measured_runs.learn import read_left_out
from benchmarks.measured_runs.lessons import is_held_out
from benchmarks.measured_runs.runs import ROOT, all_cases
from simserve.config.held_out import RECORD
from simserve.uncertainty.residuals import FILE as RESIDUALS
from simserve.validation.evaluate import Outcome, evaluate
from simserve.validation.groups import skipped_reasons, worst_rows
from simserve.validation.held_out import bundled_records
from simserve.validation.leave_out import left_out
from simserve.validation.prediction_cache import cache_folder
from simserve.validation.split import GROUPINGS

DOCUMENT = ROOT / "docs" / "serving-validation.md"
GOALS = ROOT / "docs" / "serving-accuracy.md"
README = ROOT / "README.md"
ACCURACY = ROOT / "simserve" / "validation" / "accuracy.yaml"
BEGIN, END = "<!-- begin: written by python -m benchmarks.measured_runs report -->", "<!-- end -->"


def report() -> None:
    """Predicts everything, with whole groups left out of the fits and with the profiles as they are, and writes the tables."""
    cases, unreadable = all_cases()
    learned = read_left_out()
    without = {}
    for grouping in GROUPINGS:
        told = _told(f"without the {grouping}")
        without[grouping] = left_out(cases, learned[grouping], grouping, cache=cache_folder(), progress=told)
    shipped = evaluate(cases, cache=cache_folder(), progress=_told("as shipped"))
    learned_intervals = learn_intervals(without["model"], shipped)
    RESIDUALS.write_text(learned_intervals.text, encoding="utf-8")
    goals = goal_table(without) + interval_goals(without["model"], learned_intervals.judged)
    _write(DOCUMENT, _pages(without["model"], without, shipped, unreadable, learned_intervals.judged))
    _write(GOALS, "\n" + goals + "\n")
    _write(README, "\n" + tables.one_table(without["model"]) + "\n" + sentence(learned_intervals.judged) + "\n\n")
    ACCURACY.write_text(tables.accuracy_document(without["model"]), encoding="utf-8")
    RECORD.write_text(bundled_records(without["model"], "each model, with overheads learned without it"), encoding="utf-8")
    print(goals)
    print(tables.one_table(without["model"]))


def _pages(
    judged: Sequence[Outcome],
    without: dict[str, list[Outcome]],
    shipped: Sequence[Outcome],
    unreadable: dict[str, str],
    intervals: Sequence[Judged],
) -> str:
    check = [outcome for outcome in shipped if is_held_out(outcome.case)]
    parts = ["\n## Whole groups left out of every fit\n", tables.groupings_table(without)]
    parts += ["\n## Measurements inside their intervals\n", sentence(intervals), "", coverage_table(intervals)]
    parts += ["\n", label_table(intervals)]
    parts += ["\n## Check part: runs kept from the fit, other lengths of the same models in it\n", tables.dataset_lines(check)]
    parts += ["\n## All runs, with the overheads as shipped\n", tables.dataset_lines(shipped)]
    parts += ["\n## By engine, device and model, the model left out\n", tables.group_lines(judged)]
    skips = skipped_reasons(shipped)
    parts += ["\n## Rows without a prediction\n", "\n".join(f"- {count:,}: {reason}" for reason, count in skips.items())]
    parts += [f"- table not read: {name}" for name in unreadable]
    parts += ["\n\n## Furthest off, the model left out\n"]
    parts += [
        f"- {w.label.strip()}: {w.metric} {w.predicted:.4g} predicted, {w.measured:.4g} measured ({w.error_percent:+.0f} %): {w.reason}"
        for w in worst_rows(judged, 15)
    ]
    return "\n".join([*parts, "\n"])


def _told(what: str) -> Callable[[int, int], None]:
    def say(done: int, total: int) -> None:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return say


def _write(page: Path, text: str) -> None:
    """Replaces what lies between the page's markers."""
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(head + BEGIN + "\n" + text + END + rest.split(END, 1)[1], encoding="utf-8")
