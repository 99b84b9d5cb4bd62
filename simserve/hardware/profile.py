"""Hardware profiles: a device's facts and the fitted operators measured on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simserve.errors import ConfigError, ProfileError, nearest
from simserve.files import messages
from simserve.files.words import shown
from simserve.files.yaml_values import read_values
from simserve.hardware.device import Device
from simserve.hardware.efficiency import efficiency_for
from simserve.hardware.kernel_model import KernelModel
from simserve.hardware.operators import OPERATORS
from simserve.hardware.operators.base import Context
from simserve.hardware.schema import SCHEMA_VERSION, OperatorEntry, ProfileDocument

_SAME_RATE = {"bf16": "fp16", "fp16": "bf16"}
"""The two 16-bit types have the same rate on every device here, so measurements of one stand in for the other."""


@dataclass(frozen=True)
class HardwareProfile:
    """A profile file, loaded. `path` is the YAML file; coefficients lie in files beside it and are read when first used."""

    path: Path
    document: ProfileDocument
    _models: dict[tuple[str, ...], KernelModel] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.document.name

    @property
    def device(self) -> Device:
        """Published facts of one device."""
        return self.document.device

    def operator(self, name: str, dtype: str, backend: str | None = None, *, kv_dtype: str = "", kernel: str | None = None) -> KernelModel:
        """The model of operator `name` in `dtype`.

        backend  `vllm 0.24.0` asks for exactly that measurement, `vllm` for its newest version, None for the profile's preference.
        kernel   one implementation inside the backend (None = the best measured one).
        Where no measurement fits, the analytic estimate is returned, with `validated` False. Raises ProfileError for an operator the
        library does not know.
        """
        if name not in OPERATORS:
            raise ProfileError(f"unknown operator '{name}'{nearest(name, OPERATORS)}")
        key = (name, dtype, backend or "", kv_dtype, kernel or "*")
        if key not in self._models:
            self._models[key] = self._choose(name, dtype, backend, kv_dtype, kernel)
        return self._models[key]

    def _choose(self, name: str, dtype: str, backend: str | None, kv_dtype: str, kernel: str | None) -> KernelModel:
        found = self.candidates(name, dtype, backend, kv_dtype=kv_dtype, kernel=kernel)
        return found[0] if found else self.estimate(name, dtype, kv_dtype)

    def estimate(self, name: str, dtype: str, kv_dtype: str = "") -> KernelModel:
        """The model of an operator without a table: from the profile's efficiencies, or the analytic estimate where it states none."""
        efficiency = efficiency_for(self.document.efficiencies, name, dtype)
        return KernelModel(OPERATORS[name], Context(self.device, dtype, kv_dtype), efficiency=efficiency)

    def candidates(
        self, name: str, dtype: str, backend: str | None = None, *, kv_dtype: str = "", kernel: str | None = None
    ) -> list[KernelModel]:
        """Every measured model that `operator` could answer with, best first."""
        dtypes = (dtype, _SAME_RATE.get(dtype))
        kv_dtypes = (kv_dtype, _SAME_RATE.get(kv_dtype), "") if kv_dtype else ("", *dtypes)
        found = [
            e
            for e in self.document.operators
            if e.operator == name
            and e.dtype in dtypes
            and e.kv_dtype in kv_dtypes
            and (kernel is None or e.kernel == kernel)
            and (backend is None or backend in (e.backend, e.backend.split()[0], engine_name(e.backend)))
        ]
        return [self._model(e) for e in sorted(found, key=lambda e: (*self._rank(e), e.dtype != dtype))]

    def _model(self, entry: OperatorEntry) -> KernelModel:
        key = (entry.model.file,)
        if key not in self._models:
            context = Context(self.device, entry.dtype, entry.kv_dtype)
            self._models[key] = KernelModel(OPERATORS[entry.operator], context, entry, self.path.parent)
        return self._models[key]

    def _rank(self, entry: OperatorEntry) -> tuple[Any, ...]:
        """Device time before host time, then the preferred backend, then the newest version, then the most measurements."""
        order = self.document.backends
        name = engine_name(entry.backend)
        place = order.index(entry.backend) if entry.backend in order else order.index(name) if name in order else len(order)
        version = tuple(-int(p) for p in re.findall(r"\d+", entry.backend))
        return (timed_eagerly(entry), place, version, -entry.points)

    def entries(self, operator: str | None = None) -> tuple[OperatorEntry, ...]:
        """The fitted operators, all or those of one kind."""
        return tuple(e for e in self.document.operators if operator is None or e.operator == operator)


def timed_eagerly(entry: OperatorEntry) -> bool:
    """Whether these measurements hold the host's launch time: calls outside CUDA graphs.

    Besides kernels that say so, aiconfigurator times vLLM's block-scaled fp8 GEMM and its MLA without a graph (floors of 40 to 130 us).
    """
    if "eager" in entry.kernel.lower() or "eager" in entry.backend.lower():
        return True
    return engine_name(entry.backend) == "vllm" and (entry.operator == "mla" or (entry.operator, entry.dtype) == ("gemm", "fp8_block128"))


def engine_name(backend: str) -> str:
    """The engine's name without version or variant: `vllm 0.24.0` -> `vllm`, `vidur/sarathi (vLLM layers)` -> `vidur`."""
    return re.split(r"[ /]", backend, maxsplit=1)[0].lower()


def load_profile(name_or_path: str | Path) -> HardwareProfile:
    """Load a bundled profile by name, or any profile by path.

    Raises ProfileError: unknown name (with the nearest), unreadable or malformed file (with its key), another schema version.
    """
    path = _find(name_or_path)
    try:
        read = read_values(path)
        version = read.data.get("schema_version")
        if version != SCHEMA_VERSION:
            reads = f"this version of simserve reads {SCHEMA_VERSION}"
            raise ProfileError(f"{path}: schema_version is {shown(version)}, {reads}; write it again with 'simserve calibrate fit'")
        document, mistakes = messages.check(ProfileDocument, read.data, read)
        messages.fail(str(path), mistakes)
    except ConfigError as error:
        raise ProfileError(str(error)) from None
    assert isinstance(document, ProfileDocument)
    return HardwareProfile(path, document)


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        if path.parent != Path():
            raise ProfileError(f"{path}: no such hardware profile file")
    from simserve import resources

    try:
        return resources.find("hardware_profiles", str(name_or_path))
    except ProfileError as unknown:
        if path.suffix in (".yaml", ".yml"):
            raise ProfileError(f"{path}: no such file here, and no bundled hardware profile is called so") from unknown
        raise
