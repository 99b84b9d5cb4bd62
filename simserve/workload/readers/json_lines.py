"""JSONL into Python objects and checked numbers, with the line of the first mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from simserve.errors import TraceError
from simserve.workload.source import Source


def objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank. Raises TraceError for a line that is not a JSON object."""
    decode = json.JSONDecoder().decode
    for number, line in enumerate(source.data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = decode(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise TraceError(f"{source.path}: line {number}: not UTF-8 text") from None
        except json.JSONDecodeError as e:
            raise TraceError(f"{source.path}: line {number}: not JSON ({e.msg} at column {e.colno}); is the file cut short?") from None
        if not isinstance(value, dict):
            raise TraceError(f"{source.path}: line {number}: a JSON object is expected, found {type(value).__name__}")
        yield number, value


def number(source: Source, line: int, record: dict[str, Any], key: str, *, whole: bool, minimum: float | None = 0.0) -> float:
    """record[key] as a finite number >= minimum. Raises TraceError naming line and key."""
    where = f"{source.path}: line {line}: '{key}'"
    if key not in record:
        raise TraceError(f"{where} is missing; found {', '.join(record)}")
    raw = record[key]
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise TraceError(f"{where} is {raw!r}, not a number")
    try:
        value = float(raw)
    except ValueError:
        raise TraceError(f"{where} is {raw!r}, not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise TraceError(f"{where} is {raw!r}, not a finite number")
    if minimum is not None and value < minimum:
        raise TraceError(f"{where} is {raw!r}, must not be negative")
    if whole and value != int(value):
        raise TraceError(f"{where} is {raw!r}, not a whole number")
    return value


def id_list(source: Source, line: int, record: dict[str, Any], key: str) -> list[int]:
    """record[key] as a list of integer ids; an absent key is an empty list. Raises TraceError naming line and key."""
    ids = record.get(key, [])
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise TraceError(f"{source.path}: line {line}: '{key}' must be a list of integers")
    return ids
