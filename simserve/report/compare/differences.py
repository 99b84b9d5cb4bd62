"""What differs between the experiments of several runs, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_NOT_COMPARED = ("name", "description", "output", "variants", "claims", "paper")
_ABSENT = "–"


class Difference(NamedTuple):
    """A dotted key and its value in each run, as text ("–" where a run does not have it)."""

    key: str
    values: tuple[str, ...]


def differences(experiments: Sequence[dict[str, Any]]) -> tuple[Difference, ...]:
    """The keys of resolved experiments whose values are not the same everywhere; what only names or stores a run is left out."""
    flat = [dict(_leaves({key: value for key, value in each.items() if key not in _NOT_COMPARED}, "")) for each in experiments]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    rows = (Difference(key, tuple(leaves.get(key, _ABSENT) for leaves in flat)) for key in keys)
    return tuple(row for row in rows if len(set(row.values)) > 1)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and values as text. A list of scalars is one value, an empty mapping none."""
    if isinstance(node, dict):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(item, dict | list) for item in node):
        children = [(str(number), value) for number, value in enumerate(node)]
    else:
        yield path, node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)
        return
    for key, value in children:
        yield from _leaves(value, f"{path}.{key}" if path else key)
