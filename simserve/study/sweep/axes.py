"""One axis of a sweep: the key that changes and the values it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simserve.errors import ConfigError, nearest
from simserve.files.yaml_text import kind_of, value_of

_RANGE_KEYS = ("low", "high", "steps", "scale", "whole")


@dataclass(frozen=True, slots=True)
class Values:
    """Listed values. `names` are the user's for some of them, by the value as JSON."""

    key: str
    values: tuple[Any, ...]
    names: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def at(self, index: int) -> Any:
        """The value number `index` of a grid."""
        return self.values[index]

    def draw(self, fraction: float) -> Any:
        """The value at a fraction in [0, 1) of the list."""
        return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included: `steps` of them in a grid, anything between in a sample.

    logarithmic  equal ratios instead of equal distances
    whole        whole numbers only
    """

    key: str
    low: float
    high: float
    steps: int | None = None
    logarithmic: bool = False
    whole: bool = False

    def __len__(self) -> int:
        """Values in a grid. Raises ConfigError when the range does not say how many."""
        if self.steps is None:
            raise ConfigError(f"over: {self.key}: a range in a grid needs 'steps', the number of values (or sample it: method, sample)")
        return self.steps

    def at(self, index: int) -> float | int:
        """The value number `index` of a grid."""
        steps = len(self)
        return self._between(index / (steps - 1) if steps > 1 else 0.0, rounded=True)

    def draw(self, fraction: float) -> float | int:
        """The value at a fraction in [0, 1) of the range."""
        if self.whole and not self.logarithmic:
            return int(self.low) + int(fraction * (int(self.high) - int(self.low) + 1))  # each number equally likely
        return self._between(fraction, rounded=True)

    def _between(self, fraction: float, rounded: bool) -> float | int:
        if fraction >= 1.0:
            value = self.high
        elif self.logarithmic:
            value = self.low * (self.high / self.low) ** fraction
        else:
            value = self.low + (self.high - self.low) * fraction
        if self.whole and rounded:
            return round(value)
        return float(f"{value:.12g}")  # 0.3, not 0.30000000000000004


Axis = Values | Range


def axis(key: str, spec: Any) -> Axis:
    """The axis of a key from its YAML value: a list of values, or a range {low, high, steps, scale: linear|log, whole}.

    Raises ConfigError.
    """
    if isinstance(spec, list | tuple):
        if not spec:
            raise ConfigError(f"over: {key}: an empty list; a sweep needs at least one value of each key")
        return Values(key, tuple(spec))
    if isinstance(spec, Mapping) and "low" in spec and "high" in spec:
        return _range(key, spec)
    if isinstance(spec, Mapping) and not {"low", "high"} & set(spec) and not set(spec) <= set(_RANGE_KEYS):
        return _named(key, spec)
    if isinstance(spec, Mapping):
        found = f"a mapping with {', '.join(repr(name) for name in list(spec)[:3])}" if spec else "an empty mapping"
        expected = "a list of values, values by name {small: 256, large: 2048}, or a range {low: 1, high: 8, steps: 4}"
        raise ConfigError(f"over: {key}: found {found}; expected {expected}")
    return Values(key, (spec,))


def name_of(value: Any) -> str:
    """What a value is called in `Values.names`."""
    return json.dumps(value, sort_keys=True, default=str)


def _named(key: str, spec: Mapping[str, Any]) -> Values:
    names: dict[str, str] = {}
    for name, value in spec.items():
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"over: {key}: found {kind_of(name)} as the name of a value, expected a text that is not empty")
        if (text := name_of(value)) in names:
            raise ConfigError(f"over: {key}: '{names[text]}' and '{name}' are the same value")
        names[text] = name
    return Values(key, tuple(spec.values()), names)


def option(text: str) -> Axis:
    """The axis in `key=a,b,c` or `key={low: 1, high: 8, steps: 4}` of the command line. Raises ConfigError."""
    key, equals, value = text.partition("=")
    label = f"--over {text}"
    if not equals or not key.strip():
        raise ConfigError(f"{label}: expected path.to.key=value,value,... for example --over workload.arrivals.rate_per_s=1,2,4")
    if not value.strip():
        raise ConfigError(f"{label}: no values; a sweep needs at least one value of each key")
    parsed = value_of(f"[{value}]", label)
    if any(item is None and part.strip() == "" for item, part in zip(parsed, value.split(","), strict=False)):
        raise ConfigError(f"{label}: an empty value between commas")
    if len(parsed) == 1 and isinstance(parsed[0], list | Mapping):
        only = parsed[0]
        return axis(key.strip(), only if isinstance(only, list) or {"low", "high"} <= set(only) else [only])
    return axis(key.strip(), parsed)


def label(value: Any) -> Any:
    """A value as it stands in a table: numbers, text and truth values as they are, anything else as compact JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)


def _range(key: str, spec: Mapping[str, Any]) -> Range:
    for name in spec:
        if name not in _RANGE_KEYS:
            raise ConfigError(f"over: {key}: unknown key '{name}' of a range{nearest(str(name), _RANGE_KEYS)}")
    low, high = (_number(key, name, spec[name]) for name in ("low", "high"))
    steps, scale, whole = spec.get("steps"), spec.get("scale", "linear"), spec.get("whole", False)
    if scale not in ("linear", "log"):
        raise ConfigError(f"over: {key}: scale: found {kind_of(scale)}{nearest(str(scale), ('linear', 'log'))}")
    if not isinstance(whole, bool):
        raise ConfigError(f"over: {key}: whole: found {kind_of(whole)}, expected true or false")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"over: {key}: steps: found {kind_of(steps)}, expected a whole number >= 1")
    if low > high:
        raise ConfigError(f"over: {key}: low {low:g} is above high {high:g}")
    if scale == "log" and low <= 0:
        raise ConfigError(f"over: {key}: a log scale needs low above 0, found {low:g}")
    whole = whole or (isinstance(spec["low"], int) and isinstance(spec["high"], int) and steps is None)
    return Range(key, low, high, steps, scale == "log", whole)


def _number(key: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"over: {key}: {name}: found {kind_of(value)}, expected a number")
    return float(value)
