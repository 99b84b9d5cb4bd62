"""Every run of a study loaded and checked before the first one starts."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError, SimserveError
from simserve.progress.study import Meter, Progress
from simserve.study.base import LABEL, Base, with_seed
from simserve.study.cache import run_key


@dataclass(slots=True)
class Planned:
    """The runs of one point, one for each seed. `error` instead of `packed` and `keys` where the point makes no sense.

    packed  the experiment, small: a hundred thousand points are waiting in memory
    keys    of the run with each seed in the cache
    """

    changes: Mapping[str, Any]
    packed: bytes = b""
    keys: tuple[str, ...] = ()
    error: str | None = None

    def experiment(self, seed: int) -> Experiment:
        """The experiment of the run with this seed."""
        experiment: Experiment = pickle.loads(zlib.decompress(self.packed))
        return with_seed(experiment, seed)


@dataclass(slots=True)
class Plan:
    """All points of a study with their seeds, equal points left out: how many, and what those of them that have a name are called."""

    points: list[Planned] = field(default_factory=list)
    seeds: tuple[int, ...] = (0,)
    duplicates: int = 0
    left_out: list[str] = field(default_factory=list)

    def runs(self) -> Iterator[tuple[int, int, Planned, int]]:
        """(number of the run, number of the point, point, place of the seed)."""
        number = 0
        for place, point in enumerate(self.points):
            for seed in range(len(self.seeds)):
                yield number, place, point, seed
                number += 1

    def __len__(self) -> int:
        """Runs."""
        return len(self.points) * len(self.seeds)


def prepare(base: Base, points: Iterable[Mapping[str, Any]], count: int, seeds: Sequence[int], progress: Progress | None = None) -> Plan:
    """Loads every point. A point that cannot be is kept with its error: in a grid of policies and parameters some combinations are.

    Raises ConfigError when a key never works (it is misspelt), or no point does.
    """
    plan = Plan(seeds=tuple(seeds))
    meter = Meter("points checked", count, progress)
    seen: set[str] = set()
    works: set[str] = set()
    first_error: dict[str, SimserveError] = {}
    for changes in points:
        try:
            experiment = base.load(changes)
            keys = tuple(run_key(with_seed(experiment, seed)) for seed in seeds)
        except SimserveError as error:
            for key in changes:
                first_error.setdefault(key, error)
            first_error.setdefault("", error)
            plan.points.append(Planned(changes, error=str(error)))
            meter.add(failed=True)
            continue
        works.update(changes)
        meter.add()
        if keys[0] in seen:
            plan.duplicates += 1
            if LABEL in changes:
                plan.left_out.append(str(changes[LABEL]))
            continue
        seen.add(keys[0])
        plan.points.append(Planned(changes, zlib.compress(pickle.dumps(experiment), 1), keys))
    for key, problem in first_error.items():
        if key and key not in works:
            raise ConfigError(str(problem)) from problem
    if not seen and first_error:
        raise ConfigError(str(first_error[""])) from first_error[""]
    return plan


def seeds_from(first: int, seeds: Sequence[int] | None, replicates: int | None) -> tuple[int, ...]:
    """The seeds of a study: those listed, or `replicates` in a row from the experiment's own. Raises ConfigError."""
    if seeds is not None and replicates is not None:
        raise ConfigError("give either 'seeds' or 'replicates', not both")
    if seeds is not None:
        if not seeds:
            raise ConfigError("seeds: an empty list; a study needs at least one seed")
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"seeds: {', '.join(str(s) for s in seeds)}: a seed is given twice; equal seeds give equal runs")
        if min(seeds) < 0:
            raise ConfigError(f"seeds: found {min(seeds)}, expected whole numbers >= 0")
        return tuple(seeds)
    if replicates is not None and replicates < 1:
        raise ConfigError(f"replicates: found {replicates}, expected at least 1")
    return tuple(range(first, first + (replicates or 1)))
