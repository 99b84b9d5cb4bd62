"""The fields of a section or of a policy's parameters, as rows for tables and documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from simserve.files import tree


class Parameter(NamedTuple):
    """One key: its type in words, its default in YAML ("required" when there is none), what it means."""

    name: str
    kind: str
    default: str
    description: str


def parameters(model: type[BaseModel]) -> list[Parameter]:
    """The keys of a pydantic model, in the order of their declaration."""
    return rows(model.model_json_schema(), model.model_json_schema())


def rows(schema: tree.Schema, root: tree.Schema) -> list[Parameter]:
    """The keys of an object schema."""
    required = schema.get("required", ())
    return [
        Parameter(name, kind(child, root), "required" if name in required else _default(child), str(child.get("description", "")))
        for name, child in schema.get("properties", {}).items()
    ]


def kind(schema: tree.Schema, root: tree.Schema) -> str:
    """A type in words: 'whole number > 0', 'fcfs | priority', 'list of whole numbers', 'mapping'."""
    found = []
    for option in tree.branches(schema, root):
        if option.get("type") != "null":
            found.append(_one(option, root))
    return " or ".join(dict.fromkeys(found)) or "anything"


def _one(schema: tree.Schema, root: tree.Schema) -> str:
    if "enum" in schema or "const" in schema:
        return " | ".join(str(v) for v in schema.get("enum", [schema.get("const")]))
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "nothing"}
    name = schema.get("type")
    if name == "array":
        items = schema.get("items")
        return f"list of {kind(items, root)}" if isinstance(items, Mapping) else "list"
    if name == "object":
        extra = schema.get("additionalProperties")
        return f"mapping to {kind(extra, root)}" if isinstance(extra, Mapping) and "properties" not in schema else "mapping"
    signs = (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs if key in schema and abs(schema[key]) < 1e15]
    return " ".join([words.get(str(name), "anything"), ", ".join(bounds)]).strip()


def _default(schema: tree.Schema) -> str:
    value: Any = schema.get("default")
    if value is None or isinstance(value, Mapping):
        return ""  # of a section: its own keys say their defaults
    return value if isinstance(value, str) and value else json.dumps(value)
