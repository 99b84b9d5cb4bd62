"""How well a profile predicts measured tables: errors by group, the rows that could not be compared, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.calibration.tables import IDENTITY, read_tables
from simserve.errors import ConfigError, nearest
from simserve.hardware.kernel_model import KernelModel
from simserve.hardware.operators import OPERATORS
from simserve.hardware.operators.base import Context
from simserve.hardware.profile import HardwareProfile

if TYPE_CHECKING:
    import pandas as pd

GROUP = ("operator", "dtype", "backend", "heldout_kind")


@dataclass(frozen=True, slots=True)
class KernelValidation:
    """One row per comparable measurement in `rows`: GROUP, kernel, measured_s, predicted_s, and the work of the row in `bound_s`.

    unreadable  files that could not be read, with the reason
    """

    profile: str
    tables: Path
    rows: pd.DataFrame
    skipped: Counter[tuple[str, str, str, str]]
    skipped_reasons: Counter[str]
    unreadable: dict[str, str] = field(default_factory=dict)

    def groups(self) -> list[dict[str, Any]]:
        """Error by (operator, dtype, backend, heldout_kind): rows, skipped, mape_percent, p90_percent, worst_percent, bias_percent."""
        out: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        for key, rows in self.rows.groupby(list(GROUP), observed=True):
            ratio = rows["predicted_s"].to_numpy() / rows["measured_s"].to_numpy()
            error = 100.0 * np.abs(ratio - 1.0)
            operator, dtype, backend, kind = map(str, key)
            out[operator, dtype, backend, kind] = {
                "rows": len(rows),
                "mape_percent": round(float(error.mean()), 3),
                "p90_percent": round(float(np.quantile(error, 0.9)), 3),
                "worst_percent": round(float(error.max()), 3),
                "bias_percent": round(100.0 * float(np.expm1(np.log(ratio).mean())), 3),
            }
        empty = {"rows": 0, "mape_percent": None, "p90_percent": None, "worst_percent": None, "bias_percent": None}
        return [
            dict(zip(GROUP, key, strict=True)) | {"skipped": self.skipped.get(key, 0)} | out.get(key, empty)
            for key in sorted({*out, *self.skipped})
        ]

    def document(self) -> dict[str, Any]:
        """What `simserve validate kernels --json` prints."""
        return {
            "profile": self.profile,
            "tables": str(self.tables),
            "groups": self.groups(),
            "skipped_reasons": dict(sorted(self.skipped_reasons.items())),
            "unreadable_files": self.unreadable,
        }


def validate_kernels(
    profile: HardwareProfile,
    folder: Path,
    *,
    analytic: bool = False,
    backend: str | None = None,
    only: frozenset[str] | None = None,
) -> KernelValidation:
    """Predict every usable row of the tables in `folder` with the profile's model of the same operator, types, backend and kernel.

    analytic  compare the analytic estimates instead (what a device without measurements gets)
    backend   transfer: predict with the models of this backend (`vllm` or `vllm 0.24.0`) what all other backends measured
    only      these operators (None = all)
    Raises ConfigError for an unreadable or incomplete table, a backend that the profile does not have, or both of the first two options.
    """
    import pandas as pd

    if backend is not None:
        _check_backend(profile, backend, analytic)

    unreadable: dict[str, str] = {}
    tables = read_tables(folder, only, unreadable)
    parts: list[pd.DataFrame] = []
    skipped, reasons = Counter(tables.skipped_groups), Counter(tables.skipped)
    for name, frame in sorted(tables.frames.items()):
        for key, rows in frame.groupby(list(IDENTITY), observed=True):
            _, dtype, kv_dtype, measured_by, kernel = map(str, key)
            if backend is None:
                model, reason = _model(profile, name, dtype, kv_dtype, measured_by, kernel, analytic=analytic)
            else:
                model, reason = _other_model(profile, name, dtype, kv_dtype, measured_by, backend)
            known = rows.iloc[:0]
            if model is not None:
                covered, reason = _covered(model, rows)
                known = rows[covered]
            missing = rows.drop(known.index)
            if len(missing):
                reasons[reason] += len(missing)
                skipped.update(zip(*[missing[c] for c in GROUP], strict=True))
            if model is not None and len(known):
                columns = {c: known[c].to_numpy() for c in OPERATORS[name].columns}
                bound = model.operator.bound_s(model.context, model.operator.arrays(columns))
                part = known[[*GROUP, "kernel", "file"]]
                parts.append(part.assign(measured_s=known["seconds"], predicted_s=model.seconds(**columns), bound_s=bound))
    columns_out = [*GROUP, "kernel", "file", "measured_s", "predicted_s", "bound_s"]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns_out)
    return KernelValidation(profile.name, folder, rows, skipped, reasons, unreadable)


def _model(
    profile: HardwareProfile, operator: str, dtype: str, kv_dtype: str, backend: str, kernel: str, *, analytic: bool
) -> tuple[KernelModel | None, str]:
    if analytic:
        return KernelModel(OPERATORS[operator], Context(profile.device, dtype, kv_dtype)), ""
    for model in profile.candidates(operator, dtype, backend, kv_dtype=kv_dtype, kernel=kernel):
        if model.entry is not None and (model.entry.dtype, model.entry.kv_dtype, model.entry.backend) == (dtype, kv_dtype, backend):
            return model, ""
    return None, "the profile has no model of this operator, type, backend and kernel"


def _check_backend(profile: HardwareProfile, backend: str, analytic: bool) -> None:
    if analytic:
        raise ConfigError("--analytic has no backend; leave one of --analytic and --backend out")
    known = {e.backend for e in profile.entries()}
    if backend not in known | {b.split()[0].lower() for b in known}:
        raise ConfigError(f"profile '{profile.name}' has no measurements of backend '{backend}'{nearest(backend, known)}")


def _other_model(
    profile: HardwareProfile, operator: str, dtype: str, kv_dtype: str, measured_by: str, backend: str
) -> tuple[KernelModel | None, str]:
    """What `backend` would take for what `measured_by` measured; the two must differ, or it would be no transfer."""
    if backend in (measured_by, measured_by.split()[0].lower()):
        return None, "measured by the backend that predicts"
    found = profile.candidates(operator, dtype, backend, kv_dtype=kv_dtype)
    return (found[0], "") if found else (None, "the profile has no model of this operator and type by that backend")


def _covered(model: KernelModel, rows: pd.DataFrame) -> tuple[Any, str]:
    """Rows inside what the model was measured on, and what the others lack."""
    entry = model.entry
    if entry is not None and "prefix_tokens" in model.operator.columns and not entry.with_prefix:
        return (rows["prefix_tokens"] == 0).to_numpy(), "cached prefix, and the model was measured without"
    if "gpus_per_node_used" not in model.operator.columns:
        return np.ones(len(rows), dtype=bool), ""
    keys = list(zip(rows["num_gpus"], rows["num_nodes"], rows["gpus_per_node_used"], strict=True))
    known = {k: model.covers(num_gpus=k[0], num_nodes=k[1], gpus_per_node_used=k[2]) for k in set(keys)}
    return np.array([known[k] for k in keys]), "no curve of this topology"
