"""`--set path.to.key=value`: changes to a document before it is validated."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from simserve.errors import ConfigError
from simserve.files.words import clipped, shown
from simserve.files.yaml_text import MOST_DEPTH, Document, KeyPath, kind_of, plain, value_of

_LABEL = 100  # characters of an override that a message repeats

NAMED_SECTIONS = ("model", "engine")
"""Sections that may be written as a bare name; an override inside them turns `engine: x` into `engine: {name: x}`."""


def split(text: str) -> tuple[str, Any]:
    """'a.b.0=value' as (path, value); the value is read as YAML, nothing after '=' means null."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {clipped(text, _LABEL)}: expected path.to.key=value, for example --set workload.trace.rate_scale=4")
    found = value_of(value, f"--set {clipped(text, _LABEL)}")
    if isinstance(found, Mapping) and any(":" in str(key) and inside is None for key, inside in found.items()):
        spaced = ", ".join(re.sub(r":(?=\S)", ": ", str(key), count=1) for key in found)
        raise ConfigError(
            f"--set {clipped(text, _LABEL)}: a colon without a space behind it is part of a name; meant is {{{clipped(spaced)}}}?"
        )
    return path.strip(), found


def apply(document: Document, overrides: Iterable[str] | Mapping[str, Any]) -> Document:
    """A copy of the document with the overrides applied in order. List elements are addressed by index: `cluster.instances.0.count`.

    Raises ConfigError naming the override when its path runs through something that has no keys, or past the end of a list.
    """
    changed = Document(document.source, copy.deepcopy(document.data), dict(document.places), dict(document.key_places))
    if isinstance(overrides, Mapping):
        items = [(path, value, f"{clipped(path, _LABEL)}={shown(value)}") for path, value in overrides.items()]
    else:
        items = [(*split(text), f"--set {clipped(text, _LABEL)}") for text in overrides]
    for path, value, label in items:
        _set(changed, path, plain(value, label), label)
    return changed


def _set(document: Document, dotted: str, value: Any, label: str) -> None:
    parts: list[str | int] = list(dotted.split("."))
    if len(parts) > MOST_DEPTH:
        raise ConfigError(f"{label}: a path of {len(parts)} names; an experiment is not that deep")
    node: Any = document.data
    for depth, part in enumerate(parts):
        here = ".".join(str(p) for p in parts[:depth])
        if part == "":
            raise ConfigError(f"{label}: an empty name in the path '{clipped(dotted, _LABEL)}'")
        last = depth + 1 == len(parts)
        if isinstance(node, list):
            index = _index(str(part), node, here, label)
            parts[depth] = index
            if last:
                node[index] = value
            else:
                node = node[index]
        elif isinstance(node, dict):
            if last:
                node[str(part)] = value
                continue
            child = node.get(str(part))
            if child is None:
                child = [{}] if parts[depth + 1] == "0" else {}  # the first of a list that is not written: cluster.instances.0.parallel
            elif isinstance(child, str) and depth == 0 and part in NAMED_SECTIONS:
                child = {"name": child}
            node[str(part)] = child
            node = child
        else:
            raise ConfigError(f"{label}: '{clipped(here)}' is {kind_of(node)}, it has no key '{clipped(str(part))}'")
    _forget_below(document, tuple(parts))
    document.places[tuple(parts)] = label
    document.key_places[tuple(parts)] = label


def _index(part: str, items: list[Any], here: str, label: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", part) or int(part) >= len(items):
        allowed = f"0 to {len(items) - 1}" if items else "none: the list is empty"
        raise ConfigError(f"{label}: '{clipped(here)}' is a list; found index '{clipped(part)}'. Allowed: {allowed}")
    return int(part)


def _forget_below(document: Document, path: KeyPath) -> None:
    """What was written under an overridden value is gone; errors there must name the override."""
    for places in (document.places, document.key_places):
        for key in [key for key in places if key[: len(path)] == path]:
            del places[key]
