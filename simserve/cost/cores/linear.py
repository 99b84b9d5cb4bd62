"""Linear operators whose rows are padded to whole tiles: in memory, or on chip only (XY-Serve's SmoothGEMM, arXiv 2412.18106)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simserve.cost.kernels import KernelChoice
from simserve.hardware.operators.base import Context
from simserve.hardware.operators.gemm import padded_estimate_s
from simserve.model.operators import Gemm, Operator

F64 = NDArray[np.float64]

_ACTIVATION_BYTES = 2.0


def linear_seconds(kernels: KernelChoice, dtype: str, m: F64, n: F64, k: F64, tile_rows: F64) -> F64:
    """Seconds of matrix multiplications under the options' padding; `tile_rows` of each row.

    none      the kernel over m rows, however it pads
    physical  the kernel over rows up to whole tiles, and copies into and out of padded tensors: m x k read and written with the padding,
              m x n back, two launches. Row counts that are whole tiles are copied too, so that more rows never take less time
    virtual   the same arithmetic, but only m rows are read and written: the kernel over the padded rows, times what the estimate says of
              the traffic that is saved
    """
    padding = kernels.options.padding
    if padding == "none":
        return kernels.gemm_seconds(dtype, m, n, k)
    rows = np.ceil(m / tile_rows) * tile_rows
    whole = kernels.gemm_seconds(dtype, rows, n, k)
    device = kernels.profile.device
    if padding == "physical":
        moved = _ACTIVATION_BYTES * (m + rows) * (k + n)
        copies = moved / (device.hbm_share * device.hbm_bytes_per_s) + 2.0 * device.launch_s
        return whole + copies
    context = Context(device, dtype, "")
    columns = {"m": m, "n": n, "k": k}
    lean, full = padded_estimate_s(context, columns, rows), padded_estimate_s(context, {**columns, "m": rows}, rows)
    kernels.assume("linear operators padded on chip (SmoothGEMM)")
    return whole * lean / full


def tile_rows(kernels: KernelChoice, operators: Iterable[Operator], dtype: str, n: F64, k: F64) -> F64:
    """Rows of the tiles of matrices (n, k): those of the operator with this shape (of several, the first one's)."""
    tiles = kernels.options.linear_tiles
    rows: dict[tuple[float, float], int] = {}
    for op in operators:
        if isinstance(op, Gemm) and op.dtype == dtype:
            rows.setdefault((op.n, op.k), tiles.of(op.name))
    return np.array([rows.get(shape, tiles.other) for shape in zip(n.tolist(), k.tolist(), strict=True)], dtype=np.float64)
