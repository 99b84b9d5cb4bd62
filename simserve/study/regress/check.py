"""`simserve.regress`: does a suite still do as well as its recorded baselines?"""

from __future__ import annotations

from pathlib import Path

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.progress.study import Meter, Progress, shown
from simserve.study.backends import execute
from simserve.study.base import with_seed
from simserve.study.regress.baseline import Baseline, Figures, differences, refuse_other_stacks, stack_of
from simserve.study.regress.report import RegressReport
from simserve.study.regress.suite import Suite, load_suite
from simserve.study.regress.verdict import Row, judge
from simserve.study.task import Task
from simserve.version import __version__


def regress(
    suite: str | Path | Suite, /, *, update: bool = False, jobs: int | None = None, progress: bool | Progress = False
) -> RegressReport:
    """Runs a suite and holds it against its baselines.

    update  record the figures as the new baselines; the report then says what changed

    Raises ConfigError for a suite that makes no sense, and for baselines that are missing or of another model, hardware, workload or
    version (unless `update`).
    """
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    experiments = _load(loaded)
    stacks = {name: stack_of(experiment) for name, experiment in experiments.items()}
    baseline = Baseline.read(loaded.baseline)
    if not update:
        if baseline is None:
            raise ConfigError(f"{loaded.baseline}: no baselines yet; record them with --update")
        refuse_other_stacks(baseline, loaded.baseline, stacks, loaded.seeds)
    with shown(progress) as show:
        figures, errors = _measure(loaded, experiments, jobs, show)
    if update and errors:
        case, error = next(iter(errors.items()))
        raise ConfigError(f"{case}: {error}; no baseline was written")
    notes = []
    if baseline is not None:
        gone = sorted(set(baseline.figures) - set(experiments))
        if gone:
            notes.append(f"the baseline has cases that the suite does not: {', '.join(gone)}")
        if update:
            known = [case for case in stacks if case in baseline.stacks]
            notes += [f"{case}: recorded with {text}" for case in known for text in differences(baseline.stacks[case], stacks[case])]
            if baseline.version != __version__:
                notes.append(f"recorded with simserve {baseline.version}, now {__version__}")
    rows = tuple(_rows(loaded, baseline, figures))
    if update:
        Baseline(__version__, loaded.seeds, stacks, figures).write(loaded.baseline, loaded.name)
    new = tuple(case for case in figures if baseline is None or case not in baseline.figures)
    return RegressReport(loaded, rows, errors, new, tuple(notes), update)


def _load(suite: Suite) -> dict[str, Experiment]:
    experiments = {}
    for case in suite.cases:
        try:
            experiments[case.name] = case.base.load()
        except ConfigError as error:
            raise ConfigError(f"{suite.path}: case {case.name}: {error}") from None
    return experiments


def _measure(
    suite: Suite, experiments: dict[str, Experiment], jobs: int | None, progress: Progress | None
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Figures by case, and the errors of cases that could not be run. Never cached: what is on trial is the code."""
    wanted = tuple(kpi.quantity for kpi in suite.kpis)
    names, seeds = list(experiments), suite.seeds
    tasks = [
        Task(number * len(seeds) + place, with_seed(experiments[name], seed), wanted)
        for number, name in enumerate(names)
        for place, seed in enumerate(seeds)
    ]
    figures: dict[str, Figures] = {name: {q.text: [None] * len(seeds) for q in wanted} for name in names}
    errors: dict[str, str] = {}
    meter = Meter("runs", len(tasks), progress)
    for outcome in execute(tasks, len(tasks), jobs=jobs):
        name, place = names[outcome.number // len(seeds)], outcome.number % len(seeds)
        if outcome.values is None:
            errors[name] = f"seed {seeds[place]}: {outcome.error}"
        else:
            for quantity in wanted:
                figures[name][quantity.text][place] = outcome.values[quantity.column]
        meter.add(failed=outcome.values is None)
    return {name: figures[name] for name in names if name not in errors}, {name: errors[name] for name in names if name in errors}


def _rows(suite: Suite, baseline: Baseline | None, figures: dict[str, Figures]) -> list[Row]:
    rows: list[Row] = []
    for case, now in figures.items():
        recorded = baseline.figures.get(case) if baseline is not None else None
        if baseline is None or recorded is None:
            continue
        places = [baseline.seeds.index(seed) for seed in suite.seeds if seed in baseline.seeds]
        current = [suite.seeds.index(baseline.seeds[place]) for place in places]
        for kpi in suite.kpis:
            name = kpi.quantity.text
            if name in recorded and places:
                rows.append(judge(case, kpi, [recorded[name][p] for p in places], [now[name][p] for p in current], suite.strict))
    return rows
