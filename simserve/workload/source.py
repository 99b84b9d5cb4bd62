"""The bytes of a trace file: plain or gzip, checked and hashed before anything is parsed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from simserve.errors import TraceError


@dataclass(frozen=True, slots=True)
class Source:
    """A file read into memory: `data` is decompressed, `sha256` is of the file as it lies on disk."""

    path: Path
    data: bytes
    sha256: str

    @property
    def is_parquet(self) -> bool:
        return self.data[:4] == b"PAR1"

    def first_line(self) -> str:
        return self.data[:65536].lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def open_source(path: Path) -> Source:
    """Reads the file. Raises TraceError when it is missing, a folder, empty, a truncated gzip, or neither text nor Parquet."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise TraceError(f"{path}: no such trace file") from None
    except IsADirectoryError:
        raise TraceError(f"{path}: is a folder, a trace is a file") from None
    except OSError as e:
        raise TraceError(f"{path}: cannot be read ({e.strerror})") from None
    digest = hashlib.sha256(raw).hexdigest()
    data = raw
    if raw[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise TraceError(f"{path}: the gzip file is damaged or cut short ({e})") from None
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise TraceError(f"{path}: the file is empty")
    if data[:4] != b"PAR1" and b"\0" in data:
        line = data[: data.index(0)].count(10) + 1
        raise TraceError(f"{path}: line {line} holds binary data; a trace is CSV, JSONL or Parquet, plain or .gz")
    return Source(path, data, digest)
