"""Steps of pipelines that are worked out ahead (`stage_span.py`): a run leaves, to the last byte, what it leaves step by step."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import simserve
from simserve.contracts import CostModel, CostWrapper, Step
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import LinkSpec
from simserve.engine.stage_span import StageSpan, priced_ahead
from simserve.errors import ConfigError, PolicyError
from simserve.policies.registry import controller_class, router_class, scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_cases import ClusterCase, clusters
from tests.engine.cluster_world import routed
from tests.engine.invariants import dump
from tests.engine.strategies import Case, cases
from tests.reference.naive_policies import NAIVE_POLICIES
from tests.reference.toy_cost import JaggedCost, RoundCost

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "30"))


class Staged(CostWrapper):
    """A model's steps on stages that take so much of them each."""

    def __init__(self, inner: CostModel, parts: Sequence[float]) -> None:
        super().__init__(inner)
        self.parts = tuple(parts)

    @property
    def stages(self) -> int:
        return len(self.parts)

    def stage_times(self, step: Step) -> tuple[float, ...]:
        whole = self.inner.step_time(step)
        return tuple(part * whole for part in self.parts)


PARTS = [(0.5, 0.5), (0.25, 0.75), (1.0, 0.25), (0.25, 0.25, 0.5), (0.5, 0.25, 0.25, 0.5), (1.0, 0.0), (0.0, 1.0), (0.3, 0.41, 0.29)]
"""Even stages, a slow one first, between and last, and stages that take no time."""


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts spans, their steps, and those that something has cut."""
    found: Counter[str] = Counter()
    note = StageSpan.note

    def noted(span: StageSpan, ended: int, begun: int) -> None:
        found["spans"] += 1
        found["steps"] += begun
        found["cut"] += begun < len(span.by)
        note(span, ended, begun)

    monkeypatch.setattr(StageSpan, "note", noted)
    return found


def same_both_ways(run: Callable[[bool], RunRecords]) -> RunRecords:
    """A run step by step and as it is usually done, or the same refusal."""
    found = []
    for fast_forward in (True, False):
        try:
            found.append(run(fast_forward))
        except (ConfigError, PolicyError) as problem:
            found.append(str(problem))
    if isinstance(found[0], str):
        assert found[0] == found[1]
        reject()
    assert not isinstance(found[1], str), found[1]
    equal = dump(found[0]) == dump(found[1])
    assert equal, "records differ"  # a comparison of such dumps in the message takes minutes
    return found[0]


def staged(case: Case, parts: Sequence[float]) -> Case:
    return replace(case, cost=Staged(case.cost, parts))


SEVERAL = tuple(policy for policy in NAIVE_POLICIES if policy != "layered")
"""Those that run on pipeline stages."""


@pytest.mark.parametrize("policy", SEVERAL)
def test_any_policy_on_any_stages(policy: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(case=cases(policies=(policy,)), parts=st.sampled_from(PARTS), cut_s=st.none() | st.integers(1, 40).map(lambda k: k / 4))
    def check(case: Case, parts: Sequence[float], cut_s: float | None) -> None:
        one = staged(case, parts)
        same_both_ways(lambda fast_forward: one.engine(fast_forward=fast_forward, until_s=cut_s))

    check()


KINDS: dict[str, dict[str, Any]] = {
    "layers that keep different tokens": {"grouped": True},
    "steps that vary": {"varied": True},
    "contents": {"caching": True},
    "deaths": {"sizes": (2, 3), "deaths": True},
    "transfers": {"sizes": (2, 3), "kv_transfers": True, "ways": ("pull", "push", "push-layerwise")},
    "clients that give up": {"sizes": (1, 2), "impatient": True},
    "everything": {"sizes": (2, 3), "caching": True, "kv_transfers": True, "deaths": True, "impatient": True, "varied": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_cluster_on_any_stages(kind: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(case=clusters(**KINDS[kind]), parts=st.sampled_from(PARTS), router=st.sampled_from(["", "freeness", "least-outstanding"]))
    def check(case: ClusterCase, parts: Sequence[float], router: str) -> None:
        one = replace(case, base=staged(case.base, parts), router=router or case.router)
        same_both_ways(lambda fast_forward: one.engine(fast_forward=fast_forward))

    check()


def long_outputs(seed: int, requests: int = 40, gap_s: float = 3.0) -> Workload:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(gap_s, requests))
    return Workload(RequestTable.build(arrivals, rng.integers(1, 60, requests), rng.integers(1, 400, requests)))


def instance(name: str, cost: CostModel, policy: str = "vllm-v1", **shape: Any) -> InstanceSpec:
    cls = scheduler_class(policy)
    spec = InstanceSpec(name, cls(cls.Params(max_seqs=6)), cost, kv_blocks=400, block_tokens=4, max_seqs=6)
    return replace(spec, **shape)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("cost", [RoundCost(), JaggedCost()])
@pytest.mark.parametrize("seed", range(3))
def test_long_outputs(cost: CostModel, parts: Sequence[float], seed: int, spans: Counter[str]) -> None:
    work = long_outputs(seed)
    same_both_ways(lambda fast_forward: simulate(work, [instance("i", Staged(cost, parts))], fast_forward=fast_forward))
    if 0.0 not in parts:
        assert spans["steps"] > 10 * spans["spans"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_migration_and_polls_in_the_middle_of_a_span(seed: int, spans: Counter[str]) -> None:
    link = LinkSpec(bytes_per_s=2000.0, latency_s=0.05, kv_bytes_per_token=10.0)
    work = long_outputs(seed, 60, 1.0)

    def run(fast_forward: bool) -> RunRecords:
        specs = [instance(f"i{k}", Staged(JaggedCost(), PARTS[k + 2]), link=link, kv_blocks=150) for k in range(3)]
        move, router = controller_class("llumnix-migration"), router_class("freeness")
        controllers = (move(move.Params(interval_s=1.7)),)
        return simulate(work, specs, replace(routed(controllers=controllers), router=router(router.Params())), fast_forward=fast_forward)

    records = same_both_ways(run)
    assert records.moves is not None and (records.moves.outcome == 0).any()
    assert spans["steps"] > 0 and spans["cut"] > 0


class Halved(CostWrapper):
    """Prices runs of steps itself; `wrong` = not as it prices steps."""

    def __init__(self, wrong: bool) -> None:
        super().__init__(Staged(JaggedCost(), (0.5, 0.5)))
        self.wrong = wrong

    def stage_times(self, step: Step) -> tuple[float, ...]:
        return self.inner.stage_times(step)

    def stage_decode_times(self, step: Step, steps: int) -> Any:
        return np.array([self.stage_times(step.after(i + self.wrong)) for i in range(steps)])


class Slower(Halved):
    """Has changed the price of one step alone."""

    def stage_times(self, step: Step) -> tuple[float, ...]:
        return tuple(2 * seconds for seconds in super().stage_times(step))


def test_a_model_prices_runs_of_steps_itself_and_is_believed() -> None:
    work = long_outputs(1)
    same_both_ways(lambda fast_forward: simulate(work, [instance("i", Halved(False))], fast_forward=fast_forward))
    with pytest.raises(AssertionError):
        same_both_ways(lambda fast_forward: simulate(work, [instance("i", Halved(True))], fast_forward=fast_forward))


def test_a_subclass_that_prices_single_steps_otherwise_is_asked_for_each() -> None:
    step = Step.of([10, 20])
    assert priced_ahead(Halved(True))(step, 2)[0].tolist() == list(Halved(True).stage_times(step.after(1)))
    assert priced_ahead(Slower(True))(step, 2)[0] == Slower(True).stage_times(step)


def test_steps_of_no_time_are_refused_where_they_are_taken() -> None:
    class Ends(Staged):
        def stage_times(self, step: Step) -> tuple[float, ...]:
            return (0.1, float("nan")) if step.context_tokens > 300 else super().stage_times(step)

    def refusals() -> Iterator[str]:
        for fast_forward in (True, False):
            with pytest.raises(PolicyError) as problem:
                simulate(long_outputs(2), [instance("i", Ends(JaggedCost(), (0.5, 0.5)))], fast_forward=fast_forward)
            yield str(problem.value)

    assert len(set(refusals())) == 1


def test_a_policy_that_takes_turns_is_asked_before_each_step() -> None:
    """Sarathi without hybrid batches remembers one turn for all micro-batches: a lane that goes on by itself would not move it."""
    group = {"count": 1, "parallel": {"pp": 3}, "scheduler": {"policy": "sarathi", "max_seqs": 8, "token_budget": 32, "hybrid": False}}
    run = {
        "model": "qwen2-7b",
        "hardware": "h100-sxm-80gb",
        "engine": "vllm-v0",
        "cluster": {
            "instances": [{**group, "order": "priority", "max_model_len": 2048, "kv": {"blocks": 100, "block_tokens": 4}}],
            "failures": {"times": [{"at_s": at_s, "instance": 0} for at_s in (0.11, 0.331)], "restart_s": 0.1, "mtbf_s": 30.0},
        },
        "workload": {
            "arrivals": {"kind": "constant", "rate_per_s": 20.0},
            "lengths": {
                "prompt": {"kind": "uniform", "low_tokens": 30, "high_tokens": 60},
                "output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 20},
            },
            "count": 50,
        },
    }
    for seed in (0, 4):
        simserve.run(run, check=True, seed=seed, **{"cluster.instances.0.scheduler.token_budget": 32 - 4 * seed})
