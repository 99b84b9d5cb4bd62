"""A client of the contracts: requests that hold memory and wait for a load (KV of another tier, an adapter) before they are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import ClusterView, Loading, Request, Router
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, Failures
from simserve.errors import ConfigError
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.reference.toy_cost import RoundCost


class Tier:
    """Rows of a tier: their KV but for the last 4 tokens comes in `seconds`. Counts what it was asked."""

    def __init__(self, rows: set[int], seconds: float = 1.0, tokens: bool = True) -> None:
        self.rows, self.seconds, self.tokens = rows, seconds, tokens
        self.asked: list[tuple[int, float]] = []

    def load(self, request: Request, now: float) -> Loading | None:
        self.asked.append((request.row, now))
        return Loading(self.seconds, max(0, request.prompt_tokens - 4) if self.tokens else 0) if request.row in self.rows else None


class First(Router):
    """The first instance that is open."""

    def choose(self, request: Request, view: ClusterView) -> int:
        return view.open[0]


class Adapters:
    """One adapter for each session, loaded when it is first needed; then it stays."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.there_at_s = seconds, dict[int, float]()

    def load(self, request: Request, now: float) -> Loading | None:
        at_s = self.there_at_s.setdefault(request.session, now + self.seconds)
        return Loading(at_s - now) if at_s > now else None


def serve(
    prompts: list[int], loads: tuple[Any, ...], policy: str = "sarathi", arrivals: list[float] | None = None, output: int = 3, **more: Any
) -> RunRecords:
    n = len(prompts)
    sessions = more.pop("sessions", None)
    cluster = more.pop("cluster", None)
    times = np.zeros(n) if arrivals is None else np.array(arrivals)
    table = RequestTable.build(times, np.array(prompts), np.full(n, output), session=None if sessions is None else np.array(sessions))
    cls = scheduler_class(policy)
    options = {"kv_blocks": 100, "block_tokens": 4, "max_seqs": 8, **more}
    count = 2 if cluster is not None else 1
    specs = [InstanceSpec(f"i{k}", cls(cls.Params()), RoundCost(), loads=loads, **options) for k in range(count)]
    return simulate(Workload(table), specs, cluster, check=not cluster)


def test_a_prompt_in_the_tier_is_computed_from_where_the_tier_ends() -> None:
    records = serve([16], (Tier({0}),))
    # Loaded at 1 s; 4 tokens are left to compute: 1/4 s. From scratch the 16 tokens take 3/4 s.
    assert records.requests.scheduled_s.tolist() == [1.0]
    assert records.requests.first_token_s.tolist() == [1.25]
    assert records.requests.cached_tokens.tolist() == [12]
    assert serve([16], (Tier(set()),)).requests.first_token_s.tolist() == [0.75]


def test_it_holds_its_memory_while_it_waits() -> None:
    # 16 tokens take 4 of 6 blocks; the second prompt takes 4 and has to wait until the first has ended.
    records = serve([16, 16], (Tier({0}),), kv_blocks=6, output=1)
    assert records.requests.finish_s.tolist() == [1.25, 2.0]


def test_others_run_meanwhile_and_it_comes_before_those_behind_it() -> None:
    tier = Tier({0})
    records = serve([16, 8, 8], (tier,), output=1, arrivals=[0.0, 0.0, 0.9], max_seqs=1)
    # Row 1 runs at 0, row 2 arrives at 0.9 and runs; row 0 is loaded at 1.0 and comes next.
    assert records.requests.finish_s.tolist() == [1.65, 0.5, 1.4]
    assert tier.asked[:2] == [(0, 0.0), (1, 0.0)]


def test_loads_of_one_request_run_side_by_side() -> None:
    records = serve([16], (Tier({0}, 1.0), Tier({0}, 2.5, tokens=False)))
    assert records.requests.scheduled_s.tolist() == [2.5]
    assert records.requests.cached_tokens.tolist() == [12]


def test_an_adapter_is_waited_for_once() -> None:
    records = serve([8, 8, 8], (Adapters(1.0),), sessions=[1, 1, 2], arrivals=[0.0, 0.5, 3.0], output=1)
    assert records.requests.scheduled_s.tolist() == [1.0, 1.0, 4.0]


@pytest.mark.parametrize("policy", ["sarathi", "vllm-v0", "vllm-v1", "orca", "static", "fastgen", "distserve", "sglang", "past-future"])
@settings(max_examples=12, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 30), min_size=1, max_size=7),
    loaded=st.sets(st.integers(0, 6)),
    seconds=st.sampled_from([0.0, 0.25, 0.3, 2.0]),
    gaps=st.sampled_from([0.0, 0.25, 0.7]),
    kv_blocks=st.sampled_from([12, 20, 100]),
)
def test_every_policy_serves_all_requests(
    policy: str, prompts: list[int], loaded: set[int], seconds: float, gaps: float, kv_blocks: int
) -> None:
    arrivals = [gaps * k for k in range(len(prompts))]
    records = serve(prompts, (Tier(loaded, seconds),), policy, arrivals, output=5, kv_blocks=kv_blocks)  # checked: I1 to I10
    assert records.requests.generated_tokens.tolist() == [5] * len(prompts)
    assert records.counters["kv_blocks_in_use_at_end"] == 0


@pytest.mark.parametrize(
    ("prompts", "loaded", "gap", "kv_blocks"),
    [([22, 27, 25, 26], {2}, 0.7, 12), ([13, 7, 30, 10], {0, 2}, 0.25, 14), ([17, 20, 13, 15], {0, 1}, 0.0, 12)],
)
def test_those_that_wait_with_memory_do_not_starve_those_that_run(prompts: list[int], loaded: set[int], gap: float, kv_blocks: int) -> None:
    for output in (1, 5, 9):
        records = serve(prompts, (Tier(loaded, 2.0),), "fastgen", [gap * k for k in range(len(prompts))], output, kv_blocks=kv_blocks)
        assert records.requests.generated_tokens.tolist() == [output] * len(prompts)


def test_a_dead_instance_loses_what_was_loaded() -> None:
    tier = Tier({0}, 2.0)
    cluster = ClusterSpec(router=First(), failures=Failures(times=((1.0, 0),), restart_s=100.0))
    records = serve([16], (tier,), cluster=cluster)
    assert tier.asked == [(0, 0.0), (0, 1.0)]  # again, on the other one
    assert records.requests.scheduled_s.tolist() == [3.0]


def test_a_load_must_end() -> None:
    for seconds in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=f"request 0 waits for {seconds} s"):
            serve([8], (Tier({0}, seconds),))


def test_what_has_been_loaded_waits_where_routers_see_it() -> None:
    """The load of the second request ends within a long step of the first: the router of the fourth sees it wait beside the third."""
    seen: list[tuple[float, int, int]] = []

    class Looking(First):
        def choose(self, request: Request, view: ClusterView) -> int:
            seen.append((view.now, view.waiting[0], view.outstanding[0]))
            return 0

    arrivals = [0.0, 0.0, 0.2, 0.7]
    records = serve([1600, 8, 4, 4], (Tier({1}, 0.5),), "vllm-v0", arrivals, kv_blocks=1000, cluster=ClusterSpec(router=Looking()))
    first_step_s = float(records.requests.first_token_s[0])
    assert first_step_s > 1.0, "the prompt of the first is under way all the time"
    assert seen == [(0.0, 0, 0), (0.0, 1, 1), (0.2, 0, 2), (0.7, 2, 3)], "(time, waiting, outstanding): while it loads it does not wait"
