"""Money in predicates: asked for, so every device needs a price."""

from __future__ import annotations

from simserve.config.experiment import Experiment
from simserve.study.predicate import Predicate


def refuse_unpriced(experiment: Experiment, predicate: Predicate) -> None:
    """Raises ConfigError where a predicate tests money and a device of the experiment has no price: it could never hold."""
    if any(quantity.name.startswith("usd.") for quantity in predicate.quantities):
        experiment.rates(required=True)
