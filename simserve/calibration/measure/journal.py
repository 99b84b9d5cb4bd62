"""What has been measured so far: one JSON line a point, appended and flushed at once, so that nothing done is ever lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from simserve.errors import ConfigError, OutputError

FILE = "journal.jsonl"
SCHEMA = "simserve-measure/1"
OK = "ok"


class Journal:
    """The journal of one output directory. `records` maps a point's key to its record; the last record of a key counts.

    A last line that was cut off by a crash is ignored and overwritten. Raises ConfigError when the journal belongs to another device
    or PyTorch, or a line inside is broken; OutputError when the directory cannot be written.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        self.path = folder / FILE
        self.records: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            good_bytes = self._read(identity) if self.path.exists() else 0
            self._file = open(self.path, "ab")  # noqa: SIM115 (open for the journal's life)
            self._file.truncate(good_bytes)
        except OSError as problem:
            raise OutputError(f"{folder}: cannot be written: {problem.strerror}") from None
        if not good_bytes:
            self._write({"schema": SCHEMA, **identity})

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Append one record and push it to the disk's cache."""
        self.records[key] = record
        self._write({"key": key, **record})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise OutputError(f"{self.path}: cannot be written: {problem.strerror}; the points before are kept") from None

    def _read(self, identity: dict[str, str]) -> int:
        """Load the records and return the bytes up to the end of the last whole line."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        for number, text in enumerate(content[:end].splitlines(), start=1):
            try:
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise ValueError
            except ValueError:
                raise ConfigError(f"{self.path}, line {number}: not a line of a measurement journal; choose another --out") from None
            if number == 1:
                self._check(line, identity)
            else:
                self.records[str(line.pop("key", ""))] = line
        return end

    def _check(self, head: dict[str, Any], identity: dict[str, str]) -> None:
        if head.get("schema") != SCHEMA:
            raise ConfigError(f"{self.path}: schema {head.get('schema')!r}, this simserve continues {SCHEMA!r}; choose another --out")
        for name, value in identity.items():
            if head.get(name) != value:
                raise ConfigError(
                    f"{self.path}: was measured with {name} {head.get(name)!r}, this is {value!r}; "
                    "two machines do not belong in one table: choose another --out"
                )
