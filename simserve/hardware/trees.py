"""Gradient-boosted trees as plain integers: written at fit time, evaluated here with NumPy alone, readable by any JSON reader.

The features of a point are first replaced by their bin number (the count of bin edges below them), so that a tree is a few small
integers: node i sends a point to `left[i]` when bin <= `bin[i]`, else to `left[i] + 1`; a leaf has feature -1 and adds `value * SCALE`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.errors import ProfileError
from simserve.files.text import MOST_TEXT_BYTES, gunzip, read_bytes
from simserve.files.words import clipped, shown

FORMAT = "simserve-trees-1"
SCALE = 1e-4
"""Leaf values are natural-log factors in steps of 0.01 %."""

_LEAF_BIN = 1 << 30
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Trees:
    """An ensemble whose outputs add up to a natural-log factor.

    features  names of the columns of the feature matrix; edges[i] the ascending bin edges of column i
    feature, bin, left, value   one entry per node of all trees; roots: index of each tree's first node; depth: longest path
    """

    features: tuple[str, ...]
    edges: tuple[NDArray[np.float64], ...]
    feature: NDArray[np.int32]
    bin: NDArray[np.int32]
    left: NDArray[np.int32]
    value: NDArray[np.int32]
    roots: NDArray[np.int32]
    depth: int

    def log_factor(self, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """The summed trees for each point; `columns` holds at least every name in `features`, equally long."""
        points = len(next(iter(columns.values())))
        bins = np.empty((len(self.features), points), dtype=np.int32)
        for row, (name, edges) in enumerate(zip(self.features, self.edges, strict=True)):
            bins[row] = np.searchsorted(edges, columns[name], side="left")
        # Points that fall in the same bins everywhere have the same answer: a table over token counts has many of them.
        unique, inverse = np.unique(bins, axis=1, return_inverse=True)
        out = np.empty(unique.shape[1])
        step = max(1, _CHUNK // len(self.roots))
        for start in range(0, unique.shape[1], step):
            out[start : start + step] = self._walk(np.ascontiguousarray(unique[:, start : start + step]))
        return out[inverse.reshape(-1)] * SCALE

    def _walk(self, bins: NDArray[np.int32]) -> NDArray[np.int64]:
        points = bins.shape[1]
        flat = bins.reshape(-1)
        node = np.repeat(self.roots[:, None], points, axis=1)  # trees x points: neighbours share their path's nodes
        offset = np.arange(points, dtype=np.int32)[None, :]
        row_start = np.maximum(self.feature, 0) * points
        for _ in range(self.depth):
            seen = flat[row_start[node] + offset]
            node = self.left[node] + (seen > self.bin[node])
        total: NDArray[np.int64] = self.value[node].sum(axis=0, dtype=np.int64)
        return total

    def largest(self, names: Sequence[str]) -> NDArray[np.float64]:
        """The largest value of each feature that was measured: half a step of the grid beyond its last edge. NaN where it has no edge."""
        found = np.full(len(names), np.nan)
        for row, name in enumerate(names):
            edges = self.edges[self.features.index(name)] if name in self.features else np.empty(0)
            if len(edges):
                found[row] = edges[-1] + (edges[-1] - edges[-2]) / 2.0 if len(edges) > 1 else edges[-1]
        return found

    def document(self) -> dict[str, Any]:
        """The JSON form. A leaf's `left` is not written (it is the node itself)."""
        leaf = self.feature < 0
        return {
            "format": FORMAT,
            "features": list(self.features),
            "edges": [[float(f"{e:.9g}") for e in edges] for edges in self.edges],
            "depth": self.depth,
            "roots": np.diff(self.roots, prepend=0).tolist(),
            "feature": self.feature.tolist(),
            "bin": np.where(leaf, 0, self.bin).tolist(),
            "left": np.where(leaf, 0, self.left - np.arange(len(leaf))).tolist(),
            "value": self.value.tolist(),
        }


def from_document(document: dict[str, Any], where: str) -> Trees:
    """The ensemble of a JSON document. Raises ProfileError (naming `where`) when it is not one of this format."""
    if document.get("format") != FORMAT:
        raise ProfileError(f"{where}: format is {shown(document.get('format'))}, this version of simserve reads {FORMAT!r}")
    try:
        feature = np.array(document["feature"], dtype=np.int32)
        here = np.arange(len(feature), dtype=np.int32)
        leaf = feature < 0
        trees = Trees(
            tuple(document["features"]),
            tuple(np.array(e, dtype=np.float64) for e in document["edges"]),
            feature,
            np.where(leaf, _LEAF_BIN, np.array(document["bin"], dtype=np.int32)),
            np.where(leaf, here, here + np.array(document["left"], dtype=np.int32)),
            np.array(document["value"], dtype=np.int32),
            np.cumsum(document["roots"], dtype=np.int32),
            int(document["depth"]),
        )
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise ProfileError(f"{where}: not a complete {FORMAT} document ({clipped(str(error))})") from None
    sizes = {len(a) for a in (trees.feature, trees.bin, trees.left, trees.value)}
    if len(sizes) != 1 or len(trees.edges) != len(trees.features) or (len(feature) and trees.left.max() >= len(feature)):
        raise ProfileError(f"{where}: its node columns do not fit together")
    return trees


def write_document(path: Path, document: dict[str, Any]) -> str:
    """Write gzipped JSON, byte-identical for equal documents, and return its sha256 in hex."""
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = gzip.compress(text, compresslevel=9, mtime=0)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path, sha256: str) -> bytes:
    """A file of coefficients as it is. Raises ProfileError when it is missing, or not the file whose sha256 the profile states."""
    try:
        data = read_bytes(path, ProfileError, what="a file of coefficients", most_bytes=MOST_TEXT_BYTES)
    except ProfileError as error:
        raise ProfileError(f"cannot read a part of the hardware profile: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ProfileError(f"{path}: sha256 is {found[:12]}..., the profile expects {sha256[:12]}...; the file was changed or cut short")
    return data


def document_in(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON document in a file of coefficients. Raises ProfileError when it is damaged."""
    try:
        # Its sha256 says that it is as written: the guarded reader's repeated keys and long numbers are not looked for (and cost 10 ms).
        document = json.loads(gunzip(data, path, ProfileError, most_bytes=_MOST_EXPANDED_BYTES))
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: not a JSON file of coefficients ({clipped(str(error))})") from None
    if not isinstance(document, dict):
        raise ProfileError(f"{path}: found {shown(document)}, expected an object of coefficients")
    return document


_MOST_EXPANDED_BYTES = 2**30
"""Shipped coefficients expand to some MiB."""
