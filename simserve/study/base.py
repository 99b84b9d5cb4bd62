"""The experiment that a study changes: loaded again for each set of changes, so that every rule of the language holds at every point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simserve.config import experiment as experiments
from simserve.config.experiment import Experiment
from simserve.config.paths import find_experiment
from simserve.errors import ConfigError, nearest
from simserve.files import yaml_text

VARIANT = "variant"
"""A key of studies, not of experiments: its value names one of the experiment's variants."""

LABEL = "label"
"""A key of studies too: its value names a point, and changes nothing in the experiment."""


@dataclass(frozen=True, slots=True)
class Base:
    """`source` as `simserve.load` takes it; `changes` hold at every point and give way to those of a variant, these to those of a point.

    variants   the experiment's own, as it is written: name -> changes
    """

    source: str | Path | Mapping[str, Any]
    base_dir: Path | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    variants: Mapping[str, Any] = field(default_factory=dict)
    _read: list[experiments.Source] = field(default_factory=list, repr=False, compare=False)
    """The source once it was read: a study of a thousand points reads it once."""

    def load(self, changes: Mapping[str, Any] | None = None) -> Experiment:
        """The experiment with these changes; `variant` among them stands for that variant's. Raises ConfigError."""
        fixed, point = dict(self.changes), dict(changes or {})
        point.pop(LABEL, None)
        name = point.pop(VARIANT, fixed.get(VARIANT))
        fixed.pop(VARIANT, None)
        chosen = {} if name is None else self._variant(name)
        # A key moves to where it was changed last: the order decides between a section and a key inside it.
        merged = {key: value for key, value in fixed.items() if key not in chosen and key not in point}
        merged |= {key: value for key, value in chosen.items() if key not in point}
        if not self._read:
            self._read.append(experiments.read(self.source, self.base_dir))
        return experiments.load(self._read[0], merged | point)

    @property
    def variant(self) -> str | None:
        """The variant that holds at every point, if one was chosen."""
        name = dict(self.changes).get(VARIANT)
        return None if name is None else str(name)

    def refuse_hidden(self, names: Iterable[Any], keys: Iterable[str]) -> None:
        """Raises ConfigError for a variant that does not exist, or a key of the points that would undo what such a variant changes."""
        for name in names:
            for theirs in self._variant(name):
                for key in keys:
                    if theirs == key or theirs.startswith(f"{key}."):
                        raise ConfigError(
                            f"over: {key} would undo what variant '{name}' changes ({theirs}); "
                            f"sweep other keys, or choose variants without it (--over {VARIANT}=...)"
                        )

    def _variant(self, name: Any) -> Mapping[str, Any]:
        if not self.variants:
            raise ConfigError(f"{VARIANT}={name}: the experiment has no variants")
        if str(name) not in self.variants:
            raise ConfigError(f"{VARIANT}: the experiment has no variant '{name}'{nearest(str(name), self.variants)}")
        found = self.variants[str(name)]
        return found if isinstance(found, Mapping) else {}  # written wrongly: loading says where


def base(
    source: Experiment | str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None, base_dir: Path | None = None
) -> Base:
    """A base from anything `simserve.run` takes. Relative paths start in `base_dir`, or where they started for the experiment itself."""
    fixed = tuple((changes or {}).items())
    if isinstance(source, Experiment):
        data = {**source.document.data, "name": source.name, "seed": source.spec.seed}
        return Base(data, source.base_dir, fixed, source.spec.variants)
    written = source if isinstance(source, Mapping) else yaml_text.read(find_experiment(source)).data
    variants = written.get("variants")
    return Base(source, base_dir, fixed, variants if isinstance(variants, Mapping) else {})


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment with another seed: a replicate. Equal seeds give equal workloads at every point (common random numbers)."""
    return replace(experiment, spec=experiment.spec.model_copy(update={"seed": seed}))
