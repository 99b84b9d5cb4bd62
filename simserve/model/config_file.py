"""A config.json with error messages: every read says which file and which key is missing or of the wrong type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simserve.errors import ModelError


class Config:
    """The keys of one configuration, read with checks. `where` names the file (and the nested section) in messages."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def integer(self, *keys: str, default: int | None = None, minimum: int = 1) -> int:
        """The first of `keys` that is there. Raises ModelError when none is and there is no default, or when it is no such integer."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ModelError(f"{self.where}: {key} is {value!r}, it must be an integer of at least {minimum}")
            return value
        if default is None:
            raise ModelError(f"{self.where}: key '{keys[0]}' is missing" + (f" (also known as {', '.join(keys[1:])})" if keys[1:] else ""))
        return default

    def optional_integer(self, key: str) -> int | None:
        """The integer, or None when the key is absent or null."""
        return self.integer(key) if self.has(key) else None

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ModelError(f"{self.where}: {key} is {value!r}, it must be true or false")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string. Raises ModelError for anything else."""
        value = self.values.get(key, default)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ModelError(f"{self.where}: {key} is {value!r}, it must be a string")
        return value

    def items(self, key: str) -> list[Any]:
        """A list, empty when the key is absent or null. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ModelError(f"{self.where}: {key} is {value!r}, it must be a list")
        return value

    def section(self, key: str) -> Config | None:
        """A nested object, or None when absent or null. Raises ModelError for anything else."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ModelError(f"{self.where}: {key} is {value!r}, it must be an object")
        return Config(value, f"{self.where}: {key}")


def read_json(path: Path) -> Config:
    """The object in a JSON file. Raises ModelError when the file is absent, unreadable, not JSON (with the line) or not an object."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"model configuration {path} does not exist") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not a text file; a Hugging Face config.json is expected") from None
    except OSError as error:
        raise ModelError(f"model configuration {path} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ModelError(f"{path} is empty; a Hugging Face config.json is expected")
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        at = f" line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else " nested too deeply"
        raise ModelError(f"{path} is not valid JSON (cut short or not a config.json?):{at}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a JSON {type(values).__name__}, a Hugging Face config.json is an object")
    return Config(values, str(path))
