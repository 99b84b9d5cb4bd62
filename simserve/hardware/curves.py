"""Measured curves of seconds over message size, one per topology: what collectives and copies are modelled by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.errors import ProfileError
from simserve.files.words import clipped, shown

FORMAT = "simserve-curves-1"
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Piecewise-linear in (log size, log seconds). `keys` names the columns that choose a curve, e.g. (num_gpus, num_nodes).

    Below the first knot the time is flat; above the last it grows in proportion to size, at the last knot's bandwidth.
    """

    keys: tuple[str, ...]
    size_column: str
    curves: dict[tuple[float, ...], tuple[F64, F64]]

    def seconds(self, columns: dict[str, F64]) -> F64:
        """Seconds for each point. Raises ProfileError for a topology that no curve describes."""
        size = np.maximum(columns[self.size_column], 1.0)
        out = np.empty(len(size))
        which = np.stack([columns[k] for k in self.keys], axis=1)
        for key in np.unique(which, axis=0):
            curve = self.curves.get(tuple(float(v) for v in key))
            if curve is None:
                asked = ", ".join(f"{k}={v:g}" for k, v in zip(self.keys, key, strict=True))
                known = "; ".join(", ".join(f"{k}={v:g}" for k, v in zip(self.keys, c, strict=True)) for c in sorted(self.curves))
                raise ProfileError(f"no curve was measured for {asked}; measured: {known}")
            rows = (which == key).all(axis=1)
            knots, log_s = curve
            x = np.log(size[rows])
            beyond = np.maximum(x - knots[-1], 0.0)
            out[rows] = np.exp(np.interp(x, knots, log_s) + beyond)
        return out

    def has(self, **key: float) -> bool:
        """Whether a curve exists for exactly this topology."""
        return tuple(float(key[k]) for k in self.keys) in self.curves

    def document(self) -> dict[str, Any]:
        """The JSON form: sizes in bytes, times in microseconds, rounded to 5 digits."""
        return {
            "format": FORMAT,
            "keys": list(self.keys),
            "size_column": self.size_column,
            "curves": [
                {
                    "key": list(key),
                    "bytes": [round(float(np.exp(k))) for k in knots],
                    "us": [float(f"{np.exp(v) * 1e6:.5g}") for v in log_s],
                }
                for key, (knots, log_s) in sorted(self.curves.items())
            ],
        }


def from_document(document: dict[str, Any], where: str) -> Curves:
    """The curves of a JSON document. Raises ProfileError (naming `where`) when it is not one of this format."""
    if document.get("format") != FORMAT:
        raise ProfileError(f"{where}: format is {shown(document.get('format'))}, this version of simserve reads {FORMAT!r}")
    try:
        curves = {
            tuple(float(v) for v in c["key"]): (np.log(np.array(c["bytes"], dtype=np.float64)), np.log(np.array(c["us"]) * 1e-6))
            for c in document["curves"]
        }
        return Curves(tuple(document["keys"]), str(document["size_column"]), curves)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise ProfileError(f"{where}: not a complete {FORMAT} document ({clipped(str(error))})") from None
