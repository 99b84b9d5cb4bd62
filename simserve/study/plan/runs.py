"""The simulations of a plan search: each plan at a fraction of the requests, on a seed, once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from simserve.config.experiment import Experiment
from simserve.errors import SimserveError
from simserve.progress.study import Progress, Step
from simserve.study.backends import execute
from simserve.study.base import Base, with_seed
from simserve.study.cache import Row, RunCache, run_key
from simserve.study.plan.belief import Believed, believed, from_belief
from simserve.study.plan.offered import Offered, shortened
from simserve.study.plan.space import Plan
from simserve.study.quantities import Quantity
from simserve.study.task import Task
from simserve.uncertainty.belief import Belief


@dataclass(frozen=True, slots=True)
class Execution:
    """Where the runs are computed, as of sweeps: `backend` with `jobs` workers, or a cluster at `address`; `out` keeps finished runs."""

    backend: str = "joblib"
    jobs: int | None = None
    address: str | None = None
    out: Path | None = None
    resume: bool = False
    force: bool = False


class Wanted(NamedTuple):
    """One run: a plan, the fraction of the requests, the seed."""

    plan: Plan
    fraction: float
    seed: int


class Found(NamedTuple):
    """Its figures, or the error that ended it."""

    values: Row
    error: str | None


@dataclass
class Runs:
    """Computes runs and counts what they cost. A run that lies in the cache costs nothing, and is counted as it would be without."""

    base: Base
    experiment: Experiment
    load: Offered
    quantities: tuple[Quantity, ...]
    execution: Execution
    cache: RunCache | None = None
    progress: Progress | None = None
    done: int = 0
    requests: int = 0
    most_work: float = 0.0
    """Runs of all requests that the search makes at most; a shorter one counts as its part."""
    _work: float = 0.0
    _start_s: float = field(default_factory=time.monotonic)
    _known: dict[tuple[str, float, int], Found] = field(default_factory=dict)
    _beliefs: dict[tuple[str, float, int], Belief] = field(default_factory=dict)

    def of(self, wanted: Sequence[Wanted], believe: bool = False) -> list[Found]:
        """The runs, in the order in which they were asked for. `believe`: they also say how far to believe them (`belief`)."""
        new = list(dict.fromkeys(one for one in wanted if _key(one) not in self._known))
        keys: dict[int, str] = {}
        tasks = []
        for number, one in enumerate(new):
            try:
                experiment = self.placed(one)
            except SimserveError as error:
                self._put(one, Found({}, str(error)))
                continue
            if self.cache is not None:
                keys[number] = run_key(experiment)
                row = self.cache.get(keys[number], [q.column for q in self.quantities])
                if row is not None:
                    self._put(one, Found(row, None))
                    continue
            tasks.append(Task(number, experiment, self.quantities, believe))
        how = self.execution
        for outcome in execute(tasks, len(tasks), how.backend, how.jobs, how.address) if tasks else ():
            if self.cache is not None and outcome.values is not None:
                self.cache.put(keys[outcome.number], outcome.values)
            if outcome.belief is not None:
                self._beliefs[_key(new[outcome.number])] = outcome.belief
            self._put(new[outcome.number], Found(outcome.values or {}, outcome.error))
        return [self._known[_key(one)] for one in wanted]

    def belief(self, one: Wanted) -> Believed:
        """How far to believe a run; one that was found in the cache, or not asked for with `believe`, is made once more for it."""
        found = self._beliefs.get(_key(one))
        return believed(self.placed(one)) if found is None else from_belief(found)

    def rejections(self, one: Wanted) -> str:
        """Why the requests of a run are rejected, in the words of its summary. Rows of studies hold figures only, so it is run again."""
        from simserve.simulation import simulated

        reasons: dict[str, int] = simulated(self.placed(one)).summary_dict()["requests"]["reasons"]["rejected"]
        return ", ".join(reasons)

    def placed(self, one: Wanted) -> Experiment:
        """The experiment of a run. Raises ConfigError."""
        changes = one.plan.changes(self.experiment) | shortened(self.experiment, self.load, one.fraction)
        return with_seed(self.base.load(changes), one.seed)

    def _put(self, one: Wanted, found: Found) -> None:
        """Keeps a run and counts it, and its requests where it ran to the end."""
        self._known[_key(one)] = found
        self.done += 1
        if found.error is None:
            self.requests += math.ceil(one.fraction * self.load.requests)
        self._work += one.fraction
        if self.progress is not None:
            pace_s = (time.monotonic() - self._start_s) / self._work
            eta_s = pace_s * max(0.0, self.most_work - self._work) if self._work >= 1 else None  # the first short run mostly starts workers
            total = max(math.ceil(self.most_work), math.ceil(self._work))
            self.progress(Step("runs of plans, at most", math.floor(self._work), total, 0, eta_s))


def _key(one: Wanted) -> tuple[str, float, int]:
    return f"{one.plan.family.hardware} {one.plan.name}", one.fraction, one.seed
