"""Step times from published coefficients instead of kernel models: which ones an experiment names."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simserve.config.experiment import Experiment
from simserve.config.paths import coefficients_file, coefficients_reference
from simserve.errors import ConfigError

if TYPE_CHECKING:
    from simserve.cost.coefficients import Coefficients


@functools.lru_cache(maxsize=8)
def _read(path: Path, modified_ns: int) -> Coefficients:
    """A file, read once in a process while it stays the same."""
    from simserve.cost import coefficients

    return coefficients.read(path)


class Published(NamedTuple):
    """Published coefficients and the name of their file."""

    name: str
    coefficients: Coefficients


def published(experiment: Experiment) -> Published | None:
    """The coefficients that an experiment takes its step times from; None where they are those of kernel models.

    Raises ConfigError for what coefficients do not cover.
    """
    if experiment.spec.cost is None or experiment.spec.cost.polynomial is None:
        return None
    section = experiment.spec.model_section
    if section.quantisation is not None or not section.options.is_plain:
        raise ConfigError("cost.polynomial: the coefficients are of the model as measured; quantisation and options do not apply to them")
    reference = coefficients_reference(experiment.spec.cost.polynomial, experiment.base_dir)
    path = coefficients_file(reference)
    return Published(path.stem, _read(path, path.stat().st_mtime_ns))
