"""How columns and values of a study are called on plots and in tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from simserve.catalogue import METRICS

_UPPER = ("kv", *(metric.quantity for metric in METRICS if metric.label == metric.quantity.upper()))
_UNITS = (("_s_per_token", "s per token"), ("_tokens_per_s", "tokens/s"), ("_per_s", "1/s"), ("_s", "s"))


def title(column: str) -> str:
    """`ttft_p99_s` as 'TTFT p99'; a dotted key by its last part."""
    words = _split(column)[0].split("_")
    return " ".join(word.upper() if word in _UPPER else word for word in words)


def title_with_unit(column: str) -> str:
    """`ttft_p99_s` as 'TTFT p99, s'."""
    unit = _split(column)[1]
    return f"{title(column)}, {unit}" if unit else title(column)


def short(values: Sequence[Any]) -> dict[Any, str]:
    """A short name for each value of an axis: of mappings (as compact JSON) only what tells them apart."""
    leaves = {value: _leaves(value) for value in values}
    names = {}
    for value, own in leaves.items():
        if own is None:
            names[value] = f"{value:g}" if isinstance(value, float) else str(value)
            continue
        others = [other for other in leaves.values() if other is not None]
        telling = {key: leaf for key, leaf in own.items() if any(other.get(key) != leaf for other in others)} or own
        policy = telling.pop("policy", None)
        parts = [] if policy is None else [str(policy)]
        names[value] = " ".join([*parts, *(f"{key}={leaf}" for key, leaf in telling.items())])
    return names


def _split(column: str) -> tuple[str, str]:
    name = column.rsplit(".", 1)[-1]
    for ending, unit in _UNITS:
        if name.endswith(ending):
            return name.removesuffix(ending), unit
    return name, ""


def _leaves(value: Any) -> dict[str, Any] | None:
    """The scalars in a mapping or list written as JSON, by their own key; None for other values."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return None
    try:
        content = json.loads(value)
    except ValueError:
        return None
    found: dict[str, Any] = {}

    def collect(node: Any, name: str) -> None:
        if isinstance(node, Mapping):
            for key, child in node.items():
                collect(child, str(key))
        elif isinstance(node, list):
            for child in node:
                collect(child, name)
        else:
            found[name] = node if name not in found else f"{found[name]},{node}"

    collect(content, "value")
    return found
