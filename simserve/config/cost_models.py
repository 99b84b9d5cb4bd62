"""Cost models of installed packages: what an experiment says of one under `cost`, and the model itself, around the one that it changes.

An entry point of the group `simserve.cost_models` is a class made by `Mine(inner)`, or, where it has `Params`, by `Mine(inner, params)`;
`inner` is the cost model that the experiment would have without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from simserve import hints, plugins
from simserve.config.cost_section import CostSection
from simserve.config.instances import Setting, policy_params
from simserve.contracts import CostModel, CostWrapper, PolicyParams, Step
from simserve.errors import ConfigError, PolicyError, SimserveError, nearest
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.words import clipped, shown
from simserve.files.yaml_text import Document

GROUP = "simserve.cost_models"

_OWN_KEYS = frozenset(CostSection.model_fields)


@dataclass(frozen=True, slots=True)
class CostChoice:
    """A cost model by name, with its parameters (None where it takes none)."""

    name: str
    params: PolicyParams | None = None

    def resolved(self) -> dict[str, Any]:
        """As keys of an experiment's `cost`."""
        return {"model": self.name, **({} if self.params is None else self.params.model_dump(mode="json"))}

    def around(self, inner: CostModel) -> CostModel:
        """The cost model, each of its answers looked at. Raises ConfigError where it cannot be made."""
        words, made_by = plugins.found(GROUP)[self.name].words, cost_class(self.name)
        try:
            made = made_by(inner) if self.params is None else made_by(inner, self.params)
        except SimserveError:
            raise
        except Exception as problem:
            raise ConfigError(f"{words} cannot be made: {type(problem).__name__}: {clipped(str(problem), 200)}") from problem
        return _Checked(made, words)


@cache
def names() -> list[str]:
    """Names that `cost.model` may have."""
    return list(plugins.found(GROUP))


@lru_cache(maxsize=64)
def cost_class(name: str) -> Any:
    """The class of that name. Raises ConfigError, which names the package, where it is no cost model."""
    plugin = plugins.found(GROUP)[name]
    found = plugin.load()
    if not (isinstance(found, type) and CostModel in found.__mro__):
        raise ConfigError(f"{plugin.words}: it must be a class derived from simserve.contracts.CostWrapper or CostModel")
    params = getattr(found, "Params", None)
    if params is not None and not (isinstance(params, type) and issubclass(params, PolicyParams)):
        raise ConfigError(f"{plugin.words}: its Params must be a subclass of simserve.contracts.PolicyParams")
    return found


def complete(document: Document) -> tuple[CostChoice | None, list[Mistake]]:
    """The cost model that `cost` names, or the mistakes in what only it can judge."""
    section = document.data.get("cost")
    if not isinstance(section, Mapping):
        return None, []  # the schema's own complaint says what else it is
    name = section.get("model")
    further = {key: Setting(value, ("cost", key)) for key, value in section.items() if key not in _OWN_KEYS}
    if name is None:
        text = "unknown key '{}': it would be a parameter of the cost model, and `cost.model` names none{}"
        return None, [
            messages.at(document, ("cost", key), text.format(clipped(str(key)), hints.unknown_key(str(key), _OWN_KEYS, "cost")))
            for key in further
        ]
    if name not in names():
        found = f"'{clipped(name)}'" if isinstance(name, str) else shown(name)
        other = nearest(str(name), names()) if names() else "; no installed package has one (entry points simserve.cost_models)"
        return None, [messages.at(document, ("cost", "model"), f"unknown cost model {found}{other}")]
    params_class = getattr(cost_class(name), "Params", None)
    if params_class is None:
        text = f"cost model {name} takes no parameters"
        return CostChoice(name), [messages.at(document, ("cost", key), text) for key in further]
    params, mistakes = policy_params(name, params_class, further, document, _OWN_KEYS)
    return (None if params is None else CostChoice(name, params)), mistakes


class _Checked(CostWrapper):
    """A third party's cost model: times that are none end the run with its name."""

    def __init__(self, inner: CostModel, words: str) -> None:
        super().__init__(inner)
        self.words = words
        kind = type(inner)
        self._own_step = kind.step_time is not CostModel.step_time
        self._own_decode = kind.decode_times is not CostModel.decode_times

    def stage_times(self, step: Step) -> tuple[float, ...]:
        times = self.inner.stage_times(step)
        if len(times) != self.stages:
            raise PolicyError(f"{self.words}: {len(times)} stage times for {self.stages} pipeline stages")
        for seconds in times:
            self._check(seconds)
        return times

    def step_time(self, step: Step) -> float:
        if not self._own_step:
            return self.stage_times(step)[0]
        seconds = self.inner.step_time(step)
        self._check(seconds)
        return seconds

    def decode_times(self, step: Step, steps: int) -> Any:
        if not self._own_decode:
            return super().decode_times(step, steps)
        times = self.inner.decode_times(step, steps)
        if len(times) != steps:
            raise PolicyError(f"{self.words}: {len(times)} times for {steps} steps")
        for seconds in times:
            self._check(seconds)
        return times

    def breakdown(self, step: Step) -> dict[str, float]:
        return self.inner.breakdown(step)

    def describe(self) -> dict[str, Any]:
        about = self.inner.describe()
        try:
            json.dumps(about, allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise PolicyError(f"{self.words}: describe() must give plain JSON types: {clipped(str(problem), 200)}") from problem
        if not isinstance(about, dict):
            raise PolicyError(f"{self.words}: describe() must give a mapping, found {shown(about)}")
        return {**about, "cost_model": self.words}

    def _check(self, seconds: Any) -> None:
        try:
            right = math.isfinite(seconds) and seconds > 0
        except (TypeError, ValueError):
            right = False
        if not right:
            raise PolicyError(f"{self.words}: a step takes {seconds!r} s; times must be finite and above 0")
