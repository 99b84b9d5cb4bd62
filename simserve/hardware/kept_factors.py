"""What trees answer for the points of a cost table, kept between processes: evaluating them is most of the time in which a run starts."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simserve.files.kept import KeptArrays
from simserve.hardware import trees

F64 = NDArray[np.float64]

KEPT = KeptArrays("trees")


def log_factor(sha256: str, features: Mapping[str, F64], evaluate: Callable[[], F64]) -> F64:
    """The natural-log factors of the points with these features by the trees whose file has this digest; `evaluate` finds them where they
    are not known. The answer depends on the file, on the points and on the code that evaluates trees, and the key has all three."""
    return _kept(sha256, [part for name, column in features.items() for part in (f" {name} {len(column)} ", column)], evaluate)


def largest(sha256: str, names: Sequence[str], evaluate: Callable[[], F64]) -> F64:
    """The largest values of these features by the trees whose file has this digest, kept likewise."""
    return _kept(sha256, ["largest", *(f" {name}" for name in names)], evaluate)


def _kept(sha256: str, question: Iterable[str | F64], evaluate: Callable[[], F64]) -> F64:
    try:
        digest = hashlib.sha256(f"{sha256} {_code()}".encode())
    except OSError:  # without source, as from an archive
        return evaluate()
    for part in question:
        digest.update(part.encode() if isinstance(part, str) else part.astype("<f8").tobytes())
    key = digest.hexdigest()[:40]
    known = KEPT.get(key)
    if known is None:
        known = evaluate()
        KEPT.put(key, known)
    return known


@functools.lru_cache(maxsize=1)
def _code() -> str:
    return hashlib.sha256(Path(trees.__file__).read_bytes()).hexdigest()
