"""`simserve.sweep`: an experiment over many values of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.progress.study import Meter, Progress, shown
from simserve.study.backends import execute, starting
from simserve.study.base import VARIANT, Base, base
from simserve.study.folder import opened, other_versions_note
from simserve.study.prepare import Plan, prepare, seeds_from
from simserve.study.sweep import file as sweep_file
from simserve.study.sweep.axes import Axis, Values, axis
from simserve.study.sweep.design import DEFAULT_LIMIT, Design, design, refuse_too_many
from simserve.study.sweep.result import SWEEP, SweepResult, frame
from simserve.study.sweep.table import Rows
from simserve.study.task import Task


class SweepSpec(NamedTuple):
    """What to run: the base at every point of the design, with every seed. More runs than `limit` are refused."""

    name: str
    base: Base
    design: Design
    seeds: tuple[int, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Execution:
    """Where and how the runs are computed.

    backend  joblib (processes on this machine), ray or dask
    jobs     worker processes; None = one for each core
    address  of a running Ray or Dask cluster; None = a local one
    out      directory of the sweep's files; None = nothing is written
    resume   continue the sweep that lies in `out`: runs that are there are not computed again
    """

    backend: str = "joblib"
    jobs: int | None = None
    address: str | None = None
    out: Path | None = None
    resume: bool = False


def sweep(
    source: Experiment | str | Path | Mapping[str, Any],
    /,
    over: Mapping[str, Any] | None = None,
    *,
    points: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None = None,
    method: str | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    seeds: Sequence[int] | None = None,
    replicates: int | None = None,
    limit: int | None = None,
    backend: str = "joblib",
    jobs: int | None = None,
    address: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | Progress = False,
) -> SweepResult:
    """Runs an experiment at every point of a design and returns one row of figures for each run.

    source      an experiment as `simserve.run` takes it, or a sweep file
    over        values by dotted key: a list, values by name, or a range {"low": 1, "high": 8, "steps": 4, "scale": "log"}
    points      instead: a list of points, each a mapping of keys; or such mappings by name
    method      "grid" (all combinations), or "random" or "latin-hypercube" with `sample` points drawn by `sample_seed`
    seeds       every point is run with each; or `replicates` from the experiment's own seed on. The same seed gives the same arrivals
                and lengths at every point (common random numbers).
    backend, jobs, address, out, resume   see `Execution`

    A point that fails is a row with its error. Raises ConfigError before anything runs for a key that does not exist, an empty design,
    or more runs than `limit`; OutputError when `out` holds something else.
    """
    spec = specify(
        source, over=over, points=points, method=method, sample=sample, sample_seed=sample_seed, seeds=seeds, replicates=replicates,
        limit=limit,
    )  # fmt: skip
    execution = Execution(backend, jobs, address, None if out is None else Path(out), resume)
    with shown(progress) as show:
        return run_sweep(spec, execution, show)


def specify(
    source: Experiment | str | Path | Mapping[str, Any],
    *,
    changes: Mapping[str, Any] | None = None,
    over: Mapping[str, Any] | None = None,
    axes: Sequence[Axis] = (),
    points: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None = None,
    method: str | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    seeds: Sequence[int] | None = None,
    replicates: int | None = None,
    limit: int | None = None,
) -> SweepSpec:
    """The sweep that a file and arguments describe; arguments go over the file's. Raises ConfigError."""
    document = sweep_file.document_of(source)
    new_axes = [*axes, *(axis(key, spec) for key, spec in (over or {}).items())]
    if document is None:
        origin = base(source, changes)
        chosen = design(new_axes, points, method or "grid", sample, sample_seed or 0)
        name = None
    else:
        written, origin, name = sweep_file.read(document)
        origin = replace(origin, changes=(*origin.changes, *(changes or {}).items()))
        replaced = {axis.key for axis in new_axes}
        old_axes = [axis(key, spec) for key, spec in written.over.items() if key not in replaced]
        listed = written.points if points is None else points
        chosen = design(
            [*old_axes, *new_axes], listed, method or written.method, sample if sample is not None else written.sample,
            sample_seed if sample_seed is not None else written.sample_seed,
        )  # fmt: skip
        limit = limit if limit is not None else written.limit
        if seeds is None and replicates is None:
            seeds, replicates = written.seeds, written.replicates
    chosen = _with_variants(chosen, origin)
    if not chosen.keys and seeds is None and replicates is None:
        raise ConfigError("nothing to sweep: give keys with values (over, --over key=a,b), points, or several seeds")
    bound = limit if limit is not None else DEFAULT_LIMIT
    refuse_too_many(chosen, len(seeds) if seeds is not None else replicates or 1, bound)
    # The base alone may lack what every point adds, so its first point says what the name and the first seed are.
    first = origin.load(next(iter(chosen)))
    if first.spec.workload is None:
        raise ConfigError(f"{first.name}: has probes and no workload, so there is nothing to simulate; `simserve run` answers its probes")
    return SweepSpec(name or first.name, origin, chosen, seeds_from(first.spec.seed, seeds, replicates), bound)


def _with_variants(chosen: Design, origin: Base) -> Design:
    """The design with every variant of the experiment at each point, unless the points or `set` choose among them. Raises ConfigError."""
    if origin.variant is None and VARIANT not in chosen.keys and origin.variants:
        chosen = replace(chosen, variants=tuple(origin.variants))
    named: list[Any] = [*chosen.variants, *([origin.variant] if origin.variant is not None else [])]
    named += [point[VARIANT] for point in chosen.points if VARIANT in point]
    named += [value for axis in chosen.axes if axis.key == VARIANT and isinstance(axis, Values) for value in axis.values]
    origin.refuse_hidden(dict.fromkeys(str(name) for name in named), [key for key in chosen.keys if key != VARIANT])
    return chosen


def run_sweep(spec: SweepSpec, execution: Execution, progress: Progress | None = None) -> SweepResult:
    """Runs what is not in the cache and puts the rows together. Raises ConfigError and OutputError as `sweep`."""
    cache = None if execution.out is None else opened(execution.out, "sweep", SWEEP, resume=execution.resume)
    runs = 0 if execution.resume else spec.design.count() * len(spec.seeds)  # a resumed sweep may have nothing left to do
    with starting(runs, execution.backend, execution.jobs):
        plan = prepare(spec.base, spec.design, spec.design.count(), spec.seeds, progress)
    notes = [] if cache is None else other_versions_note(cache)
    if plan.duplicates:
        called = f" ({', '.join(plan.left_out)})" if plan.left_out else ""
        notes.append(f"points left out because they equal another one: {plan.duplicates:,}{called}")
    rows = Rows(len(plan))
    missing = []
    for number, _, point, seed in plan.runs():
        found = cache.get(point.keys[seed]) if cache is not None and point.error is None else None
        if point.error is not None or found is not None:
            rows.put(number, found, point.error)
        else:
            missing.append(number)
    meter = Meter("runs", len(plan), progress, found=len(plan) - len(missing))
    for outcome in execute(_tasks(plan, missing), len(missing), execution.backend, execution.jobs, execution.address):
        rows.put(outcome.number, outcome.values, outcome.error)
        if cache is not None and outcome.values is not None:
            cache.put(plan.points[outcome.number // len(plan.seeds)].keys[outcome.number % len(plan.seeds)], outcome.values)
        meter.add(failed=outcome.error is not None)
    table = frame(plan, spec.design.keys, rows, {axis.key: axis.names for axis in spec.design.axes if isinstance(axis, Values)})
    if _seed_matters_not(plan, rows):
        notes.append("the seed changes nothing in this workload: the runs of a point are equal, and so tell nothing about chance")
    about = {"name": spec.name, "keys": list(spec.design.keys), "seeds": list(plan.seeds), "method": spec.design.method, "notes": notes}
    result = SweepResult(table, about)
    if execution.out is not None:
        result.write(execution.out)
    return result


def _tasks(plan: Plan, missing: Sequence[int]) -> Iterator[Task]:
    """Made when a worker is free. Neighbours share a point, so that a worker can use its cost tables again."""
    seeds = len(plan.seeds)
    for number in missing:
        yield Task(number, plan.points[number // seeds].experiment(plan.seeds[number % seeds]))


def _seed_matters_not(plan: Plan, rows: Rows) -> bool:
    """Whether all runs of each point are equal although their seeds differ (a replayed trace)."""
    import numpy as np

    seeds = len(plan.seeds)
    if seeds == 1 or not plan.points:
        return False
    columns = np.stack(list(rows.columns().values())).reshape(-1, len(plan.points), seeds)
    return bool(np.isfinite(columns).any()) and bool(np.all((columns == columns[:, :, :1]) | np.isnan(columns)))
