"""The bytes and the text of a file. Missing, a folder, too large, expanding without end, not text: each is said, none is thrown."""

from __future__ import annotations

import zlib
from pathlib import Path

from simserve.errors import SimserveError

MOST_TEXT_BYTES = 64 * 2**20
"""A configuration or a result is kilobytes; what is larger than this is another kind of file."""

MOST_DATA_BYTES = 16 * 2**30
"""Traces and tables: more does not fit into the memory of the machines this runs on."""

_PIECE = 2**20


def read_bytes(path: Path, error: type[SimserveError], *, what: str = "a file", most_bytes: int = MOST_DATA_BYTES) -> bytes:
    """The content of a file. `what` is expected ("a YAML file"). Raises `error` when it is missing, not a file, unreadable or too large."""
    try:
        if path.is_dir():
            raise error(f"{path}: is a directory; {what} is needed")
        if not path.is_file() and path.exists():  # a pipe or a device may never end
            with path.open("rb") as stream:
                raw = stream.read(most_bytes + 1)
        else:
            size = path.stat().st_size
            raw = path.read_bytes() if size <= most_bytes else b""
            if size > most_bytes:
                raise error(f"{path}: {_size(size)}; {what} has at most {_size(most_bytes)}")
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        raise error(f"{path}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    if len(raw) > most_bytes:
        raise error(f"{path}: more than {_size(most_bytes)}; {what} is needed")
    return raw


def read_text(path: Path, error: type[SimserveError], *, what: str = "a text file", most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, a byte order mark dropped. Raises `error` as `read_bytes`, and for bytes that are not such text."""
    return decoded(read_bytes(path, error, what=what, most_bytes=most_bytes), path, error, what=what)


def decoded(raw: bytes, path: Path, error: type[SimserveError], *, what: str = "a text file") -> str:
    """Bytes as UTF-8 text. Raises `error` naming the line."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(10) + 1
        raise error(f"{path}: line {line}: not a text file in UTF-8 (byte {problem.start}); {what} is needed") from None
    if "\0" in text:
        raise error(f"{path}: a binary file; {what} is needed")
    return text


def gunzip(raw: bytes, path: Path, error: type[SimserveError], *, most_bytes: int = MOST_DATA_BYTES) -> bytes:
    """What a gzip file holds, all its members. Raises `error` when it is damaged, cut short, or holds more than `most_bytes`."""
    parts: list[bytes] = []
    total = 0

    def keep(piece: bytes) -> None:
        nonlocal total
        parts.append(piece)
        total += len(piece)
        if total > most_bytes:
            raise error(f"{path}: expands to more than {_size(most_bytes)}; unpack it and take a part of it")

    stream = zlib.decompressobj(wbits=31)
    try:
        for at in range(0, len(raw), _PIECE):  # in pieces: what is left of the input is copied with every call
            rest = raw[at : at + _PIECE]
            while rest:
                if stream.eof:  # another member; padding between members is allowed
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    stream = zlib.decompressobj(wbits=31)
                keep(stream.decompress(rest, _PIECE))
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
        while not stream.eof and (piece := stream.decompress(b"", _PIECE)):
            keep(piece)
    except zlib.error as problem:
        raise error(f"{path}: the gzip file is damaged or cut short ({problem})") from None
    if not stream.eof:
        raise error(f"{path}: the gzip file is damaged or cut short")
    return b"".join(parts)


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"
