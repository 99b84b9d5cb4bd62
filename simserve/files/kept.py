"""What is kept on disk from one process to the next, by a key of everything that it is computed from. It is never needed.

What lies in its place and is not as it was written counts as nothing; a folder that cannot be written keeps nothing. A file
is written apart and renamed, so that several processes may use the folder at once; the oldest go when there are too many.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MOST_FILES = 2000
"""Of a few kilobytes each: a study of a dozen models on a dozen devices makes some hundred."""

_DIGEST_BYTES = 16


def cache_folder(name: str) -> Path:
    """`$SIMSERVE_CACHE/name`, or `$XDG_CACHE_HOME/simserve/name`, or the same under `~/.cache`. May not exist yet.

    Raises RuntimeError where there is no home.
    """
    own = os.environ.get("SIMSERVE_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simserve"
    return base / name


class Kept:
    """Pieces of bytes, by name of the folder in the cache."""

    def __init__(self, name: str, most_files: int = MOST_FILES) -> None:
        self._name = name
        self._most_files = most_files

    def get(self, key: str) -> bytes | None:
        """What is kept under a key (hex digits), None when it is not known."""
        try:
            data = (cache_folder(self._name) / key).read_bytes()
        except (OSError, RuntimeError):
            return None
        body = data[_DIGEST_BYTES:]
        return body if data[:_DIGEST_BYTES] == _digest(key, body) else None

    def put(self, key: str, body: bytes) -> None:
        """Keeps it, if that is possible."""
        with contextlib.suppress(OSError, RuntimeError):
            folder = cache_folder(self._name)
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f"{key}.{os.getpid()}.part"
            try:
                part.write_bytes(_digest(key, body) + body)
                part.replace(folder / key)
            finally:
                part.unlink(missing_ok=True)
            self._forget(folder)

    def _forget(self, folder: Path) -> None:
        files = list(folder.iterdir())
        if len(files) <= self._most_files:
            return
        ages = []
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # another process forgets too
                ages.append((file.stat().st_mtime_ns, file))
        for _, file in sorted(ages)[: len(files) - self._most_files * 3 // 4]:
            file.unlink(missing_ok=True)


class KeptArrays:
    """Arrays of float64 in one dimension, by name of the folder in the cache."""

    def __init__(self, name: str, most_files: int = MOST_FILES) -> None:
        self._kept = Kept(name, most_files)

    def get(self, key: str) -> NDArray[np.float64] | None:
        """The array of a key (hex digits), None when it is not known."""
        body = self._kept.get(key)
        return None if body is None or len(body) % 8 else np.frombuffer(body, dtype="<f8").astype(np.float64)

    def put(self, key: str, values: NDArray[np.float64]) -> None:
        """Keeps an array, if that is possible."""
        self._kept.put(key, values.astype("<f8").tobytes())


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + body, digest_size=_DIGEST_BYTES).digest()
