"""simserve: a discrete-event simulator of LLM serving.

    import simserve
    result = simserve.run("experiments/quickstart.yaml")
    result.summary

Names load on first use, so that `import simserve` stays light.
"""

from __future__ import annotations

from simserve.version import __version__

TYPE_CHECKING = False  # as type checkers read it; `typing` would take longer than all of this, before Ctrl-C is answered
if TYPE_CHECKING:
    from typing import Any

    from simserve.api import load, run
    from simserve.config.experiment import Experiment
    from simserve.deploy.launch import launch
    from simserve.errors import SimserveError
    from simserve.report.compare.comparison import compare
    from simserve.report.result import Result
    from simserve.study.capacity.search import capacity
    from simserve.study.paired import paired
    from simserve.study.placement.search import place
    from simserve.study.plan.search import plan
    from simserve.study.regress.check import regress
    from simserve.study.sweep.run import sweep

_HOMES = {
    "load": "simserve.api",
    "run": "simserve.api",
    "Experiment": "simserve.config.experiment",
    "Result": "simserve.report.result",
    "SimserveError": "simserve.errors",
    "capacity": "simserve.study.capacity.search",
    "paired": "simserve.study.paired",
    "launch": "simserve.deploy.launch",
    "place": "simserve.study.placement.search",
    "plan": "simserve.study.plan.search",
    "compare": "simserve.report.compare.comparison",
    "regress": "simserve.study.regress.check",
    "sweep": "simserve.study.sweep.run",
}

__all__ = [
    "Experiment", "Result", "SimserveError", "__version__", "capacity", "compare", "launch", "load", "paired", "place", "plan", "regress",
    "run", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simserve' has no attribute '{name}'")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
