"""The Ascend rows of the measured runs, and their errors under other values of the fitted numbers."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import yaml

from benchmarks.measured_runs.runs import all_cases
from simserve import resources
from simserve.config.engine_profile import load_engine
from simserve.model import load_model
from simserve.validation.case import Case
from simserve.validation.evaluate import Outcome, predict_one
from simserve.validation.machine import Overheads, overheads_of

METRICS = ("output_tokens_per_s", "tpot_mean")
"""What a row is judged by: its throughput, or where it has none its time per output token."""

HOST = ("kernel_launch_s",)
EXPERTS = "expert_bandwidth"
FITTED = {
    EXPERTS: (0.35, 0.5, 0.65, 0.8),
    "kernel_launch_s": (5e-5, 8e-5, 1.1e-4, 1.3e-4, 1.5e-4),
}
"""The numbers that serving runs decide, and the values that are tried, within bounds: an expert's weights are read at 35 to 80 % of the
bandwidth, and the host takes some three to nine aclnn calls of 16 us for a kernel of ours."""


def cases() -> list[Case]:
    """Every row of an Ascend device or data set."""
    found, _ = all_cases()
    return [case for case in found if case.gpu.startswith("ascend") or "ascend" in case.dataset]


def model_of(case: Case) -> str:
    """The bundled model of a row: copies in other formats are the same one."""
    return load_model(case.model).name


def is_moe(case: Case) -> bool:
    """Whether the row's model has experts."""
    return load_model(case.model).experts is not None


@dataclass(frozen=True)
class _Moved(Case):
    """A row on a copy of its hardware profile, with the requests of the row itself: the copy's path is another one at each call."""

    own_seed: int = 0

    @classmethod
    def of(cls, case: Case, gpu: str) -> _Moved:
        values = {one.name: getattr(case, one.name) for one in fields(case)}
        return cls(**{**values, "gpu": gpu}, own_seed=case.seed())

    def seed(self) -> int:
        return self.own_seed


def outcome(case: Case, values: Mapping[str, float]) -> Outcome:
    """The row's prediction with some of the fitted numbers replaced."""
    if case.skip:
        return Outcome(case, {}, case.skip)
    moved = case if EXPERTS not in values else _Moved.of(case, _profile(case.gpu, values[EXPERTS]))
    found = predict_one(moved, _overheads(case.profile, values))
    return Outcome(case, found.predicted, found.skip)


def error(found: Outcome) -> float | None:
    """ln(predicted / measured) of the metric that the row is judged by; None where there is none. Times count with the other sign, so that
    above 0 always is too fast."""
    for metric in METRICS:
        if metric in found.predicted and metric in found.case.measured:
            ratio = math.log(found.predicted[metric] / found.case.measured[metric])
            return ratio if metric == "output_tokens_per_s" else -ratio
    return None


def percent(found: Outcome) -> float | None:
    """The signed error of the same metric in percent."""
    errors = found.errors_percent()
    return next((errors[metric] for metric in METRICS if metric in errors), None)


def _overheads(profile: str, values: Mapping[str, float]) -> Overheads | None:
    of_host = {name: values[name] for name in HOST if name in values}
    shipped = overheads_of(load_engine(profile))
    changed = {
        name: value for name, value in of_host.items() if getattr(shipped.host, name)
    }  # a profile without such a cost (one that always runs graphs) has none to change
    if profile == "mindie":  # launches from C++: a number of its own, of one model
        changed = {}
    return replace(shipped, host=replace(shipped.host, **changed)) if changed else None


@functools.lru_cache(maxsize=64)
def _profile(name: str, bandwidth: float) -> str:
    """A copy of a hardware profile whose experts are read at this fraction of the bandwidth."""
    document = yaml.safe_load(resources.find("hardware_profiles", name).read_text(encoding="utf-8"))
    for entry in document["efficiencies"]:
        if entry["operator"] == "moe" and entry["status"] == "fitted":
            entry["bandwidth_fraction"] = bandwidth
    path = Path(tempfile.mkdtemp(prefix="ascend-")) / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)
