"""Seconds of one operator on one device, from a fit or, where nothing was measured, from the analytic estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from simserve.errors import ProfileError
from simserve.hardware import curves, kept_factors, trees
from simserve.hardware.efficiency import Efficiency, Status
from simserve.hardware.operators.base import F64, Columns, Context, Operator
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
        return "assumed" if self.efficiency is None or self._foreign else self.efficiency.status

    @property
    def _foreign(self) -> bool:
        """Whether weights are 8 or 4-bit floats on a device without units for them, and its efficiency names no such format: kernels that
        widen them stand behind none of its points."""
        assert self.efficiency is not None
        dtype, peaks = self.context.dtype, self.context.device.peak_flops_per_s
        floats = self.operator.name in ("gemm", "moe") and ("fp8" in dtype or "fp4" in dtype)
        return floats and dtype not in self.efficiency.dtypes and not {"fp8", "fp4"} & set(peaks)

    @property
    def label(self) -> str:
        """`gemm bf16, vllm 0.24.0`, `gemm bf16 (fitted efficiency)` or `gemm bf16, roofline estimate`."""
        kv = f" kv {self.context.kv_dtype}" if self.context.kv_dtype not in ("", self.context.dtype) else ""
        what = f"{self.operator.name} {self.context.dtype}{kv}"
        if self.entry is not None:
            return f"{what}, {' '.join(p for p in (self.entry.backend, self.entry.kernel) if p)}"
        return f"{what}, roofline estimate" if self.efficiency is None else f"{what} ({self.status} efficiency)"

    @cached_property
    def _coefficients(self) -> bytes:
        """The file of coefficients as it lies on disk, of the digest that the profile states and for this revision of the operator."""
        assert self.entry is not None
        path = self.folder / self.entry.model.file
        data = trees.read_file(path, self.entry.model.sha256)
        made, known = self.entry.model.revision, self.operator.revision
        if self.entry.model.kind == "trees" and made != known:
            name = self.operator.name
            raise ProfileError(f"{path}: fitted with revision {made} of operator '{name}', this simserve has {known}; fit it again")
        return data

    @cached_property
    def _curves(self) -> curves.Curves | None:
        if self.entry is None or self.entry.model.kind != "curves":
            return None
        path = self.folder / self.entry.model.file
        return curves.from_document(trees.document_in(self._coefficients, path), str(path))

    @cached_property
    def _trees(self) -> trees.Trees:
        assert self.entry is not None
        path = self.folder / self.entry.model.file
        return trees.from_document(trees.document_in(self._coefficients, path), str(path))

    def _log_factor(self, entry: OperatorEntry, arrays: Columns) -> F64:
        features = self.operator.features(self.context, arrays)
        self._seen.update(dict.fromkeys(features))
        assert self._coefficients  # a file that was changed is an error, whatever is kept of it
        return kept_factors.log_factor(entry.model.sha256, features, lambda: self._trees.log_factor(features))

    def seconds(self, **columns: ArrayLike) -> F64:
        """Seconds of each row of `columns` (broadcast to equal length; see the operator's columns). Never below the physical bound.

        Raises ProfileError for missing or unknown columns, and for a topology that a measured curve does not cover.
        """
        arrays = self.operator.arrays(columns)
        bound = self.operator.bound_s(self.context, arrays)
        if self.entry is None and self.efficiency is not None:
            predicted = self.efficiency.seconds(self.context, arrays)
        elif self.entry is None:
            predicted = self.operator.estimate_s(self.context, arrays)
        elif self._curves is not None:
            predicted = self._curves.seconds(arrays)
        else:
            factor = np.exp(self._log_factor(self.entry, arrays))
            predicted = self.operator.estimate_s(self.context, arrays) * factor
        out: F64 = np.maximum(predicted, bound)
        return out

    @cached_property
    def _seen(self) -> dict[str, None]:
        """Names of the features that were asked for."""
        return {}

    @property
    def reach(self) -> dict[str, float]:
        """Of each feature that is the logarithm of a size, the largest size that was measured; empty for curves, for estimates and where
        nothing was asked yet.

        Trees know it to half a step of the grid: their last edge lies between the two largest sizes, and beyond it one factor holds.
        """
        names = tuple(name for name in self._seen if name.startswith("log_"))
        if self.entry is None or self.entry.model.kind != "trees" or not names:
            return {}
        largest = kept_factors.largest(self.entry.model.sha256, names, lambda: self._trees.largest(names))
        return {name: float(2.0**size) for name, size in zip(names, largest, strict=True) if not math.isnan(size)}

    def covers(self, **key: float) -> bool:
        """Whether a measured curve exists for this topology (always true for the other kinds)."""
        return self._curves is None or self._curves.has(**key)
