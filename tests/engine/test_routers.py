"""Routers by their rule: what they choose on hand-made views, and that the lazy ranking chooses what looking at everything would."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import Load
from simserve.engine import InstanceSpec, simulate
from simserve.engine.cluster_view import ClusterView
from simserve.engine.ranking import Ranking
from simserve.engine.request import LiveRequest
from simserve.engine.signals import Signals
from simserve.engine.spec import ClusterSpec
from simserve.policies import registry
from simserve.policies.freeness import freeness
from simserve.policies.routing.freeness import MostFree
from simserve.workload.requests import Workload
from tests.engine.test_cluster_random import clusters

IDLE = Load(100, 100, 0, 0, 0)


class Bench:
    """A view whose signals and loads the test sets."""

    def __init__(self, instances: int, stale: bool = False) -> None:
        self.signals = Signals(instances)
        self.loads = [IDLE] * instances
        self.looked_at: list[int] = []
        names, roles = tuple(f"i{n}" for n in range(instances)), ("mixed",) * instances
        self.view = ClusterView(names, roles, self.signals, self._load, stale)
        self.view.set_open(list(range(instances)))

    def _load(self, number: int, exact: bool) -> Load:
        self.looked_at.append(number)
        return self.loads[number]

    def choose(self, name: str, requests: list[LiveRequest] | None = None, **params: Any) -> list[int]:
        policy = registry.router_class(name)(registry.router_class(name).Params(**params))
        return [policy.choose(request, self.view) for request in requests or [a_request()]]


def a_request(row: int = 0, session: int = -1, ids: tuple[int, ...] = ()) -> LiveRequest:
    request = LiveRequest(row, 0.0, 16, 0, -1, session)
    request.prefix_ids = list(ids)
    return request


def some(count: int) -> list[LiveRequest]:
    return [a_request(row) for row in range(count)]


def test_counters_decide_and_the_first_of_equals() -> None:
    bench = Bench(4)
    bench.signals.outstanding[:] = [5, 3, 3, 9]
    bench.signals.prompt_tokens[:] = [70, 80, 20, 20]
    bench.signals.waiting[:] = [2, 1, 1, 0]
    assert bench.choose("least-outstanding") == [1]
    assert bench.choose("least-tokens") == [2]
    assert bench.choose("shortest-queue") == [3]
    bench.signals.waiting[3] = 1
    assert bench.choose("shortest-queue") == [1]


def test_no_router_sends_to_an_instance_that_is_not_open() -> None:
    bench = Bench(5)
    bench.view.set_open([1, 4])
    bench.signals.outstanding[:] = [0, 7, 0, 0, 6]
    bench.loads[1] = Load(50, 100, 7, 0, 0)
    bench.signals.ease(0)
    for name in registry.router_names():
        assert set(bench.choose(name, some(30))) <= {1, 4}, name


def test_round_robin_takes_turns_whatever_the_load() -> None:
    bench = Bench(3)
    bench.signals.outstanding[:] = [9, 0, 0]
    assert bench.choose("round-robin", some(7)) == [0, 1, 2, 0, 1, 2, 0]


def test_random_is_uniform() -> None:
    counts = np.bincount(Bench(4).choose("random", some(8000), seed=1), minlength=4)
    assert (np.abs(counts - 2000) < 4 * math.sqrt(8000 * 0.25 * 0.75)).all()


def test_power_of_two_never_takes_the_worst_and_all_choices_are_least_outstanding() -> None:
    bench = Bench(4)
    bench.signals.outstanding[:] = [4, 1, 2, 3]
    counts = np.bincount(bench.choose("power-of-two", some(6000), seed=3), minlength=4)
    # Of the 6 pairs, instance 1 wins 3, instance 2 wins 2, instance 3 one, the fullest none.
    assert counts[0] == 0
    assert (np.abs(counts[1:] - np.array([3000, 2000, 1000])) < 150).all()
    assert set(bench.choose("power-of-two", some(50), choices=9)) == {1}


def test_affinity_needs_enough_of_the_prompt() -> None:
    bench = Bench(2)
    bench.signals.outstanding[:] = [0, 3]
    first = a_request(0, ids=(1, 2, 3, 4))
    assert bench.choose("prefix-affinity", [first, a_request(1, ids=(1, 2, 8, 9))]) == [0, 0]
    moved = registry.router_class("prefix-affinity")
    router = moved(moved.Params(min_match=0.75))
    assert router.choose(first, bench.view) == 0
    bench.signals.outstanding[:] = [3, 0]
    assert router.choose(a_request(1, ids=(1, 2, 8, 9)), bench.view) == 1  # half is too little
    assert router.choose(a_request(2, ids=(1, 2, 3, 9)), bench.view) == 0  # three quarters are not
    assert router.choose(a_request(3, ids=(7, 2, 3, 4)), bench.view) == 1  # a prefix begins at the beginning


# -- freeness ----------------------------------------------------------------------------------------------------------------------


def test_freeness_by_hand() -> None:
    assert freeness(IDLE) == math.inf
    assert freeness(Load(60, 100, 4, 0, 0)) == 15.0
    # The first waiting request counts as one more, with what it needs (arXiv 2406.03243, section 4.4.1).
    assert freeness(Load(60, 100, 4, 3, 20)) == 8.0
    assert freeness(Load(5, 100, 4, 1, 20)) == -3.0
    # Two requests of high priority, each with 10 blocks of headroom.
    assert freeness(Load(60, 100, 4, 0, 0), headroom_blocks=10, high_priority=2) == 10.0


def test_an_idle_instance_is_freest_and_the_first_of_them() -> None:
    bench = Bench(4)
    bench.signals.outstanding[:] = [1, 0, 0, 2]
    bench.loads[0], bench.loads[3] = Load(99, 100, 1, 0, 0), Load(98, 100, 2, 0, 0)
    assert bench.choose("freeness") == [1]


def test_the_ranking_looks_only_at_the_top_and_at_those_that_were_eased() -> None:
    bench = Bench(8)
    bench.signals.outstanding[:] = [1] * 8
    bench.loads = [Load(10 * n, 100, 1, 0, 0) for n in range(8)]
    assert bench.view.best(freeness) == (7, 70.0)
    bench.looked_at.clear()
    bench.loads[7] = Load(65, 100, 1, 0, 0)  # it decodes: less than before, still the most
    assert bench.view.best(freeness) == (7, 65.0)
    assert bench.looked_at == [7]
    bench.loads[7] = Load(55, 100, 1, 0, 0)
    assert bench.view.best(freeness) == (6, 60.0)
    bench.loads[2] = Load(90, 100, 1, 0, 0)
    bench.signals.ease(2)
    assert bench.view.best(freeness) == (2, 90.0)
    assert not {0, 1, 3, 4, 5} & set(bench.looked_at)


def test_equal_scores_go_to_fewest_outstanding() -> None:
    bench = Bench(4)
    bench.signals.outstanding[:] = [3, 2, 2, 5]
    bench.loads = [Load(40, 100, 2, 0, 0)] * 4
    assert bench.view.best(freeness) == (1, 20.0)


def test_without_an_open_instance_there_is_no_best() -> None:
    assert Ranking([], freeness, lambda number, exact: IDLE, [0, 0]).best() == (-1, -math.inf)


def test_a_role_without_members_has_no_best() -> None:
    bench = Bench(2)
    assert bench.view.best(freeness, "decode") == (-1, -math.inf)
    assert bench.view.best(freeness, "mixed") == (0, math.inf)


class Looks(MostFree):
    """Freeness by looking at every instance; complains when the ranking chose another."""

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        quick = super().choose(request, view)
        loads = {number: freeness(view.load(number)) for number in view.open}
        best = max(view.open, key=lambda number: (loads[number], -view.outstanding[number], -number))
        assert quick == best, f"the ranking says {quick}, looking says {best}: {loads}"
        return quick


@settings(max_examples=200, deadline=None, derandomize=True)
@given(case=clusters(), order=st.sampled_from(["fcfs", "priority", "shortest-job"]))
def test_the_ranking_chooses_what_looking_at_everything_would(case: tuple[Workload, list[InstanceSpec], ClusterSpec], order: str) -> None:
    """Under random admissions, preemptions, migrations, KV transfers, failures and scaling, with signals fresh and stale."""
    load, specs, cluster = case
    watched = replace(cluster, router=Looks(MostFree.Params()), decode_router=Looks(MostFree.Params()))
    simulate(load, [replace(one, order=registry.order(order)) for one in specs], watched)


@pytest.mark.parametrize("name", registry.router_names())
def test_the_same_choices_again(name: str) -> None:
    bench = Bench(4)
    requests = [a_request(row, session=row % 5, ids=(row % 3, 7, row)) for row in range(40)]
    assert bench.choose(name, requests) == bench.choose(name, requests)
