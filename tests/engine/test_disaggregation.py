"""Prefill and decode on different instances: what the copy costs, what a full decode pool does, nothing lost or doubled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import PolicyParams
from simserve.engine import InstanceSpec, simulate
from simserve.engine.cluster_view import ClusterView
from simserve.engine.records import RunRecords, Status
from simserve.engine.request import LiveRequest
from simserve.engine.spec import ClusterSpec, LinkSpec
from simserve.errors import ConfigError
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_world import routed
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost, RoundCost

LINK = LinkSpec(bytes_per_s=1000.0, latency_s=0.5, kv_bytes_per_token=100.0)


def spec(role: str, policy: str = "vllm-v1", cost: Any = None, **kw: Any) -> InstanceSpec:
    cls = scheduler_class(policy)
    slots = kw.pop("max_seqs", 8)
    params: dict[str, Any] = {"max_seqs": slots}
    scheduler = cls(cls.Params(**params))
    base = InstanceSpec(role, scheduler, cost or RoundCost(), 100, block_tokens=4, max_seqs=slots, role=role, link=LINK)
    return replace(base, **kw)


def together(prompts: list[int], outputs: list[int]) -> Workload:
    return Workload(RequestTable.build(np.zeros(len(prompts)), np.array(prompts), np.array(outputs)))


def serve(work: Workload, *specs: InstanceSpec, **kw: Any) -> RunRecords:
    return simulate(work, specs, kw.pop("cluster", routed()), check=True, **kw)


def test_the_second_token_waits_for_latency_and_bytes_over_bandwidth() -> None:
    records = serve(together([20], [3]), spec("prefill"), spec("decode"))
    first, second, third = token_times(records)[0]
    # 20 tokens of 100 bytes at 1000 bytes/s after 0.5 s; then a decode step of 0.25 s.
    assert second - first == pytest.approx(0.5 + 2.0 + 0.25)
    assert third - second == pytest.approx(0.25)
    assert records.requests.instance.tolist() == [1]
    assert [lane.span_decode_requests.max() for lane in records.lanes] == [0, 1]
    assert records.lanes[1].span_prefill_tokens.sum() == 0


def test_a_request_of_one_token_never_moves() -> None:
    records = serve(together([20], [1]), spec("prefill"), spec("decode"))
    assert records.requests.instance.tolist() == [0]
    assert len(records.lanes[1].step_end_s) == 0


def test_blocks_sent_one_by_one_cost_a_message_each() -> None:
    # 2000 bytes in messages of 400: four further messages of 0.1 s.
    by_block = replace(LINK, per_message_s=0.1, message_bytes=400.0)
    whole = serve(together([20], [2]), spec("prefill"), spec("decode")).requests.finish_s[0]
    pieces = serve(together([20], [2]), spec("prefill", link=by_block), spec("decode")).requests.finish_s[0]
    assert pieces - whole == pytest.approx(0.4)


def test_copies_share_the_link_of_the_prefill_instance() -> None:
    alone = serve(together([20], [2]), spec("prefill"), spec("decode"))
    both = serve(together([20, 20], [2, 2]), spec("prefill", link=replace(LINK, latency_s=0.0)), spec("decode"))
    first, second = (np.array(t) for t in token_times(both))
    assert alone.requests.status[0] == Status.COMPLETED
    assert max(second[1] - second[0], first[1] - first[0]) >= 4.0  # two copies of 2 s together take 4 s


def test_a_full_decode_instance_holds_the_kv_back_on_the_prefill_instance() -> None:
    # The decode instance holds one request at a time; the prefill instance two: the third prompt waits for a decode to end.
    work = together([16, 16, 16], [12, 12, 12])
    tight = serve(work, spec("prefill", kv_blocks=9), spec("decode", kv_blocks=8))
    roomy = serve(work, spec("prefill", kv_blocks=90), spec("decode", kv_blocks=80))
    assert tight.requests.first_token_s[2] > roomy.requests.first_token_s[2]
    assert tight.requests.scheduled_s[2] > tight.requests.first_token_s[0]
    assert (tight.requests.status == Status.COMPLETED).all()


def test_a_decode_instance_recomputes_what_it_preempts() -> None:
    rng = np.random.default_rng(5)
    work = Workload(RequestTable.build(np.sort(rng.uniform(0, 5, 20)), rng.integers(4, 20, 20), rng.integers(10, 30, 20)))
    records = serve(work, spec("prefill"), spec("decode", kv_blocks=24, link=None))
    assert records.requests.preemptions.sum() > 0
    assert (records.requests.status == Status.COMPLETED).all()
    assert records.lanes[1].span_prefill_tokens.sum() > 0


@pytest.mark.parametrize(("role", "missing"), [("prefill", "no decode"), ("decode", "no prefill")])
def test_a_cluster_that_cannot_finish_a_request_is_refused(role: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        simulate(together([4], [2]), [spec(role)])


def test_a_prefill_instance_needs_a_link_and_a_link_needs_bandwidth() -> None:
    with pytest.raises(ConfigError, match="needs a link"):
        spec("prefill", link=None)
    with pytest.raises(ConfigError, match="above 0"):
        serve(together([4], [2]), spec("prefill", link=replace(LINK, bytes_per_s=0.0)), spec("decode"))


class Lends:
    """A decode router of pools that lend each other instances, which always names the decode instance."""

    Params = PolicyParams
    crosses_roles = True

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        return 1


@pytest.mark.parametrize("short", [0, 1])
@pytest.mark.parametrize("watermark", [0, 2])
def test_a_request_that_may_stay_leaves_only_for_memory_that_is_there(watermark: int, short: int) -> None:
    """When the second prompt's prefill ends, the first request decodes in the middle of its steps and holds the blocks of all its tokens
    and the next. With just the second's blocks above the watermark left it moves; with one fewer it stays where it is."""
    work = Workload(RequestTable.build(np.array([0.0, 8.1]), np.array([15, 15]), np.array([60, 4])))

    def run(blocks: int) -> RunRecords:
        pool = [spec("prefill"), spec("decode", kv_blocks=blocks, watermark_blocks=watermark)]
        return serve(work, *pool, cluster=ClusterSpec(decode_router=Lends()))

    roomy = run(100)
    first, second = token_times(roomy)
    tokens = 15 + sum(t <= second[0] for t in first)
    held = -(-tokens // 4)
    assert roomy.requests.instance.tolist() == [1, 1] and tokens < 75
    records = run(held + 16 // 4 + watermark - short)
    assert records.requests.instance.tolist() == [1, 1 - short]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(["sarathi", "vllm-v0", "vllm-v1", "fastgen", "orca", "static", "distserve"]),
    prefills=st.integers(1, 2),
    decodes=st.integers(1, 3),
    blocks=st.integers(12, 40),
    swap=st.booleans(),
    until=st.sampled_from([None, None, 3.0]),
)
def test_invariants_hold_for_every_policy(
    seed: int, policy: str, prefills: int, decodes: int, blocks: int, swap: bool, until: float | None
) -> None:
    """`check=True` recounts blocks after every span and compares runs with and without spans."""
    rng = np.random.default_rng(seed)
    work = Workload(RequestTable.build(np.sort(rng.uniform(0, 4, 25)), rng.integers(0, 40, 25), rng.integers(0, 12, 25)))
    kw: dict[str, Any] = {"preemption": "swap", "host_kv_blocks": 10} if swap else {}
    pool = [spec("prefill", policy, JaggedCost(), name=f"p{i}", kv_blocks=blocks, max_seqs=3, **kw) for i in range(prefills)]
    pool += [spec("decode", policy, JaggedCost(), name=f"d{i}", kv_blocks=blocks, max_seqs=3, **kw) for i in range(decodes)]
    records = serve(work, *pool, until_s=until)
    if until is None:
        assert (records.requests.status != Status.UNFINISHED).all()
