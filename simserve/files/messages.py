"""Validation mistakes as sentences: where, which key, what was found, what is allowed."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from simserve import hints
from simserve.bounds import LARGEST, MOST_SEED, SMALLEST
from simserve.errors import ConfigError, nearest
from simserve.files import tree
from simserve.files.words import clipped
from simserve.files.yaml_text import Document, KeyPath, kind_of

_COERCIBLE = re.compile(
    r"\s*([-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|true|false|yes|no|on|off|t|f|y|n|inf|-inf|infinity|nan)\s*\Z", re.I
)


MOST_MISTAKES = 20
"""Mistakes listed at once."""

MOST_CHARACTERS = 480
"""Of one line, place and key left out."""


Section = TypeVar("Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to fix. `place` is 'file:line:column' or the override that brought it."""

    place: str
    key: str
    text: str

    def __str__(self) -> str:
        text = "\n".join(line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 3]}..." for line in self.text.split("\n"))
        return f"{self.place}: {clipped(self.key, 120)}: {text}" if self.key else f"{self.place}: {text}"


def fail(source: str, mistakes: list[Mistake]) -> None:
    """Raises ConfigError with every mistake, in the order of the file; returns when there is none."""
    first = {(mistake.place, mistake.key): mistake for mistake in reversed(mistakes)}
    unique = sorted(first.values(), key=lambda m: (_order(m.place), m.key))
    if len(unique) == 1:
        raise ConfigError(str(unique[0]))
    if unique:
        lines = [f"  {mistake}" for mistake in unique[:MOST_MISTAKES]]
        rest = [f"  and {len(unique) - MOST_MISTAKES} more"] if len(unique) > MOST_MISTAKES else []
        raise ConfigError("\n".join([f"{len(unique)} mistakes in {source}:", *lines, *rest]))


def check(model: type[BaseModel], value: Any, document: Document, prefix: KeyPath = ()) -> tuple[BaseModel | None, list[Mistake]]:
    """Validates `value`, found at `prefix` of the document: the section, or None with the mistakes."""
    try:
        section = model.model_validate(value)
    except ValidationError as error:
        section, errors = None, error.errors(include_url=False)
    else:
        errors = []
    schema = _schema(model) if errors or (_has_suspect(value) and not _as_written(value, section)) else {}
    mistakes = _from_pydantic(errors, schema, value, document, prefix)
    mistakes += _coerced(value, schema, document, prefix, ()) if schema else []
    return (section if not mistakes else None), mistakes


def checked(model: type[Section], data: Any, source: str) -> Section:
    """The section in a whole file of plain values. Raises ConfigError with every mistake, each by its key."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: found {kind_of(data)}, expected a mapping (keys and values)")
    section, mistakes = check(model, data, Document(source, dict(data)))
    fail(source, mistakes)
    assert isinstance(section, model)
    return section


@functools.lru_cache(maxsize=64)
def _schema(model: type[BaseModel]) -> tree.Schema:
    """A section's JSON Schema. It takes ten times as long to make as everything else in loading an experiment: made for mistakes only."""
    return model.model_json_schema()


def at(document: Document, path: KeyPath, text: str, *, of_key: bool = False) -> Mistake:
    """A mistake at a path of the document."""
    return Mistake(document.place(path, of_key=of_key), dotted(path), text)


def dotted(path: KeyPath) -> str:
    """('cluster', 'instances', 0) as 'cluster.instances.0'."""
    return ".".join(str(part) for part in path)


def unknown_key(key: str, allowed: set[str], section: KeyPath = ()) -> str:
    """The text for a key that does not exist in a section."""
    return f"unknown key{hints.unknown_key(key, allowed, dotted(section))}"


def _from_pydantic(errors: list[Any], schema: tree.Schema, value: Any, document: Document, prefix: KeyPath) -> list[Mistake]:
    by_path: dict[KeyPath, list[Any]] = {}
    for error in errors:
        if error["loc"] and str(error["loc"][-1]).startswith("literal[") and isinstance(error["input"], Mapping):
            continue  # a word might stand here, too; the other branch says what is wrong with the mapping
        by_path.setdefault(document.real_path((*prefix, *error["loc"])), []).append(error)
    mistakes = []
    for path, group in by_path.items():
        # The branches of a union each complain at the same place; the most telling complaint speaks for them.
        error = min(group, key=lambda e: _RANK.get(e["type"], 1))
        kind = error["type"]
        local = path[len(prefix) :]
        if kind == "too_short" and isinstance(error["input"], list) and len(error["input"]) >= error["ctx"]["min_length"]:
            continue  # its elements are mistakes, and have been left out of the count
        if kind == "extra_forbidden":
            allowed = tree.keys_at(schema, local[:-1], value)
            mistakes.append(at(document, path, unknown_key(str(path[-1]), allowed, path[:-1]), of_key=True))
        elif kind == "missing":
            mistakes.append(Mistake(document.place(path[:-1]), dotted(path), "this key is required and missing"))
        else:
            mistakes.append(at(document, path, _sentence(error, schema, local)))
    return mistakes


_RANK = {"missing": 3, "extra_forbidden": 2}


def _sentence(error: Any, schema: tree.Schema, local: KeyPath) -> str:
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return clipped(str(context.get("error", "this value is not allowed")), MOST_CHARACTERS)
    found = f"found {kind_of(value)}"
    if kind == "finite_number" or (isinstance(value, float) and not math.isfinite(value)):
        return f"{found}, expected a finite number"
    words = tree.words_at(schema, local)
    if kind == "literal_error" and not words:  # of a key, which has no place of its own in the schema
        words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    if kind in ("literal_error", "enum") or (words and kind == "string_type"):
        return f"{found}{nearest(str(value), words)}" if isinstance(value, str) else f"{found}. Allowed: {', '.join(words)}"
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        return f"{found}, expected a number {sign} {_bound(context[name])}"
    if kind in ("too_short", "too_long"):
        number, bound = (context["min_length"], "at least") if kind == "too_short" else (context["max_length"], "at most")
        found = "found an empty list" if value == [] else found
        return f"{found}, expected {bound} {number} element{'s' if number != 1 else ''}"
    if kind == "string_pattern_mismatch":
        return f"{found}, allowed is the pattern {context['pattern']}"
    if kind in ("string_too_short", "string_too_long"):
        bound = f"at least {context['min_length']}" if kind == "string_too_short" else f"at most {context['max_length']}"
        return f"{found}, expected {bound} characters"
    if kind in ("union_tag_invalid", "union_tag_not_found") and "expected_tags" in context:
        tags = [tag.strip().strip("'") for tag in str(context["expected_tags"]).split(",")]
        field = str(context.get("discriminator", "kind")).strip("'")
        return f"{field}: found {kind_of(context.get('tag'))}{nearest(str(context.get('tag')), tags)}"
    if kind == "union_tag_not_found":
        field = str(context.get("discriminator", "kind")).strip("'")
        return f"the key {field} is required and missing. Allowed: {', '.join(tree.tags_at(schema, local, field))}"
    if kind.startswith("date"):
        return f"{found}, expected a date such as 2026-01-31"
    types = tree.types_at(schema, local)
    if kind.endswith(("_type", "_parsing", "_tag_not_found")) or kind in ("int_from_float", "dict_attributes_type"):
        hint = " (without quotes)" if isinstance(value, str) and _COERCIBLE.match(value) else ""
        return f"{found}, expected {tree.describe(types) if types else 'another type'}{hint}"
    return f"{found}, expected {tree.describe(types)}" if types else f"{found}, which is not allowed here"


_BOUNDS = {"greater_than": (">", "gt"), "greater_than_equal": (">=", "ge"), "less_than": ("<", "lt"), "less_than_equal": ("<=", "le")}


def _bound(value: float) -> str:
    """A bound as people write it: 100,000, 1e-05."""
    return f"{int(value):,}" if isinstance(value, int) or (value == int(value) and abs(value) < 1e15) else f"{value:g}"


def _has_suspect(value: Any) -> bool:
    """Whether some leaf is not finite, too large or small to calculate with, or of a type that pydantic would turn into another without a
    word: '512' into 512, true into 1."""
    if isinstance(value, Mapping):
        return any(_has_suspect(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_has_suspect(v) for v in value)
    if isinstance(value, float):
        return not SMALLEST <= abs(value) <= LARGEST and value != 0
    if isinstance(value, int) and abs(value) > MOST_SEED:
        return True
    return isinstance(value, bool) or (isinstance(value, str) and bool(_COERCIBLE.match(value)))


def _as_written(value: Any, section: Any) -> bool:
    """Whether each leaf has the type in the valid section that it was written with, and nothing in it is too large or small; False also
    where a validator has put something else in its place, so that the schema has to say."""
    if isinstance(value, Mapping):
        if isinstance(section, BaseModel):
            section = {**section.__dict__, **(section.model_extra or {})}
        return isinstance(section, Mapping) and all(key in section and _as_written(v, section[key]) for key, v in value.items())
    if isinstance(value, list | tuple):
        alike = isinstance(section, list | tuple) and len(section) == len(value)
        return alike and all(_as_written(v, found) for v, found in zip(value, section, strict=True))
    if isinstance(value, float) and value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        return False
    if isinstance(value, str):
        return type(section) is str or not _COERCIBLE.match(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= MOST_SEED and type(section) in (int, float)
    return type(section) is type(value) or value is None


def _coerced(value: Any, schema: tree.Schema, document: Document, prefix: KeyPath, local: KeyPath) -> list[Mistake]:
    if isinstance(value, Mapping):
        return [m for k, v in value.items() for m in _coerced(v, schema, document, prefix, (*local, k))]
    if isinstance(value, list | tuple):
        return [m for i, v in enumerate(value) for m in _coerced(v, schema, document, prefix, (*local, i))]
    path = (*prefix, *local)
    if isinstance(value, float) and not math.isfinite(value):
        return [at(document, path, f"found {kind_of(value)}, expected a finite number")]
    if isinstance(value, int) and abs(value) > MOST_SEED:
        return [at(document, path, f"found {kind_of(value)}, expected a number of 64 bits (up to {MOST_SEED})")]
    if isinstance(value, float) and value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        return [at(document, path, f"found {kind_of(value)}, expected 0 or a number of {SMALLEST:g} to {LARGEST:g}")]
    types = tree.types_at(schema, local)
    if not types:
        return []
    if isinstance(value, bool):
        wrong = "boolean" not in types
    elif isinstance(value, str):
        wrong = "string" not in types and bool(_COERCIBLE.match(value))
    elif isinstance(value, int | float):
        wrong = types <= {"boolean", "null"}
    else:
        wrong = False
    hint = " (without quotes)" if isinstance(value, str) and not types <= {"boolean", "null"} else ""
    return [at(document, path, f"found {kind_of(value)}, expected {tree.describe(types)}{hint}")] if wrong else []


def _order(place: str) -> tuple[str, int, int]:
    match = re.match(r"(.*):(\d+):(\d+)\Z", place)
    return (match[1], int(match[2]), int(match[3])) if match else (place, 0, 0)
