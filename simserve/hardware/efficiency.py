"""What operators reach of a device's peak and bandwidth, as few stated numbers: for devices without tables of measurements.

A profile with tables (`OperatorEntry`) times kernels from them. Where only a handful of points is public, an `Efficiency` says what an
operator reaches and what its smallest call takes, and how far to believe that: measured, fitted or assumed.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.hardware.operators import OPERATORS
from simserve.hardware.operators.base import F64, Columns, Context

Status = Literal["measured", "fitted", "assumed"]
"""measured: the numbers follow from measurements of this operator on this device (or its twin, if the source says so).
fitted: learned from serving runs as a whole, within `bounds`. assumed: nothing of this device stands behind them."""

_OVERLAP = 2.0
"""Exponent with which arithmetic and memory traffic overlap imperfectly; measured GEMM tables of A100, H100 and H200 have 2.25."""


class Bounds(BaseModel):
    """Between which values the fit of a serving run may put a number, and why no further."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameter: Literal["compute_fraction", "bandwidth_fraction", "floor_s"]
    low: float = Field(ge=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class Efficiency(BaseModel):
    """Seconds of one operator as sqrt((arithmetic / compute_fraction)^2 + (traffic / bandwidth_fraction)^2) + floor_s.

    operator            a name of `simserve.hardware.operators`
    dtypes              formats it holds for; empty = all that no other entry names
    compute_fraction    of the peak of the format's arithmetic, 0 to 1
    bandwidth_fraction  of the memory bandwidth, or of the link's for communication; above 1 where several paths are used at once
    floor_s             seconds of the smallest call: its kernels in a graph, with those that always come with it
    status              see `Status`
    bounds              of fitted numbers: at least one is stated
    error_percent       mean absolute error: on its points (measured), or of the runs of models left out of the fit (fitted)
    source              where the numbers come from
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operator: str
    dtypes: tuple[str, ...] = ()
    compute_fraction: float = Field(default=1.0, gt=0, le=1)
    bandwidth_fraction: float = Field(default=1.0, gt=0, le=2)
    floor_s: float = Field(default=0.0, ge=0, le=1e-2)
    status: Status
    bounds: tuple[Bounds, ...] = ()
    error_percent: float | None = Field(default=None, ge=0)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = OPERATORS.get(self.operator)
        if known is None or known.ideal_s is None:
            may = sorted(name for name, operator in OPERATORS.items() if operator.ideal_s is not None)
            raise ValueError(f"operator is '{self.operator}', it must be one of {', '.join(may)}")
        if self.status == "fitted" and not self.bounds:
            raise ValueError("a fitted efficiency states the bounds of what was fitted")
        if self.status != "assumed" and self.error_percent is None:
            raise ValueError(f"a {self.status} efficiency states its error_percent")
        for bound in self.bounds:
            value = getattr(self, bound.parameter)
            if not bound.low <= value <= bound.high:
                raise ValueError(f"{bound.parameter} {value:g} is outside its bounds {bound.low:g} to {bound.high:g}")
        return self

    def seconds(self, context: Context, columns: Columns) -> F64:
        """Seconds of each row of the operator's columns."""
        ideal = OPERATORS[self.operator].ideal_s
        assert ideal is not None  # checked when it was read
        compute, moved = ideal(context, columns)
        busy = (compute / self.compute_fraction) ** _OVERLAP + (moved / self.bandwidth_fraction) ** _OVERLAP
        seconds: F64 = np.power(busy, 1.0 / _OVERLAP) + self.floor_s
        return seconds


def efficiency_for(efficiencies: tuple[Efficiency, ...], operator: str, dtype: str) -> Efficiency | None:
    """The entry of an operator in a format: one that names the format before one that names none; None where there is neither."""
    own = [e for e in efficiencies if e.operator == operator and (dtype in e.dtypes or not e.dtypes)]
    return max(own, key=lambda e: bool(e.dtypes), default=None)
