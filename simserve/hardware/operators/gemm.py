"""Matrix multiplication y[m, n] = x[m, k] w[k, n]: tiles of the output are spread over the SMs in waves.

Both quantisations are in the estimate and in the features: a tile that is partly outside the matrix costs as much as a whole one
(256 -> 257 rows), and so does the last, partly filled wave of tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2, waves

TILES = ((16, 64), (64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
"""Output tiles of cuBLAS and CUTLASS kernels that a library chooses between (rows, columns)."""

_TILE_EFFICIENCY = (0.32, 1.0, 1.0, 0.87, 0.94, 1.0, 1.0)
"""Fraction of the best tile's arithmetic rate; the smallest tile has 16 rows, as the smallest tensor-core instruction."""

_FEEDING_FLOPS_PER_BYTE = 150.0
"""Small tiles are slow because operands arrive slowly, not because they multiply slowly. Devices with less arithmetic for each byte of
memory bandwidth than this (H20: 37; A100, the lowest measured here: 153) lose less to them. An assumption; nothing measured is below."""

_PEAK_FRACTION = 0.83
_SPLIT_K = 2880.0
_SPLIT_GAIN = 1.14
_WAVE_S = 0.28e-6
_CHAIN_S = 6.3e-11
_SMOOTH = 2.25
"""Constants of the analytic estimate, found on bf16 tables of A100, H100 and H200 (their error there is in docs/cost-models.md):
fraction of peak reached inside a tile; the depth from which a matrix that leaves SMs idle is split along k, and what splitting gains;
seconds per wave; seconds per unit of depth; and the exponent with which compute and memory time overlap imperfectly."""


class _Format(NamedTuple):
    """What a number format costs beyond bf16: factors on compute and memory time, seconds per call, seconds per unit of depth, and
    bytes moved per activation element to quantise it."""

    compute: float = 1.0
    memory: float = 1.0
    call_s: float = 0.0
    chain_s: float = 0.0
    activation_bytes: float = 0.0


_FORMATS = {
    "fp8": _Format(1.16, 0.99, 4.8e-6, 3.1e-10, 8.5),
    "fp8_block128": _Format(1.32, 0.93, 1.2e-6, 6.5e-10, 5.7),
    "w8a8_int8": _Format(1.29, 0.80, 5.5e-6, 1.17e-9),
    "w8a8_int8_smoothquant": _Format(1.29, 0.80, 5.5e-6, 1.17e-9),
    "w8a16_int8": _Format(1.0, 0.80, 7.5e-6, 1.17e-9),
    "w4a16_int4": _Format(1.04, 0.82, 6.1e-6, 1.16e-9),
    "w4a8_int4": _Format(1.29, 0.80, 5.5e-6, 1.17e-9),
    "w4a4_int4": _Format(1.29, 0.80, 5.5e-6, 1.17e-9),
    "bf16_2of4": _Format(1.29, 1.0, 5.5e-6, 1.17e-9),
}
_FORMATS |= dict.fromkeys(("w4a4_nvfp4", "w4a4_mxfp4", "w4a8_mxfp4", "w8a8_mxfp8", "w4a8_fp8", "llm_int8"), _FORMATS["w8a8_int8"])
_FORMATS |= dict.fromkeys(("w4a16_nvfp4", "w4a16_nf4", "w3a16_int3", "w2a16_int2"), _FORMATS["w4a16_int4"])
_FORMATS["w8a16_fp8"] = _FORMATS["w8a16_int8"]
"""Found on the same tables as the constants above, each on the devices that have the format. Not measured: w4a8_int4, w4a4_int4,
bf16_2of4 and the formats below them: those that multiply in less than 16 bits are taken to be as far from their peaks as W8A8 is,
those of weights only as W4A16 and W8A16."""


def traffic_bytes(ctx: Context, c: Columns) -> F64:
    """Bytes read and written once: inputs in the compute type, weights in the stored type, outputs in 2 bytes."""
    weight = DTYPE_BYTES.get(ctx.dtype, 2.0)
    activation = 0.5 if ctx.dtype == "w4a4_int4" else 1.0 if ctx.dtype.startswith(("fp8", "w8a8", "w4a8")) else 2.0
    m, n, k = c["m"], c["n"], c["k"]
    return weight * n * k + activation * m * k + 2.0 * m * n


def _bound_s(ctx: Context, c: Columns) -> F64:
    compute = 2.0 * c["m"] * c["n"] * c["k"] / ctx.device.peak(ctx.dtype)
    cold = np.maximum(traffic_bytes(ctx, c) - ctx.device.l2_bytes, 0.0)
    return np.maximum(compute, cold / ctx.device.hbm_bytes_per_s)


def _tile_seconds(ctx: Context, c: Columns) -> F64:
    """Compute time of the best tile size with whole tiles and whole waves; few tiles are split along k over the idle SMs."""
    sms = ctx.device.sms
    per_sm = _PEAK_FRACTION * ctx.device.peak(ctx.dtype) / sms
    relief = max(1.0, _FEEDING_FLOPS_PER_BYTE * ctx.device.hbm_bytes_per_s / ctx.device.peak("bf16"))
    times = []
    for (rows, columns), fraction in zip(TILES, _TILE_EFFICIENCY, strict=True):
        efficiency = min(1.0, fraction * relief)
        tiles = np.ceil(c["m"] / rows) * np.ceil(c["n"] / columns)
        splits = np.minimum(np.maximum(1.0, np.floor(sms / tiles)), np.maximum(c["k"] / _SPLIT_K, 1.0))
        whole = waves(tiles, sms)[1]
        times.append(whole * (2.0 * rows * columns / (per_sm * efficiency) * c["k"] / splits**_SPLIT_GAIN + _WAVE_S))
    best: F64 = np.min(times, axis=0)
    return best


def padded_estimate_s(ctx: Context, c: Columns, rows: F64) -> F64:
    """The estimate where `rows` rows are multiplied and only m of them are read and written."""
    form = _FORMATS.get(ctx.dtype, _Format())
    memory = form.memory * traffic_bytes(ctx, c) / (ctx.device.hbm_share * ctx.device.hbm_bytes_per_s)
    compute = form.compute * _tile_seconds(ctx, {**c, "m": rows})
    busy = (compute**_SMOOTH + memory**_SMOOTH) ** (1.0 / _SMOOTH)
    quantising = form.activation_bytes * c["m"] * c["k"] / ctx.device.hbm_bytes_per_s
    return busy + ctx.device.launch_s + form.call_s + (_CHAIN_S + form.chain_s) * c["k"] + quantising


def _estimate_s(ctx: Context, c: Columns) -> F64:
    return padded_estimate_s(ctx, c, c["m"])


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    m, n, k = c["m"], c["n"], c["k"]
    flops, traffic = 2.0 * m * n * k, traffic_bytes(ctx, c)
    out = {
        "log_m": log2(m),
        "log_n": log2(n),
        "log_k": log2(k),
        "log_flops": log2(flops),
        "log_bytes": log2(traffic),
        "log_intensity": log2(flops / traffic),
        "log_weights": log2(n * k),
        "log_outputs": log2(m * n),
        "log_inputs": log2(m * k),
        "log_aspect": log2(n) - log2(m),
        "odd_m": m % 2,
        "compute_over_memory": log2(_tile_seconds(ctx, c) * ctx.device.hbm_bytes_per_s / traffic),
        "log_estimate": log2(_estimate_s(ctx, c)),
    }
    for rows, columns in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / columns)
        fractional, whole = waves(tiles, ctx.device.sms)
        name = f"{rows}x{columns}"
        out[f"log_tiles_{name}"] = log2(tiles)
        out[f"wave_fill_{name}"] = fractional / whole
        out[f"log_padding_{name}"] = log2(whole * ctx.device.sms * rows * columns / (m * n))
    for rows in (16, 32, 64, 128, 256):
        out[f"row_fill_{rows}"] = m / (np.ceil(m / rows) * rows)
    return out


def _ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    """Rows fill tiles of 16, the smallest that any matrix unit here has; inputs that are quantised first are read and written once more."""
    rows = np.ceil(c["m"] / 16.0) * 16.0
    quantised = 3.0 * c["m"] * c["k"] if ctx.dtype.startswith(("fp8", "w8a8", "w4a8")) else 0.0
    moved = (traffic_bytes(ctx, c) + quantised) / ctx.device.hbm_bytes_per_s
    return 2.0 * rows * c["n"] * c["k"] / ctx.device.peak(ctx.dtype), moved


GEMM = Operator("gemm", {"m": None, "n": None, "k": None}, ("n", "k"), _bound_s, _estimate_s, _features, _ideal_s)
