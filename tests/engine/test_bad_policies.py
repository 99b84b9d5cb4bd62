"""I10: a policy that breaks a rule is stopped with a PolicyError that names the policy and the rule; it is never silently corrected."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.engine.spec import ClusterSpec
from simserve.errors import PolicyError
from simserve.policies.scheduling.vllm_v1 import VllmV1
from tests.engine.cheats import ALWAYS, CHECKED, PRIVATE, ROUTERS, after_serving, touching
from tests.engine.cluster_world import Says
from tests.engine.invariants import complaints
from tests.engine.outlaws import OUTLAWS, Outlaw, serve
from tests.engine.strategies import Case, Row
from tests.reference.toy_cost import JaggedCost

ROWS = (Row(0.0, 7, 5), Row(0.0, 3, 6), Row(0.1, 11, 4), Row(0.5, 5, 3))
CASE = Case(ROWS, "orca", (), JaggedCost(), kv_blocks=16, block_tokens=4, max_seqs=3)


def run(scheduler: Any, fast_forward: bool, check: bool = False) -> Any:
    spec = CASE.spec(scheduler)
    named = InstanceSpec(**{name: getattr(spec, name) for name in spec.__slots__ if name != "policy"}, policy="the-outlaw")
    return simulate(CASE.workload(), [named], fast_forward=fast_forward, check=check)


@pytest.mark.parametrize("fast_forward", [True, False])
@pytest.mark.parametrize("crime", OUTLAWS)
def test_the_outlaw_is_caught(crime: str, fast_forward: bool) -> None:
    planner, budget, words = OUTLAWS[crime]
    with pytest.raises(PolicyError) as caught:
        run(Outlaw(planner, budget), fast_forward)
    assert "the-outlaw" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_policy_without_its_crime_is_let_through() -> None:
    records = run(Outlaw(lambda view, plan, memory: serve(view, plan)), True)
    assert complaints(records, CASE.workload()) == []


def test_last_steps_plan_is_not_this_steps_plan() -> None:
    """A policy that keeps its first plan and returns it again without asking for a new one would run the same slices twice."""

    class Lazy(Outlaw):
        def plan(self, view: Any) -> Any:
            if "plan" not in self.memory:
                self.memory["plan"] = super().plan(view)
            return self.memory["plan"]

    with pytest.raises(PolicyError, match="the-outlaw"):
        run(Lazy(lambda view, plan, memory: serve(view, plan)), True)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("crime", ALWAYS)
def test_a_policy_that_writes_on_its_view_is_refused(crime: str, check: bool) -> None:
    touch, words = ALWAYS[crime]
    for planner in (touching(touch), after_serving(touch)):
        with pytest.raises(PolicyError, match="the-outlaw") as caught:
            run(Outlaw(planner), True, check=check)
        assert (words in str(caught.value) and "I10" in str(caught.value)) or (check and crime in PRIVATE)


@pytest.mark.parametrize("crime", CHECKED)
def test_check_finds_a_policy_that_writes_elsewhere_or_reads_what_is_private(crime: str) -> None:
    touch, words = CHECKED[crime]
    planner = touching(touch) if crime != "leaves" else after_serving(touch)
    with pytest.raises(PolicyError, match="the-outlaw") as caught:
        run(Outlaw(planner), True, check=True)
    assert words in str(caught.value) and "I10" in str(caught.value)


@pytest.mark.parametrize("crime", ROUTERS)
def test_a_router_that_writes_is_refused(crime: str) -> None:
    cheat, words, needs_check = ROUTERS[crime]

    def choose(request: Any, view: Any) -> int:
        cheat(request, view)
        return 0

    with pytest.raises(PolicyError, match="router 'Says'") as caught:
        specs = [replace(CASE.spec(), name=name) for name in ("a", "b")]
        simulate(CASE.workload(), specs, ClusterSpec(router=Says(choose)), check=needs_check)
    assert words in str(caught.value) and "I10" in str(caught.value)


@pytest.mark.parametrize("which", ["key", "victim_key"])
def test_check_finds_a_queue_discipline_that_writes(which: str) -> None:
    def cheat(request: Any) -> Any:
        request.priority += 1
        return request.row

    class Discipline:
        oracle = dynamic = False

        def key(self, request: Any) -> Any:
            return request.row

        victim_key = key

    discipline: Any = Discipline()
    setattr(discipline, which, cheat)
    spec = replace(CASE.spec(VllmV1(VllmV1.Params(max_seqs=3))), order=discipline, kv_blocks=4)
    with pytest.raises(PolicyError, match=r"queue discipline 'Discipline' sets request\.priority"):
        simulate(CASE.workload(), [spec], check=True)
    setattr(discipline, which, lambda request: request.row)
    simulate(CASE.workload(), [spec], check=True)


def test_no_progress_is_an_error_at_once_not_a_hang() -> None:
    """The instance of a policy that refuses all work stops the run within a second of wall time, in a process of its own."""
    code = "from tests.engine.test_bad_policies import *\nrun(Outlaw(OUTLAWS['no-progress'][0]), True)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=30, check=False
    )
    assert "PolicyError" in done.stderr
