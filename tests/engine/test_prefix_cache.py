"""Prefix caching: equal beginnings are computed once, memory is never counted twice, and the least recently used goes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.prefix_cache import PrefixCache
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, Failures
from simserve.errors import ConfigError
from simserve.policies import registry
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.reference.toy_cost import JaggedCost


def table(
    arrivals: list[float], contents: list[list[int]], prompts: list[int], outputs: list[int], tokens_per_id: int = 32
) -> RequestTable:
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in contents])]).astype(np.int64)
    ids = np.array([i for c in contents for i in c], dtype=np.int64)
    prefix = PrefixBlocks(offsets, ids, tokens_per_id)
    return RequestTable.build(np.array(arrivals), np.array(prompts), np.array(outputs), prefix=prefix)


def serve(t: RequestTable, policy: str = "vllm-v1", caching: bool = True, blocks: int = 100, order: str = "fcfs", **kw: int) -> RunRecords:
    cls = scheduler_class(policy)
    spec = InstanceSpec(
        "i",
        cls(cls.Params(max_seqs=8)),
        JaggedCost(),
        kv_blocks=blocks,
        block_tokens=8,
        max_seqs=8,
        order=registry.order(order),
        prefix_caching=caching,
        **kw,
    )
    return simulate(Workload(t), [spec], check=True)


def test_a_repeated_prompt_is_found_but_for_its_last_block() -> None:
    r = serve(table([0.0, 1000.0], [[1, 2, 3], [1, 2, 3]], [96, 96], [4, 4])).requests
    # At least one token must be computed to emit one, so of three cached runs of 32 tokens two are used.
    assert r.cached_tokens.tolist() == [0, 64]
    assert r.first_token_s[1] - r.released_s[1] < r.first_token_s[0] - r.released_s[0]


def test_a_prefix_is_a_prefix() -> None:
    r = serve(table([0.0, 1000.0, 2000.0], [[1, 2, 3], [9, 2, 3], [1, 2, 7]], [100, 100, 100], [2, 2, 2])).requests
    assert r.cached_tokens.tolist() == [0, 0, 64]


def test_requests_running_together_share_what_is_computed_already() -> None:
    r = serve(table([0.0, 3.0], [[5, 6], [5, 6]], [70, 70], [400, 2])).requests
    assert r.released_s[1] < r.finish_s[0]
    assert r.cached_tokens.tolist() == [0, 64]


def test_without_caching_nothing_is_found() -> None:
    assert serve(table([0.0, 1000.0], [[1], [1]], [64, 64], [2, 2]), caching=False).requests.cached_tokens.sum() == 0


def test_what_is_read_again_after_a_preemption_is_no_hit() -> None:
    """Two prompts of their own, 32 tokens each, in 5 blocks of 16: the younger gives way and finds its own first block again."""
    cls = scheduler_class("vllm-v1")
    t = table([0.0, 0.0], [[1, 2], [3, 4]], [32, 32], [20, 20], tokens_per_id=16)
    spec = InstanceSpec("i", cls(cls.Params(max_seqs=8)), JaggedCost(), kv_blocks=5, block_tokens=16, max_seqs=8, prefix_caching=True)
    records = simulate(Workload(t), [spec], check=True)
    r = records.requests
    assert r.preemptions.tolist() == [0, 1]
    assert r.cached_tokens.tolist() == [0, 0]
    assert 0 < r.reread_tokens[1] <= 32 and r.reread_tokens[0] == 0
    assert records.counters["reread_tokens"] == r.reread_tokens.sum()


def test_what_a_failed_try_had_found_is_no_hit_of_the_next() -> None:
    """A prompt is found by a request whose instance then dies. Its next try finds nothing there: its hits are those of that try, none."""
    cls = scheduler_class("vllm-v1")
    t = table([0.0, 100.0], [[1, 2, 3], [1, 2, 3]], [96, 96], [4, 400])
    for rule, cached in (("resume", [0, 64]), ("retry", [0, 0])):
        spec = InstanceSpec("i", cls(cls.Params(max_seqs=8)), JaggedCost(), 100, block_tokens=8, max_seqs=8, prefix_caching=True)
        failures = Failures(times=((105.0, 0),), restart_s=1.0, rule=rule)
        r = simulate(Workload(t), [spec], ClusterSpec(failures=failures), check=True).requests
        assert r.cached_tokens.tolist() == cached
        assert (r.cached_tokens + r.reread_tokens).tolist() == [0, 64]


def test_memory_needed_by_others_evicts_the_least_recently_used_first() -> None:
    # 20 blocks of 8 tokens. Prompts a and b of 64 tokens leave 8 blocks each behind; the other one needs 12 and so takes a's.
    t = table([0.0, 100.0, 200.0, 300.0, 400.0], [[1, 2], [3, 4], [], [3, 4], [1, 2]], [65, 65, 90, 65, 65], [2] * 5)
    assert serve(t, blocks=20).requests.cached_tokens.tolist() == [0, 0, 0, 64, 0]


def test_the_cache_makes_room_for_prompts_as_large_as_all_memory() -> None:
    t = table([0.0, 100.0], [[1, 2], [7, 8, 9]], [64, 150], [2, 2])
    assert (serve(t, blocks=20).requests.status == 1).all()


def test_longest_prefix_goes_first() -> None:
    # While the first is served, two wait; the later one shares its prompt.
    first, other, second = [1, 2, 3], [7, 8, 9], [1, 2, 3]
    t = table([0.0, 0.01, 0.02], [first, other, second], [110, 110, 110], [30, 2, 2])
    kw = {"blocks": 19}
    fair = serve(t, **kw).requests
    lpm = serve(t, order="longest-prefix", **kw).requests
    assert fair.scheduled_s[1] < fair.scheduled_s[2]
    assert lpm.scheduled_s[2] < lpm.scheduled_s[1]
    assert lpm.cached_tokens[2] == 96


def test_prefix_blocks_must_be_whole_kv_blocks() -> None:
    with pytest.raises(ConfigError, match="block_tokens 24"):
        PrefixCache(24, 32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(["sarathi", "vllm-v0", "vllm-v1", "fastgen", "orca", "static"]),
    order=st.sampled_from(["fcfs", "longest-prefix", "shortest-job"]),
    swap=st.booleans(),
    blocks=st.integers(30, 60),
)
def test_invariants_hold_with_sharing_in_scarce_memory(seed: int, policy: str, order: str, swap: bool, blocks: int) -> None:
    """`check=True` recounts blocks after every span and compares runs with and without spans."""
    rng = np.random.default_rng(seed)
    n = 40
    lengths = rng.integers(1, 6, n)
    contents = [[int(rng.integers(0, 3)) * 100 + j for j in range(k)] for k in lengths]
    prompts = [int(k * 32 - rng.integers(0, 31)) for k in lengths]
    t = table(np.sort(rng.uniform(0, 40, n)).tolist(), contents, prompts, rng.integers(0, 50, n).tolist())
    kw = {"preemption": "swap", "host_kv_blocks": 20} if swap else {}
    records = serve(t, policy, blocks=blocks, order=order, **kw)  # type: ignore[arg-type]
    assert (records.requests.cached_tokens >= 0).all()
