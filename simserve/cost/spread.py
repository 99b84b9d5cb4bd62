"""How far off the time of an operator may be, as a whole: what `simserve run --intervals` draws from, and operators with a drawn error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simserve.hardware.kernel_model import KernelModel

F64 = NDArray[np.float64]

_TWO_Z95 = 2 * 1.6449
"""Standard deviations between the 5 % and the 95 % quantile of a normal distribution."""

_SMALLEST = 0.01
"""Repeated measurements of one kernel scatter by about a per cent, however well a fit does on a handful of rows."""

UNVALIDATED_SPREAD = {"gemm": 0.2, "attention_prefill": 0.35, "attention_decode": 0.45, "elementwise": 0.5, "mla": 0.7, "moe": 0.7}
"""Standard deviation of ln(true / estimated) of an analytic estimate: the errors that the estimates have where there are measurements to
hold them against (docs/cost-models.md: GEMM 8 to 25 %, attention 15 to 41 %, experts and MLA 30 to 80 %), on the wide side."""

_ANY_OTHER = 0.5

_OF_MEAN = 1.2533
"""Standard deviation of a normal distribution relative to its mean absolute deviation, sqrt(pi / 2)."""


def spread_log(model: KernelModel) -> float:
    """Standard deviation of ln(true / predicted) of one operator: from the check residuals of its entry (half the distance of their 5 %
    and 95 % quantiles, in standard deviations), from the stated mean error of an efficiency, or the stated one of an estimate."""
    if model.efficiency is not None and model.status != "assumed" and model.efficiency.error_percent is not None:
        return max(_OF_MEAN * model.efficiency.error_percent / 100.0, _SMALLEST)
    if model.entry is None:
        return UNVALIDATED_SPREAD.get(model.operator.name, _ANY_OTHER)
    quantiles = model.entry.residual_log
    return max((quantiles[-1] - quantiles[0]) / _TWO_Z95, _SMALLEST)


@dataclass(frozen=True)
class ScaledKernel(KernelModel):
    """`kernel` with all its times multiplied by `factor`, though never below the physical bound."""

    kernel: KernelModel | None = None
    factor: float = 1.0

    @staticmethod
    def of(kernel: KernelModel, factor: float) -> ScaledKernel:
        """The kernel, scaled."""
        own = (kernel.operator, kernel.context, kernel.entry, kernel.folder, kernel.efficiency)
        return ScaledKernel(*own, kernel=kernel, factor=factor)

    def seconds(self, **columns: ArrayLike) -> F64:
        """As of `kernel`, scaled."""
        assert self.kernel is not None
        bound = self.operator.bound_s(self.context, self.operator.arrays(columns))
        scaled: F64 = np.maximum(self.factor * self.kernel.seconds(**columns), bound)
        return scaled

    def covers(self, **key: float) -> bool:
        """As of `kernel`."""
        assert self.kernel is not None
        return self.kernel.covers(**key)
