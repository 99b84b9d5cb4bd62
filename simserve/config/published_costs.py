"""The cost model of an experiment whose step times come from published coefficients instead of kernel models."""

from __future__ import annotations

import functools
from pathlib import Path

from simserve.config.experiment import Experiment
from simserve.config.paths import coefficients_file, coefficients_reference
from simserve.cost import coefficients
from simserve.cost.coefficients import Coefficients
from simserve.cost.polynomial import PolynomialCost
from simserve.errors import ConfigError
from simserve.hardware import HardwareProfile
from simserve.model import ModelArchitecture, Parallel


@functools.lru_cache(maxsize=8)
def _read(path: Path, modified_ns: int) -> Coefficients:
    """A file, read once in a process while it stays the same."""
    return coefficients.read(path)


def polynomial_cost(
    experiment: Experiment, model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, kv_dtype_bytes: float
) -> PolynomialCost:
    """The cost model of instances laid out so. Raises ConfigError or ModelError for what the coefficients do not cover."""
    section = experiment.spec.model_section
    assert experiment.spec.cost is not None
    if section.quantisation is not None or not section.options.is_plain:
        raise ConfigError("cost.polynomial: the coefficients are of the model as measured; quantisation and options do not apply to them")
    reference = coefficients_reference(experiment.spec.cost.polynomial, experiment.base_dir)
    path = coefficients_file(reference)
    known = _read(path, path.stat().st_mtime_ns)
    return PolynomialCost(model, profile, parallel, known, name=path.stem, kv_dtype_bytes=kv_dtype_bytes)
