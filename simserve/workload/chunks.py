"""A trace file in parts of some megabytes, each as a `Source` that readers take for a file: for traces that memory need not hold.

A part of a CSV is the header, the first row of the file and the rows of the part: the first row tells the day from which dates count and
what times look like, as in the file as a whole. It is to be dropped (`Chunk.repeated`).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from simserve.errors import TraceError
from simserve.workload.source import BYTE_ORDER_MARK, KINDS, Source

CHUNK_BYTES = 1 << 21
CHUNK_ROWS = 1 << 16
"""Rows of a part of a Parquet file."""

_GZIP = b"\x1f\x8b"
_MOST_LINE_BYTES = 1 << 25
_MOST_BLANK_LINES = 1000


class NotInChunksError(Exception):
    """This file cannot be read in parts: it is of another kind, or reading it whole says what is wrong with it."""


class Chunk(NamedTuple):
    """A part of a file, and how many of its first rows are of another part."""

    source: Source
    repeated: int


def most_rows(path: Path) -> int:
    """At least as many rows as a CSV (plain or gzip) or a Parquet file has. Raises NotInChunksError."""
    try:
        if _begins(path, b"PAR1"):
            return _rows_of_parquet(path)
        lines = 0
        with _opened(path) as stream:
            while block := stream.read(CHUNK_BYTES):
                lines += block.count(b"\n")
        return lines
    except _UNREADABLE as problem:
        raise NotInChunksError from problem


def chunks(path: Path) -> Iterator[Chunk]:
    """The parts of a file in order, at least one. Raises NotInChunksError, and TraceError for binary data in the midst of text."""
    try:
        yield from _of_parquet(path) if _begins(path, b"PAR1") else _of_text(path)
    except _UNREADABLE as problem:
        raise NotInChunksError from problem


_UNREADABLE = (OSError, EOFError, zlib.error, ValueError)  # ArrowInvalid is a ValueError


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():  # a pipe can be read once
        raise NotInChunksError
    return gzip.open(path, "rb") if _begins(path, _GZIP) else path.open("rb")  # type: ignore[return-value]


def _of_text(path: Path) -> Iterator[Chunk]:
    header = first = rest = b""
    lines = 0
    with _opened(path) as stream:
        while block := stream.read(CHUNK_BYTES) or rest:
            data = rest + block if block is not rest else rest
            cut = len(data) if block is rest else data.rfind(b"\n") + 1
            part, rest = data[:cut], data[cut:]
            if b"\0" in part:
                raise TraceError(f"{path}: line {lines + part[: part.index(0)].count(10) + 1} holds binary data; a trace is {KINDS}")
            if not header:
                part = part.removeprefix(BYTE_ORDER_MARK)
                header, first = _beginning(part)
                yield Chunk(Source(path, part, ""), 0)
            elif part.strip():
                yield Chunk(Source(path, header + first + part, "", lines_before=lines - 2), 1)
            elif len(rest) > _MOST_LINE_BYTES:
                raise NotInChunksError
            lines += part.count(b"\n")


def _beginning(part: bytes) -> tuple[bytes, bytes]:
    """The header and the first row of a CSV. Raises NotInChunksError for what is none, or has lines that end in another way."""
    found = [line for line in islice(BytesIO(part), _MOST_BLANK_LINES) if line.strip()][:2]
    if len(found) < 2 or found[0].lstrip()[:1] in (b"{", b"[") or part[:2] in (b"\xff\xfe", b"\xfe\xff") or part[:4] == b"PAR1":
        raise NotInChunksError
    return found[0], found[1]


def _rows_of_parquet(path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except pa.ArrowException as problem:  # not all of them are errors of other kinds
        raise NotInChunksError from problem


def _of_parquet(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, use_threads=False):
                if batch.num_rows:
                    yield Chunk(Source(path, b"PAR1", "", rows_before=rows, rows=pa.Table.from_batches([batch])), 0)
                rows += batch.num_rows
    except pa.ArrowException as problem:  # not all of them are errors of other kinds
        raise NotInChunksError from problem
