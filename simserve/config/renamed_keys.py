"""Experiments with keys of earlier versions: read under the new names, with a note of each for the run's warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simserve import renamed
from simserve.files.yaml_text import Document, KeyPath


def current(document: Document) -> tuple[Document, list[str]]:
    """The document with old keys renamed where they were written, and a sentence for each old name. The document given is not changed."""
    moved: list[tuple[KeyPath, str]] = []
    data: Any = renamed.apply(document.data, renamed.EXPERIMENT_KEYS, lambda path, new: moved.append((path, new)))
    if not moved:
        return document, []
    places, key_places = dict(document.places), dict(document.key_places)
    for old, new in moved:
        for known in (places, key_places):
            for path in [path for path in known if path[: len(old)] == old]:
                known[(*old[:-1], new, *path[len(old) :])] = known.pop(path)
    return Document(document.source, data, places, key_places), [_note(".".join(map(str, old)), new) for old, new in moved]


def in_changes(changes: Iterable[str] | Mapping[str, Any]) -> tuple[list[str] | dict[str, Any], list[str]]:
    """Changes to an experiment ('path=value' texts, or values by path) with old paths renamed, and a sentence for each."""
    notes: list[str] = []

    def present(path: str) -> str:
        now, new = renamed.path(path)
        if new:
            notes.append(_note(path, new))
        return now

    if isinstance(changes, Mapping):
        return {present(path): value for path, value in changes.items()}, notes
    return ["=".join([present(path.strip()), *value]) for path, *value in (text.split("=", 1) for text in changes)], notes


def _note(old: str, new: str) -> str:
    return f"The key {old} is now called {new}; the old name will go with a later version."
