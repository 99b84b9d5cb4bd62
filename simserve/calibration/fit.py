"""Fits every operator found in the tables, with its error on rows the fit did not see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.calibration import split as splits
from simserve.calibration.errors import summary
from simserve.calibration.fit_curves import fit_curves
from simserve.calibration.fit_trees import fit_trees
from simserve.calibration.tables import IDENTITY, Tables
from simserve.hardware.curves import Curves
from simserve.hardware.device import Device
from simserve.hardware.operators import OPERATORS
from simserve.hardware.operators.base import Context, Operator
from simserve.hardware.schema import Check, ModelFile, OperatorEntry
from simserve.hardware.trees import Trees, write_document

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]
MIN_TREE_ROWS = 60
MIN_CURVE_ROWS = 4
FASTEST = 0.5
"""Times below this fraction of the physical bound are not believed."""
FAR, FAR_FRACTION = 150.0, 0.05
"""Disturbed measurements reach 100 times their neighbours; a fraction of rows further off means another unit (factors of 1,000)."""
UNDERFIT, MORE_ROUNDS = 2.5, 700
"""Decode attention whose own training rows are further off than this (percent) gets more rounds (half as many in a compact fit):
TensorRT-LLM's choice of how to split the keys flips from size to size. Seen on training rows split once more: 4.4 to 2.8 % at 700 rounds,
nothing on kernels already below."""

_CURVE_KEYS = ("num_gpus", "num_nodes", "gpus_per_node_used")


class Fitted(NamedTuple):
    """`entries` of a profile; by reason, the rows that were not used; and the check rows, predicted by the fit that did not see them.

    checks  columns operator, dtype, backend, kernel, heldout_kind (points or shapes), measured_s, predicted_s
    """

    entries: list[OperatorEntry]
    left_out: Counter[str]
    checks: list[pd.DataFrame]


class Effort(NamedTuple):
    """Size of a boosted ensemble: rounds x leaves bounds the coefficients in the profile."""

    rounds: int
    leaves: int
    learning_rate: float


def _effort(operator: str, rows: int) -> Effort:
    if operator == "elementwise":
        return Effort(60, 16, 0.2)
    if operator == "moe" and rows > 8000:
        return Effort(450, 64, 0.1)
    if rows < 1500:
        return Effort(150, 24, 0.12)
    return Effort(300, 48, 0.1)


def _compact(effort: Effort) -> Effort:
    """A third of the coefficients: on B200's NVFP4 multiplications 3.8 % instead of 3.7 on new points, 4.3 instead of 4.1 on new shapes."""
    return Effort(effort.rounds // 2, effort.leaves * 2 // 3, 1.5 * effort.learning_rate)


def fit_tables(tables: Tables, device: Device, folder: Path, stem: str, progress: Progress, *, compact: bool = False) -> Fitted:
    """Fit each (operator, dtype, kv_dtype, backend, kernel) and write its coefficients under `folder / stem`.

    compact  a third of the coefficients, at a few tenths of a percent of error
    """
    entries: list[OperatorEntry] = []
    checks: list[pd.DataFrame] = []
    left_out: Counter[str] = Counter()
    for name in sorted(tables.frames):
        operator = OPERATORS[name]
        frame = _plausible(operator, device, tables.frames[name], left_out)
        for key, group in frame.groupby(list(IDENTITY), observed=True, sort=True):
            identity = tuple(map(str, key))
            rows = _one_unit(operator, Context(device, *identity[1:3]), group.reset_index(drop=True), left_out)
            if rows.empty:
                continue
            # A collective moves bytes: NCCL's times for the same bytes of another type are measurements of the same curve.
            kin = frame[(frame["backend"] == identity[3]) & (frame["kernel"] == identity[4])] if _is_curve(operator, device) else rows
            fitted = _fit_group(operator, identity, rows, kin.reset_index(drop=True), device, folder / stem, compact)
            if fitted is None:
                needed = MIN_CURVE_ROWS if _is_curve(operator, device) else MIN_TREE_ROWS
                left_out[f"{_named(identity)}: too few measurements of one kernel to fit, {needed} needed"] += len(rows)
                continue
            entry, checked = fitted
            entries.append(entry)
            checks.append(checked)
            check = entry.check
            errors = ", ".join(f"{k} {e.mape_percent:.1f} %" for k, e in (("points", check.points), ("shapes", check.shapes)) if e)
            progress(f"{entry.operator} {entry.dtype} {entry.backend} {entry.kernel}: {entry.points} points, check error {errors or '-'}")
    return Fitted(entries, left_out, checks)


def _named(identity: tuple[str, ...]) -> str:
    """operator, types, backend and kernel of one fit, for a message."""
    return " ".join(dict.fromkeys(part for part in identity if part))


def _plausible(operator: Operator, device: Device, frame: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """Rows that the device can have produced; repeated measurements of the same thing become their median."""
    columns = list(operator.columns)
    identity = [c for c in IDENTITY if c != "operator"]
    keep = np.ones(len(frame), dtype=bool)
    for (dtype, kv_dtype), rows in frame.groupby(["dtype", "kv_dtype"], observed=True):
        context = Context(device, str(dtype), str(kv_dtype))
        bound = operator.bound_s(context, operator.arrays({c: rows[c].to_numpy() for c in columns}))
        keep[frame.index.get_indexer(rows.index)] = rows["seconds"].to_numpy() >= FASTEST * bound
    if not keep.all():
        left_out["faster than the device can be: another unit or another device?"] += int((~keep).sum())
    frame = frame[keep]
    key = ["operator", *identity, *columns]
    repeated = int(frame.duplicated(key).sum())
    if repeated:
        left_out["repeated measurements, merged into their median"] += repeated
        frame = frame.groupby(key, observed=True, sort=False, as_index=False).agg({"seconds": "median", "source": "first"})
    return frame.reset_index(drop=True)


def _is_curve(operator: Operator, device: Device) -> bool:
    one = operator.arrays({c: np.ones(1) for c in operator.columns})
    return not operator.features(Context(device, "bf16", ""), one)


def _fit_group(
    operator: Operator, key: tuple[str, ...], rows: pd.DataFrame, kin: pd.DataFrame, device: Device, folder: Path, compact: bool
) -> tuple[OperatorEntry, pd.DataFrame] | None:
    _, dtype, kv_dtype, backend, kernel = key
    context = Context(device, dtype, kv_dtype)
    is_curve = _is_curve(operator, device)
    if len(rows) < (MIN_CURVE_ROWS if is_curve else MIN_TREE_ROWS):
        return None
    part, kin_part = (_split(operator, r, is_curve) for r in (rows, kin))
    seen = kin[kin_part == splits.TRAIN]
    effort = _effort(operator.name, len(seen))
    effort = _compact(effort) if compact else effort
    fitted = _fit(operator, context, seen, is_curve, effort)
    if operator.name == "attention_decode" and _mape(seen["seconds"].to_numpy(), _predict(operator, context, fitted, seen)) > UNDERFIT:
        effort = effort._replace(rounds=MORE_ROUNDS // (1 + compact))
        fitted = _fit(operator, context, seen, is_curve, effort)
    measured = rows["seconds"].to_numpy()
    predicted = _predict(operator, context, fitted, rows)
    checked = part != splits.TRAIN
    check = Check(
        points=summary(measured[part == splits.POINTS], predicted[part == splits.POINTS]),
        shapes=summary(measured[part == splits.SHAPES], predicted[part == splits.SHAPES]),
    )
    residual = np.log(measured / predicted)[checked if checked.any() else np.ones(len(rows), dtype=bool)]
    final = _fit(operator, context, kin, is_curve, effort)
    file = f"{folder.name}/{_slug('-'.join(p for p in key if p))}.json.gz"
    sha256 = write_document(folder.parent / file, final.document())
    q05, q25, q50, q75, q95 = (round(float(q), 5) for q in np.quantile(residual, (0.05, 0.25, 0.5, 0.75, 0.95)))
    kind = np.where(part == splits.POINTS, "points", "shapes")
    shown = rows[["operator", "dtype", "backend", "kernel"]].assign(heldout_kind=kind, measured_s=measured, predicted_s=predicted)[checked]
    entry = OperatorEntry(
        operator=operator.name,
        dtype=dtype,
        kv_dtype=kv_dtype,
        backend=backend,
        kernel=kernel,
        model=ModelFile(kind="curves" if is_curve else "trees", revision=operator.revision, file=file, sha256=sha256),
        sources=tuple(sorted(set(rows["source"]))),
        points=len(rows),
        with_prefix="prefix_tokens" in rows and bool((rows["prefix_tokens"] > 0).any()),
        split=splits.DESCRIPTION,
        check=check,
        residual_log=(q05, q25, q50, q75, q95),
    )
    return entry, shown


def _one_unit(operator: Operator, context: Context, rows: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """The rows that can be measurements of one kernel in one unit: none of them when many are not."""
    arrays = operator.arrays({c: rows[c].to_numpy() for c in operator.columns})
    ratio = np.log(rows["seconds"].to_numpy() / operator.estimate_s(context, arrays))
    far = np.abs(ratio - np.median(ratio)) > np.log(FAR)
    if far.mean() > FAR_FRACTION:
        left_out["times of one kernel lie hundreds of times apart from what its sizes explain: mixed units?"] += len(rows)
        return rows[:0]
    if len(rows) >= MIN_TREE_ROWS and rows["seconds"].nunique() == 1:
        left_out["every size of one kernel has the same time"] += len(rows)
        return rows[:0]
    if far.any():
        left_out["hundreds of times slower or faster than the other sizes of its kernel"] += int(far.sum())
    near: pd.DataFrame = rows[~far].reset_index(drop=True)
    return near


def _split(operator: Operator, rows: pd.DataFrame, is_curve: bool) -> NDArray[np.int8]:
    part = splits.split(rows, operator.shape, list(operator.columns))
    if is_curve:
        part[part == splits.SHAPES] = splits.TRAIN  # a curve belongs to its topology: there is nothing to predict a new one from
        part[_ends(rows)] = splits.TRAIN
    return part


def _mape(measured_s: NDArray[np.float64], predicted_s: NDArray[np.float64]) -> float:
    return 100.0 * float(np.abs(predicted_s / measured_s - 1.0).mean())


def _fit(operator: Operator, context: Context, rows: pd.DataFrame, is_curve: bool, effort: Effort) -> Trees | Curves:
    if is_curve:
        return fit_curves(rows, _CURVE_KEYS, "message_bytes")
    arrays = operator.arrays({c: rows[c].to_numpy() for c in operator.columns})
    target = np.log(rows["seconds"].to_numpy() / operator.estimate_s(context, arrays))
    features = operator.features(context, arrays)
    return fit_trees(features, target, rounds=effort.rounds, leaves=effort.leaves, learning_rate=effort.learning_rate)


def _predict(operator: Operator, context: Context, fitted: Trees | Curves, rows: pd.DataFrame) -> NDArray[np.float64]:
    arrays = operator.arrays({c: rows[c].to_numpy() for c in operator.columns})
    if isinstance(fitted, Curves):
        seconds = fitted.seconds(arrays)
    else:
        seconds = operator.estimate_s(context, arrays) * np.exp(fitted.log_factor(operator.features(context, arrays)))
    out: NDArray[np.float64] = np.maximum(seconds, operator.bound_s(context, arrays))
    return out


def _ends(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """The smallest and largest size of each topology: a curve is not asked to predict outside what it was fitted on."""
    grouped = rows.groupby(list(_CURVE_KEYS), observed=True)["message_bytes"]
    size = rows["message_bytes"]
    out: NDArray[np.bool_] = ((size == grouped.transform("min")) | (size == grouped.transform("max"))).to_numpy()
    return out


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
