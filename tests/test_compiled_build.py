"""Compiled builds: what is compiled is there, the build hook does nothing unasked, and classes behave alike on both builds."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import tomllib
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from simserve.compiled import PURE, engine_build
from simserve.contracts import InstanceView, Slice, Step, StepPlan
from simserve.cost.host import HostOverheads
from simserve.cost.step import StepCost
from simserve.engine import simulate
from simserve.hardware.profile import load_profile
from simserve.model.library import load_model
from simserve.policies.scheduling.sarathi import Sarathi
from tests.engine.fixed_cases import ROOMY

ROOT = Path(__file__).parents[1]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]


def requires(target: str = "wheel") -> list[str]:
    """What the hook asks for before a build."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    core = SimpleNamespace(dependencies=["numpy>=1.26", "simpy>=4.1", "typer>=0.12"])
    hook: Any = SimpleNamespace(target_name=target, config=HOOK, metadata=SimpleNamespace(core=core))
    hook._asked, hook._libraries = (partial(getattr(module.CompiledWheel, name), hook) for name in ("_asked", "_libraries"))
    found: list[str] = module.CompiledWheel.dependencies(hook)
    return found


def test_every_module_that_is_compiled_exists_once() -> None:
    modules = HOOK["modules"]
    assert modules == sorted(set(modules)) and all((ROOT / module).is_file() for module in modules if (ROOT / "simserve").exists())


@pytest.mark.skipif(engine_build() == PURE, reason="not a compiled build")
@pytest.mark.parametrize("path", HOOK["modules"])
def test_of_a_compiled_build_every_module_is_compiled(path: str) -> None:
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None and not module.__file__.endswith(".py")


def test_nothing_is_needed_or_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMSERVE_COMPILE", raising=False)
    assert requires() == []
    monkeypatch.setenv("SIMSERVE_COMPILE", "0")
    assert requires() == []
    monkeypatch.setenv("SIMSERVE_COMPILE", "1")
    assert requires() == [*HOOK["requires"], "numpy>=1.26", "simpy>=4.1"] and requires("sdist") == []
    monkeypatch.setenv("SIMSERVE_COMPILE", "yes")
    with pytest.raises(ValueError, match="SIMSERVE_COMPILE must be 1"):
        requires()


class Own(Sarathi):
    """A policy that derives from one that ships, and adds to it."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.plans = 0

    def plan(self, view: InstanceView) -> StepPlan:
        self.plans += 1
        return super().plan(view)


@pytest.mark.parametrize("check", [False, True])
def test_a_class_of_ones_own_may_derive_from_a_policy(check: bool) -> None:
    params = Sarathi.Params(token_budget=64)
    mine = Own(params)
    records = simulate(ROOMY.workload(), [ROOMY.spec(mine)], check=check)
    theirs = simulate(ROOMY.workload(), [ROOMY.spec(Sarathi(params))])
    assert mine.plans > 0 and records.requests.finish_s.tolist() == theirs.requests.finish_s.tolist()


class Twice(StepCost):
    """A cost model that derives from the one that ships."""

    def mixed_seconds(self, n: int, drafted_tokens: int, context_tokens: int, longest_tokens: int, prefills: Any) -> float:
        return 2 * super().mixed_seconds(n, drafted_tokens, context_tokens, longest_tokens, prefills)


def test_a_class_of_ones_own_may_derive_from_the_cost_model() -> None:
    made = load_model("llama-2-7b"), load_profile("a100-sxm-80gb")
    step = Step.of([], [Slice(128, 0)])
    plain, twice = StepCost(*made, max_context_tokens=4096), Twice(*made, max_context_tokens=4096)
    assert twice.step_time(step) == 2 * plain.step_time(step)
    for cost in (plain, twice):
        host = cost.with_host(HostOverheads(per_step_s=1.0))
        assert type(host) is type(cost) and type(copy.copy(cost)) is type(cost)
        assert host.step_time(step) > cost.step_time(step) == copy.copy(cost).step_time(step)
