"""The file format of hardware profiles (schema_version 1). Unknown keys are errors."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.hardware.device import Device
from simserve.hardware.efficiency import Efficiency

SCHEMA_VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorSummary(_Strict):
    """Absolute relative error |predicted / measured - 1| in percent over `rows` measurements."""

    rows: int = Field(ge=0)
    mape_percent: float
    p90_percent: float
    worst_percent: float


class Check(_Strict):
    """Errors on measurements that the fit did not see: single points of known shapes, and whole shapes."""

    points: ErrorSummary | None = None
    shapes: ErrorSummary | None = None


class ModelFile(_Strict):
    """Coefficients in a text file beside the profile, pinned by its sha256. `revision` is that of the operator they were fitted with."""

    kind: Literal["trees", "curves"]
    revision: int = 1
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class OperatorEntry(_Strict):
    """One fitted operator: what it is, where its measurements came from and how far off it is.

    dtype, kv_dtype  types of the weights (or of the computation) and of the KV cache
    backend          serving engine or library and its version, as the measurements name it
    kernel           implementation inside the backend, where it has several ("" = only one)
    points           measurements used by the shipped coefficients
    with_prefix      attention only: whether prompts with a cached prefix were among them
    residual_log     5, 25, 50, 75 and 95 % quantiles of ln(measured / predicted) on the check rows
    """

    operator: str
    dtype: str
    kv_dtype: str = ""
    backend: str
    kernel: str = ""
    model: ModelFile
    sources: tuple[str, ...]
    points: int = Field(ge=1)
    with_prefix: bool = False
    split: str
    check: Check
    residual_log: tuple[float, float, float, float, float]


class ProfileDocument(_Strict):
    """A whole profile file."""

    schema_version: int
    name: str
    description: str
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()
    device: Device
    backends: tuple[str, ...] = ()
    """Backends in order of preference where the engine profile asks for none in particular."""
    operators: tuple[OperatorEntry, ...] = ()
    efficiencies: tuple[Efficiency, ...] = ()
    """What operators without a table reach of the device's peak and bandwidth; where none is stated, the analytic estimate is used."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        named = [(e.operator, dtype) for e in self.efficiencies for dtype in e.dtypes or ("",)]
        twice = next((key for key in named if named.count(key) > 1), None)
        if twice:
            raise ValueError(f"efficiencies: '{twice[0]}' {twice[1] or '(all formats)'} is stated twice")
        return self
