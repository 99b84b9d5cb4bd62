"""Cost models that the deployments of a process share: tables are made once for a model on a kind of device in a layout."""

from __future__ import annotations

import functools
from typing import Any

from simserve.cost.host import HostOverheads
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.hardware import HardwareProfile
from simserve.model import ModelArchitecture, Parallel
from simserve.model.operators import Operator


class Same:
    """A value compared by identity, for values that cannot be hashed and are read once."""

    def __init__(self, value: HardwareProfile) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


_Shape = tuple[ModelArchitecture, Same, Parallel, str | None, int, float, CostOptions, tuple[Operator, ...]]


@functools.lru_cache(maxsize=8)
def _tables(shape: _Shape) -> StepCost:
    """A cost model with its tables. No answer of it depends on what it was asked before, so the runs of a study share it."""
    model, hardware, parallel, backend, length, element, options, extra = shape
    known: dict[str, Any] = {"backend": backend, "max_context_tokens": length, "kv_dtype_bytes": element, "options": options}
    if options.task_table is None:
        return StepCost(model, hardware.value, None, parallel, **known, extra=extra)
    from simserve.cost.cores.step import TiledStepCost

    return TiledStepCost(model, hardware.value, None, parallel, **known, extra=extra)


@functools.lru_cache(maxsize=8)
def cost_of(shape: _Shape, host: HostOverheads) -> StepCost:
    """The same tables, driven by a host."""
    return _tables(shape).with_host(host)
