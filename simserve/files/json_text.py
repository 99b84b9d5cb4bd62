"""JSON text to plain values: whatever the text is, the answer is values or one message with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simserve.errors import SimserveError
from simserve.files.text import MOST_TEXT_BYTES, read_text
from simserve.files.words import clipped

MOST_DIGITS = 300
"""More digits than any floating-point number has before its point (10^308)."""


class _RefusedError(Exception):
    pass


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _RefusedError(f"a number of {len(digits)} digits; at most {MOST_DIGITS}")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"key '{clipped(key)}' is given twice in one object")
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(parse_int=_integer, object_pairs_hook=_object)


def parse_json(text: str, where: str, error: type[SimserveError]) -> Any:
    """The value of a JSON text; `where` is how messages name it. NaN and Infinity are read as Python writes them.

    Raises `error`: not JSON (with line and column), nested too deeply, a key twice in one object, a number of over 300 digits.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as problem:
        what = "cut short" if problem.pos >= len(text.rstrip()) else problem.msg
        raise error(f"{where}: line {problem.lineno}, column {problem.colno}: not valid JSON ({what})") from None
    except RecursionError:
        raise error(f"{where}: JSON nested too deeply") from None
    except _RefusedError as problem:
        raise error(f"{where}: {problem}") from None


def read_json(path: Path, error: type[SimserveError], *, what: str = "a JSON file", most_bytes: int = MOST_TEXT_BYTES) -> Any:
    """The value in a JSON file. Raises `error` as `read_text` and `parse_json`, and for an empty file."""
    text = read_text(path, error, what=what, most_bytes=most_bytes)
    if not text.strip():
        raise error(f"{path}: the file is empty; {what} is needed")
    return parse_json(text, str(path), error)
