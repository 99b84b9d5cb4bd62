"""Seconds of one operator on one device, from a fit or, where nothing was measured, from the analytic estimate."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from simserve.errors import ProfileError
from simserve.hardware import curves, trees
from simserve.hardware.efficiency import Efficiency, Status
from simserve.hardware.operators.base import F64, Context, Operator
from simserve.hardware.schema import OperatorEntry


@dataclass(frozen=True)
class KernelModel:
    """One operator in one data type by one backend.

    `validated` is False when there is no measurement behind it; `entry` then is None and `seconds` the analytic estimate, or what an
    `efficiency` of the profile says.
    """

    operator: Operator
    context: Context
    entry: OperatorEntry | None = None
    folder: Path = field(default=Path())
    efficiency: Efficiency | None = None

    @property
    def validated(self) -> bool:
        """Whether measurements stand behind `seconds`."""
        return self.status == "measured"

    @property
    def status(self) -> Status:
        """How far to believe `seconds`: `measured` for tables, what an efficiency says of itself, `assumed` for the analytic estimate."""
        if self.entry is not None:
            return "measured"
        return "assumed" if self.efficiency is None else self.efficiency.status

    @property
    def label(self) -> str:
        """`gemm bf16, vllm 0.24.0`, `gemm bf16, fitted efficiency` or `gemm bf16, roofline estimate`."""
        kv = f" kv {self.context.kv_dtype}" if self.context.kv_dtype not in ("", self.context.dtype) else ""
        if self.entry is not None:
            by = " ".join(p for p in (self.entry.backend, self.entry.kernel) if p)
        else:
            by = "roofline estimate" if self.efficiency is None else f"{self.efficiency.status} efficiency"
        return f"{self.operator.name} {self.context.dtype}{kv}, {by}"

    @cached_property
    def _fit(self) -> trees.Trees | curves.Curves | None:
        if self.entry is None:
            return None
        path = self.folder / self.entry.model.file
        document = trees.read_document(path, self.entry.model.sha256)
        if self.entry.model.kind == "curves":
            return curves.from_document(document, str(path))
        fit = trees.from_document(document, str(path))
        made, known = self.entry.model.revision, self.operator.revision
        if made != known:
            name = self.operator.name
            raise ProfileError(f"{path}: fitted with revision {made} of operator '{name}', this simserve has {known}; fit it again")
        return fit

    def seconds(self, **columns: ArrayLike) -> F64:
        """Seconds of each row of `columns` (broadcast to equal length; see the operator's columns). Never below the physical bound.

        Raises ProfileError for missing or unknown columns, and for a topology that a measured curve does not cover.
        """
        arrays = self.operator.arrays(columns)
        bound = self.operator.bound_s(self.context, arrays)
        fit = self._fit
        if fit is None and self.efficiency is not None:
            predicted = self.efficiency.seconds(self.context, arrays)
        elif fit is None:
            predicted = self.operator.estimate_s(self.context, arrays)
        elif isinstance(fit, curves.Curves):
            predicted = fit.seconds(arrays)
        else:
            factor = np.exp(fit.log_factor(self.operator.features(self.context, arrays)))
            predicted = self.operator.estimate_s(self.context, arrays) * factor
        out: F64 = np.maximum(predicted, bound)
        return out

    def covers(self, **key: float) -> bool:
        """Whether a measured curve exists for this topology (always true for the other kinds)."""
        return not isinstance(self._fit, curves.Curves) or self._fit.has(**key)
