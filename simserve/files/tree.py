"""Questions about a JSON Schema at a place: which keys are allowed there, which types, which help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def branches(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schema with references followed and every alternative (anyOf, oneOf, allOf) laid out."""
    if "$ref" in schema:
        yield from branches(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
        return
    alternatives = [option for word in ("anyOf", "oneOf", "allOf") for option in schema.get(word, ())]
    for option in alternatives:
        yield from branches(option, root)
    if "properties" in schema or not alternatives:
        yield schema


def at(root: Schema, path: tuple[str | int, ...], value: Any = None) -> list[Schema]:
    """Every alternative that the schema allows at `path`; empty where it says nothing.

    With the whole `value` given, alternatives that it rules out by a fixed word (`kind: poisson`) are left out on the way.
    """
    found = _fitting(list(branches(root, root)), value)
    for part in path:
        below: list[Schema] = []
        for schema in found:
            if isinstance(part, int):
                child = schema.get("items")
                prefix = schema.get("prefixItems", ())
                child = prefix[part] if part < len(prefix) else child
            else:
                child = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
            if isinstance(child, Mapping):
                below.extend(branches(child, root))
        value = _child(value, part)
        found = _fitting(below, value)
    return found


def _fitting(schemas: list[Schema], value: Any) -> list[Schema]:
    if not isinstance(value, Mapping):
        return schemas
    fit = [
        schema
        for schema in schemas
        if all(key not in value or child.get("const", value[key]) == value[key] for key, child in schema.get("properties", {}).items())
    ]
    return fit or schemas


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def keys_at(root: Schema, path: tuple[str | int, ...], value: Any = None) -> set[str]:
    """The keys that a mapping at `path` may have; `value` is the whole tree that holds it."""
    return {key for schema in at(root, path, value) for key in schema.get("properties", {})}


def types_at(root: Schema, path: tuple[str | int, ...]) -> set[str]:
    """JSON type names allowed at `path`; empty = not stated (anything)."""
    types: set[str] = set()
    for schema in at(root, path):
        if "type" in schema:
            types |= {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
        elif "const" in schema or "enum" in schema:
            types |= {_json_type(v) for v in schema.get("enum", [schema.get("const")])}
        else:
            return set()
    return types


def words_at(root: Schema, path: tuple[str | int, ...]) -> list[str]:
    """The fixed words allowed at `path`, where they are listed."""
    words: list[str] = []
    for schema in at(root, path):
        words += [str(v) for v in schema.get("enum", [schema["const"]] if "const" in schema else [])]
    return list(dict.fromkeys(words))


def tags_at(root: Schema, path: tuple[str | int, ...], key: str) -> list[str]:
    """The fixed words of a key by which the alternatives at `path` are told apart."""
    words = [option.get("properties", {}).get(key, {}) for option in at(root, path)]
    return sorted({str(word["const"]) for word in words if "const" in word})


def describe(types: set[str]) -> str:
    """Type names in the words of an error message."""
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "array": "a list",
        "object": "a mapping (keys and values)",
        "null": "nothing",
    }
    order = [words[t] for t in words if t in types and t != "null" and not (t == "integer" and "number" in types)]
    return " or ".join(order) or "nothing"


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer", float: "number", type(None): "null"}.get(type(value), "object")
