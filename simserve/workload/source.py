"""The bytes of a trace file: plain or gzip, checked and hashed before anything is parsed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.errors import TraceError
from simserve.files.text import gunzip, read_bytes

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
KINDS = "CSV, JSONL or Parquet, plain or .gz"

_LEAST_EXPANDED_BYTES = 512 * 2**20
_MOST_EXPANSION = 100
"""Traces are numbers that differ: gzip makes published ones 4 to 12 times smaller. A file of one line repeated gets 1,000."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file read into memory: `data` is decompressed, without byte order mark; `sha256` is of the file as it lies on disk.

    Of a part of a file (`chunks.py`): `lines_before` and `rows_before` are what stands before it, less what is repeated of that in `data`;
    `rows` are the rows of a part of a Parquet file, an Arrow table, of which `data` is but the beginning.
    """

    path: Path
    data: bytes
    sha256: str
    lines_before: int = 0
    rows_before: int = 0
    rows: Any = None

    @property
    def is_parquet(self) -> bool:
        return self.data[:4] == b"PAR1"

    def first_line(self) -> str:
        """The first line that is not blank."""
        begin = self.blank_bytes
        ends = [end for end in (self.data.find(b"\n", begin), self.data.find(b"\r", begin)) if end >= 0]
        return self.data[begin : min(ends, default=None)].decode("utf-8", "replace").strip()

    @property
    def blank_bytes(self) -> int:
        """Bytes before the first line that is not blank."""
        return len(self.data) - len(self.data.lstrip())


def open_source(path: Path) -> Source:
    """Reads the file. Raises TraceError when it is missing, a folder, empty, a damaged gzip or one that expands without limit, or neither
    text nor Parquet."""
    try:
        found, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        found, is_folder = True, False  # `read_bytes` says what is wrong with the name
    if not found:
        raise TraceError(f"{path}: no such trace file")
    if is_folder:
        raise TraceError(f"{path}: is a folder, a trace is a file")
    raw = read_bytes(path, TraceError, what="a trace")
    digest = hashlib.sha256(raw).hexdigest()
    data = raw
    if raw[:2] == b"\x1f\x8b":
        data = gunzip(raw, path, TraceError, most_bytes=max(_LEAST_EXPANDED_BYTES, _MOST_EXPANSION * len(raw)))
    if data[:4] == b"PAR1":
        return Source(path, data, digest)
    data = data.removeprefix(BYTE_ORDER_MARK)
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TraceError(f"{path}: the file is empty")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TraceError(f"{path}: is text in UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data[: data.index(0)].count(10) + 1
        raise TraceError(f"{path}: line {line} holds binary data; a trace is {KINDS}")
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")  # line ends of old spreadsheet programs
    return Source(path, data, digest)
