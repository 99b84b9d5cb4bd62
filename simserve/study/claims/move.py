"""Moves a number that was chosen by a factor, in each variant of an experiment, to see what hangs on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError


class Multiplied:
    """The changes that multiply the numbers at some keys of an experiment.

    keys  dotted, as in `--set`; of a section all its numbers count, a key that an experiment does not have is passed over
    """

    def __init__(self, keys: Sequence[str], factor: float) -> None:
        self.keys, self.factor = keys, factor
        self._found: set[str] = set()

    def __call__(self, experiment: Experiment) -> list[str]:
        """`path=value` for each of the numbers, as this experiment has them with its defaults filled in."""
        resolved = experiment.resolved()
        changes = []
        for key in self.keys:
            node = _at(resolved, key.split("."))
            for path, number in _numbers(node, key):
                self._found.add(key)
                value = number * self.factor
                changes.append(f"{path}={json.dumps(max(round(value), min(number, 1)) if isinstance(number, int) else value)}")
        return changes

    def check_used(self, name: str) -> None:
        """Raises ConfigError for a key at which no variant has a number."""
        for key in self.keys:
            if key not in self._found:
                raise ConfigError(f"{name}: paper.sensitivity: no variant has a number at '{key}'")


def _at(node: Any, parts: Iterable[str]) -> Any:
    for part in parts:
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        elif isinstance(node, Mapping):
            node = node.get(part)
        else:
            return None
    return node


def _numbers(node: Any, path: str) -> list[tuple[str, float]]:
    if isinstance(node, bool) or node is None:
        return []
    if isinstance(node, int | float):
        return [(path, node)]
    if isinstance(node, Mapping):
        return [found for key, child in node.items() for found in _numbers(child, f"{path}.{key}")]
    return []
