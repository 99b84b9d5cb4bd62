"""Values in the words of a message: short, whatever the value is. A message must not grow with the file it complains of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def clipped(text: str, most: int = 60) -> str:
    """At most `most` characters of a text, on one line, control characters replaced; '...' says that more was there."""
    head = text[: most + 1]
    plain = "".join(c if c.isprintable() else " " for c in head)
    return plain if len(head) <= most else plain[: max(most - 3, 1)] + "..."


def number(value: float, most: int = 60) -> str:
    """A number as it was written, or its size when it is longer than `most` characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * most:
        digits = int(value.bit_length() * 0.30103) + 1
        return f"{'-' if value < 0 else ''}a number of about {digits} digits"
    return str(value)


def shown(value: Any, most: int = 60) -> str:
    """Any value for a message, at most about `most` characters: "'abc'", '3', 'a list of 4', 'a mapping of 2 keys', 'nothing'.

    Looks at the value itself only, never at what it holds: a few aliases in a YAML file can stand for billions of values.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{clipped(value, most)}'"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, int | float):
        return number(value, most)
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} {'key' if len(value) == 1 else 'keys'}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    return clipped(f"a {type(value).__name__}", most)
