"""The experiment that a study changes: loaded again for each set of changes, so that every rule of the language holds at every point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simserve.config import experiment as experiments
from simserve.config.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Base:
    """`source` as `simserve.load` takes it; `changes` hold at every point and give way to those of a point."""

    source: str | Path | Mapping[str, Any]
    base_dir: Path | None = None
    changes: tuple[tuple[str, Any], ...] = ()

    def load(self, changes: Mapping[str, Any] | None = None) -> Experiment:
        """The experiment with these changes. Raises ConfigError."""
        return experiments.load(self.source, {**dict(self.changes), **(changes or {})}, base_dir=self.base_dir)


def base(
    source: Experiment | str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None, base_dir: Path | None = None
) -> Base:
    """A base from anything `simserve.run` takes. Relative paths start in `base_dir`, or where they started for the experiment itself."""
    fixed = tuple((changes or {}).items())
    if isinstance(source, Experiment):
        data = {**source.document.data, "name": source.name, "seed": source.spec.seed}
        return Base(data, source.base_dir, fixed)
    return Base(source, base_dir, fixed)


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment with another seed: a replicate. Equal seeds give equal workloads at every point (common random numbers)."""
    return replace(experiment, spec=experiment.spec.model_copy(update={"seed": seed}))
