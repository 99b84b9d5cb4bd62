"""Values of a result document, read key by key. What is there but is not what it should be is remembered, not thrown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from simserve.files.words import shown

MOST_COUNT = 10**9
"""Requests, clients or tokens: more is no measurement."""

MOST = 1e15
MOST_RATE_PER_S = 1e6
LEAST_RATE_PER_S = 1e-6
MOST_SECONDS = 1e7
"""Four months; what a client measured took less."""


class Fields:
    """One mapping of a document. `problems` is shared with the mappings inside it.

    A key that is absent or null gives None; a value of the wrong kind or out of bounds gives None and a sentence in `problems`.
    """

    def __init__(self, value: Any, where: str = "", problems: list[str] | None = None) -> None:
        self.problems: list[str] = [] if problems is None else problems
        self._where = where
        self._values: Mapping[str, Any] = {}
        if isinstance(value, Mapping):
            self._values = value
        elif value is not None:
            self.problems.append(f"{where or 'the result'} is {shown(value, 30)}, not a mapping")

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def names(self, start: str) -> list[str]:
        """The keys that begin so."""
        return [key for key in self._values if key.startswith(start)]

    def raw(self, key: str) -> Any:
        """The value as it is."""
        return self._values.get(key)

    def inside(self, *keys: str) -> Fields:
        """The mapping under a path of keys; an empty one where there is none."""
        found = self
        for key in keys:
            found = Fields(found.raw(key), f"{found._where}.{key}" if found._where else key, self.problems)
        return found

    def number(self, key: str, *, least: float = 0.0, most: float = MOST) -> float | None:
        """A finite number within [least, most]. NaN, which clients write where there was nothing to average, is absent."""
        value = self._values.get(key)
        if value is None:
            return None
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and isinstance(value, float) and math.isnan(value):
            return None
        if not plain or not least <= value <= most:
            self._wrong(key, value, f"a number from {least:g} to {most:g}" if most < MOST else f"a number of at least {least:g}")
            return None
        return float(value)

    def count(self, key: str, *, least: int = 1) -> int | None:
        """A whole number."""
        value = self.number(key, least=least, most=MOST_COUNT)
        if value is not None and value != int(value):
            self._wrong(key, value, "a whole number")
            return None
        return None if value is None else int(value)

    def seconds(self, key: str, unit: float = 1.0) -> float | None:
        """A time in units of `unit` seconds, as seconds."""
        value = self.number(key, most=MOST_SECONDS / unit)
        return None if value is None else value * unit

    def rate(self, key: str) -> float | None:
        """Requests per second; infinity, as a number or a word, is math.inf."""
        value = self._values.get(key)
        if value in ("inf", "Infinity") or (isinstance(value, float) and value == math.inf):
            return math.inf
        return self.number(key, least=LEAST_RATE_PER_S, most=MOST_RATE_PER_S)

    def text(self, key: str) -> str:
        """A text, '' where there is none."""
        value = self._values.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self._wrong(key, value, "a text")
        return ""

    def flag(self, key: str) -> bool:
        """Whether a switch is on."""
        value = self._values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._wrong(key, value, "true or false")
        return False

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers from 0 to the largest count."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= MOST_COUNT for v in value):
            return [float(v) for v in value]
        self._wrong(key, value, "a list of numbers")
        return None

    def _wrong(self, key: str, value: Any, expected: str) -> None:
        self.problems.append(f"{f'{self._where}.' if self._where else ''}{key} is {shown(value, 30)}, not {expected}")
