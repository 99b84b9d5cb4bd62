"""Open arrivals under a cap: the client keeps at most so many requests under way, and those that have come wait for their turn there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RequestColumns
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_cases import ClusterCase, clusters
from tests.engine.test_differential_cluster import assert_agree, equal
from tests.reference.naive_cluster import NaiveCluster
from tests.reference.toy_cost import JaggedCost


def serve(arrival_s: list[float], cap: int | None, output: int = 5, after: list[int] | None = None) -> RequestColumns:
    n = len(arrival_s)
    follow = None if after is None else np.array(after)
    table = RequestTable.build(np.array(arrival_s), np.full(n, 3), np.full(n, output), after=follow)
    cls = scheduler_class("vllm-v1")
    spec = InstanceSpec(name="i0", scheduler=cls(cls.Params(max_seqs=99)), cost=JaggedCost(), kv_blocks=10_000, block_tokens=4, max_seqs=99)
    return simulate(Workload(table, max_concurrency=cap), [spec]).requests


def under_way(r: RequestColumns) -> int:
    """The most requests between their release and their end at any instant."""
    times = np.concatenate([r.finish_s, r.released_s])  # at the same instant ends come first: one ends, the next is sent
    change = np.concatenate([-np.ones(len(r.finish_s)), np.ones(len(r.released_s))])
    return int(np.cumsum(change[np.argsort(times, kind="stable")]).max())


def test_a_cap_that_never_binds_changes_nothing() -> None:
    arrival = [0.0, 0.01, 0.02, 0.5, 0.9]
    free, capped = serve(arrival, None), serve(arrival, 5)
    for column in ("released_s", "first_token_s", "finish_s"):
        assert np.array_equal(getattr(free, column), getattr(capped, column))


def test_with_one_at_a_time_each_is_sent_at_its_time_or_when_the_one_before_ends() -> None:
    r = serve([0.0, 0.001, 0.002, 5.0], 1)
    assert r.released_s.tolist() == [0.0, r.finish_s[0], r.finish_s[1], 5.0]
    latency = r.finish_s - r.released_s
    assert np.allclose(latency, latency[0]), "alone in the engine, every request takes as long: the wait was at the client"


@pytest.mark.parametrize("cap", [1, 2, 7])
def test_never_more_than_the_cap_and_no_slot_idle_while_a_request_waits(cap: int) -> None:
    r = serve([0.002 * i for i in range(40)], cap)
    assert under_way(r) == cap
    assert np.all(np.diff(r.released_s) >= 0), "first come, first served"
    late = r.released_s > np.array([0.002 * i for i in range(40)])
    assert late.any() and set(r.released_s[late].tolist()) <= set(r.finish_s.tolist()), "a request that waited was sent when another ended"


def test_all_at_once_under_a_cap_is_a_closed_loop() -> None:
    table = RequestTable.build(np.zeros(30), np.full(30, 3), np.arange(1, 31))
    cls = scheduler_class("vllm-v1")
    spec = InstanceSpec(name="i0", scheduler=cls(cls.Params(max_seqs=99)), cost=JaggedCost(), kv_blocks=10_000, block_tokens=4, max_seqs=99)
    for think_s in (0.0, 0.37):
        capped = simulate(Workload(table, max_concurrency=4, think_s=think_s), [spec]).requests
        closed = simulate(Workload(table, concurrency=4, think_s=think_s), [spec]).requests
        for column in ("released_s", "first_token_s", "finish_s"):
            assert np.array_equal(getattr(capped, column), getattr(closed, column))


def test_a_request_that_follows_another_waits_for_its_turn_too() -> None:
    r = serve([0.0, 0.0, 0.0], 1, after=[-1, 0, -1])
    assert r.released_s.tolist() == [0.0, r.finish_s[2], r.finish_s[0]], "row 2 came first, row 1 when row 0 had ended"


def test_a_closed_loop_takes_no_cap() -> None:
    table = RequestTable.build(np.zeros(1), np.ones(1), np.ones(1))
    for bad in ({"concurrency": 2, "max_concurrency": 3}, {"max_concurrency": 0}):
        with pytest.raises(ValueError, match="max_concurrency"):
            Workload(table, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "how", [{"sizes": (1,), "caching": True}, {"sizes": (1, 2, 3)}, {"sizes": (1, 2), "deaths": True}], ids=["caching", "several", "deaths"]
)
def test_engine_equals_naive_cluster_under_a_cap(how: dict[str, object]) -> None:
    held = 0

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(clusters(**how), st.integers(1, 4), st.sampled_from([0.0, 0.0, 0.25]))  # type: ignore[arg-type]
    def run(case: ClusterCase, cap: int, think_s: float) -> None:
        nonlocal held
        work = replace(case.workload(), concurrency=None, max_concurrency=cap, think_s=think_s)
        capped = _Capped(case, work)
        naive: NaiveCluster = capped.naive()
        table = work.requests
        held += any(r.released_s > t for r, t, after in zip(naive.reqs, table.arrival_s, table.after, strict=True) if after < 0)
        for fast_forward in (True, False):
            assert_agree(capped.engine(fast_forward=fast_forward), naive, equal)

    run()
    assert held > 15, "the cap binds"


class _Capped(ClusterCase):
    """A random cluster with another workload in its place."""

    def __init__(self, case: ClusterCase, work: Workload) -> None:
        for name in case.__dataclass_fields__:
            object.__setattr__(self, name, getattr(case, name))
        object.__setattr__(self, "_work", work)

    def workload(self) -> Workload:
        return self._work  # type: ignore[attr-defined, no-any-return]
