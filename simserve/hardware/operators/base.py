"""What the library knows of an operator before any measurement: its inputs, its work, its physical bound and a first estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simserve.errors import ProfileError
from simserve.hardware.device import Device

F64 = NDArray[np.float64]
Columns = Mapping[str, F64]


class Context(NamedTuple):
    """What is fixed for one fitted model: the device and the types it computes in and stores its KV cache in."""

    device: Device
    dtype: str
    kv_dtype: str


@dataclass(frozen=True)
class Operator:
    """One kind of kernel. All functions take equally long float64 columns and are vectorised.

    columns    inputs that must be given, with their defaults where they may be left out (None = required)
    shape      the columns that make a "shape" (weights or head layout): whole shapes are held out when a fit is checked
    bound_s    seconds no implementation can beat: peak FLOP/s, and the HBM traffic that cannot hide in the L2 cache
    estimate_s the analytic estimate, used where nothing was measured and as the starting point of a fit
    features   what a fit may look at, by name
    ideal_s    seconds of the arithmetic at the device's peak, and of moving the bytes at full bandwidth: what an `Efficiency` starts from
    """

    name: str
    columns: dict[str, float | None]
    shape: tuple[str, ...]
    bound_s: Callable[[Context, Columns], F64]
    estimate_s: Callable[[Context, Columns], F64]
    features: Callable[[Context, Columns], dict[str, F64]]
    ideal_s: Callable[[Context, Columns], tuple[F64, F64]] | None = None
    revision: int = 1
    """Raised when the estimate or the features change: a fit made with another revision cannot be used."""

    def arrays(self, given: Mapping[str, ArrayLike]) -> dict[str, F64]:
        """The inputs as equally long float64 arrays, defaults filled in. Raises ProfileError for missing or unknown columns."""
        unknown = set(given) - set(self.columns)
        missing = [c for c, default in self.columns.items() if default is None and c not in given]
        if unknown or missing:
            problem = f"lacks {', '.join(missing)}" if missing else f"does not take {', '.join(sorted(unknown))}"
            raise ProfileError(f"operator '{self.name}' {problem}; its columns are {', '.join(self.columns)}")
        filled = [np.asarray(given.get(c, default), dtype=np.float64) for c, default in self.columns.items()]
        return dict(zip(self.columns, np.broadcast_arrays(*[np.atleast_1d(a) for a in filled]), strict=True))


def log2(x: F64) -> F64:
    """log2 with zero mapped to zero, so that "none" (no prefix, no window) is a value of its own at the low end."""
    return np.log2(np.maximum(x, 1e-30)) * (x > 0)


def waves(tiles: F64, sms: int) -> tuple[F64, F64]:
    """Thread-block waves over the device, fractional and rounded up: the last, partly filled wave takes as long as a full one."""
    fractional = tiles / sms
    return fractional, np.ceil(fractional)
