"""A config.json with error messages: every read says which file and which key is missing or of the wrong type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simserve.errors import ModelError
from simserve.files import json_text
from simserve.files.words import shown

MOST = 2**31 - 1
"""No dimension is larger."""


class Config:
    """The keys of one configuration, read with checks. `where` names the file (and the nested section) in messages."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def integer(self, *keys: str, default: int | None = None, minimum: int = 1, maximum: int = MOST) -> int:
        """The first of `keys` that is there. Raises ModelError when none is and there is no default, or when it is no such integer."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be an integer of at least {minimum}")
            if value > maximum:
                raise ModelError(f"{self.where}: {key} is {shown(value)}, it can be {maximum} at most")
            return value
        if default is None:
            raise ModelError(f"{self.where}: key '{keys[0]}' is missing" + (f" (also known as {', '.join(keys[1:])})" if keys[1:] else ""))
        return default

    def optional_integer(self, key: str) -> int | None:
        """The integer, or None when the key is absent or null."""
        return self.integer(key) if self.has(key) else None

    def same_integer(self, *keys: str, default: int | None = None, minimum: int = 1, maximum: int = MOST) -> int:
        """As `integer`, of a value that may be given once for each layer. Raises ModelError when layers differ."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, list) and value:
                if any(entry != value[0] for entry in value):
                    raise ModelError(f"{self.where}: {key} differs between layers, which is not supported")
                return Config({key: value[0]}, self.where).integer(key, minimum=minimum, maximum=maximum)
        return self.integer(*keys, default=default, minimum=minimum, maximum=maximum)

    def number(self, *keys: str, default: float | None = None, least: float = 0.0, most: float = 1e9) -> float:
        """The first of `keys` that is there, as a number between `least` and `most`. Raises ModelError as `integer`."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be a number from {least:g} to {most:g}")
            return float(value)
        if default is None:
            raise ModelError(f"{self.where}: key '{keys[0]}' is missing")
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be true or false")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string. Raises ModelError for anything else."""
        value = self.values.get(key, default)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be a string")
        return value

    def items(self, key: str) -> list[Any]:
        """A list, empty when the key is absent or null. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be a list")
        return value

    def section(self, key: str) -> Config | None:
        """A nested object, or None when absent or null. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ModelError(f"{self.where}: {key} is {shown(value)}, it must be an object")
        return Config(value, f"{self.where}: {key}")


def read_json(path: Path) -> Config:
    """The object in a JSON file. Raises ModelError when the file is absent, unreadable, not JSON (with the line) or not an object."""
    values = json_text.read_json(path, ModelError, what="a Hugging Face config.json")
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds {shown(values)}, a Hugging Face config.json is an object")
    return Config(values, str(path))
