"""Matching token by token: matches of any length are reused, whole blocks are shared, the block at the end of a match is copied."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.kv_cache import KvCache
from simserve.engine.records import RunRecords
from simserve.engine.request import LiveRequest
from simserve.engine.token_prefix import TokenPrefixCache
from simserve.errors import ConfigError
from simserve.policies import registry
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.engine.cluster_cases import ClusterCase, clusters
from tests.engine.test_differential_cluster import assert_agree, close, equal
from tests.reference.naive_cluster import NaiveCluster
from tests.reference.toy_cost import JaggedCost

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "60"))


def table(arrivals: list[float], contents: list[list[int]], prompts: list[int], outputs: list[int], run: int, **told: Any) -> RequestTable:
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in contents])]).astype(np.int64)
    ids = np.array([i for c in contents for i in c], dtype=np.int64)
    return RequestTable.build(
        np.array(arrivals), np.array(prompts), np.array(outputs), prefix=PrefixBlocks(offsets, ids, run, told.pop("whole", False)), **told
    )


def serve(t: RequestTable, policy: str = "vllm-v1", blocks: int = 100, match: str = "token", order: str = "fcfs", **kw: Any) -> RunRecords:
    cls = scheduler_class(policy)
    spec = InstanceSpec(
        "i",
        cls(cls.Params(max_seqs=8)),
        JaggedCost(),
        kv_blocks=blocks,
        block_tokens=8,
        max_seqs=8,
        order=registry.order(order),
        prefix_caching=True,
        prefix_match=match,
        **kw,
    )
    return simulate(Workload(t), [spec], check=True)


def words(*parts: tuple[int, int]) -> list[int]:
    """Ids of single tokens: so many of each text."""
    return [1000 * text + place for text, tokens in parts for place in range(tokens)]


def test_all_but_the_last_token_of_a_repeated_prompt_is_found() -> None:
    t = table([0.0, 1000.0], [words((1, 30)), words((1, 30))], [30, 30], [2, 2], run=1)
    assert serve(t).requests.cached_tokens.tolist() == [0, 29]


def test_prompts_share_as_far_as_they_are_alike() -> None:
    texts = [words((1, 30)), words((1, 21), (2, 9)), words((1, 21), (2, 4), (3, 5)), words((1, 5), (4, 25)), words((5, 30))]
    t = table([1000.0 * i for i in range(5)], texts, [30] * 5, [2] * 5, run=1)
    assert serve(t).requests.cached_tokens.tolist() == [0, 21, 25, 5, 0]


def test_a_prompt_in_the_middle_of_its_computation_is_shared_as_far_as_it_is_computed() -> None:
    """Chunks of 20 tokens (sarathi): when the second comes, 20 tokens of the first are there, two blocks and a half."""
    cls = scheduler_class("sarathi")
    spec = InstanceSpec(
        "i", cls(cls.Params(token_budget=20)), JaggedCost(), 100, block_tokens=8, max_seqs=8, prefix_caching=True, prefix_match="token"
    )
    t = table([0.0, 0.001], [words((1, 60)), words((1, 60))], [60, 60], [2, 2], run=1)
    r = simulate(Workload(t), [spec], check=True).requests
    assert r.cached_tokens.tolist() == [0, 59]  # it is admitted when the first has taken all of the budget, three steps
    t = table([0.0, 0.001], [words((1, 30)), words((1, 30))], [30, 30], [2, 2], run=1)
    assert simulate(Workload(t), [spec], check=True).requests.cached_tokens.tolist() == [0, 20]


def test_runs_of_many_tokens_are_matched_whole_but_for_the_one_in_which_a_prompt_ends() -> None:
    """Contents told in runs of 12 tokens, blocks of 8: prompts part where their ids do; within a run only where one of them ends."""
    texts = [[1, 2, 3], [1, 2, 9], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]
    t = table([1000.0 * i for i in range(5)], texts, [30, 36, 26, 48, 48], [2] * 5, run=12)
    assert serve(t).requests.cached_tokens.tolist() == [0, 24, 25, 30, 47]


def test_generated_tokens_are_found_where_the_workload_tells_them() -> None:
    """A second turn repeats the first's prompt and answer, 33 tokens whose last one was never computed into the cache."""
    texts = [words((1, 33)), words((1, 33), (2, 20))]
    t = table([0.0, 1000.0], texts, [20, 40], [13, 13], run=1, whole=True)
    assert serve(t).requests.cached_tokens.tolist() == [0, 32]
    assert serve(t, caches_outputs=False).requests.cached_tokens.tolist() == [0, 20]


def a_request(row: int, ids: list[int], prompt: int) -> LiveRequest:
    request = LiveRequest(row, 0.0, prompt, 0, -1, -1)
    request.prefix_ids = ids
    return request


def test_a_copied_tail_takes_a_block_and_whole_blocks_are_counted_once() -> None:
    kv = KvCache(20, 8, 0, 0, TokenPrefixCache(8, 1))
    assert kv.prefix is not None
    first = a_request(0, words((1, 30)), 30)
    assert kv.admit(first, 4)
    first.computed_tokens = 30
    kv.prefix.add(first)
    second = a_request(1, words((1, 21), (2, 9)), 30)
    assert kv.admit(second, 4)
    assert second.computed_tokens == 21
    assert kv.used_blocks == 4 + 2  # of its four blocks two are shared; one is the copy of the third, the last is its own
    second.computed_tokens = 30
    kv.prefix.add(second)
    kv.release(first)
    kv.release(second)
    assert kv.used_blocks == 0 and kv.prefix.idle_blocks == 6  # two shared, and two of each
    assert kv.spare_blocks == 14


def test_a_block_is_forgotten_when_its_memory_is_needed_and_its_end_before_its_beginning() -> None:
    t = table([0.0, 1000.0, 2000.0], [words((1, 40)), [], words((1, 40))], [40, 50, 40], [2] * 3, run=1)
    # Of 10 blocks the first leaves 5. The other takes 7: of the first's five, three stay.
    assert serve(t, blocks=10).requests.cached_tokens.tolist() == [0, 0, 24]


def test_a_block_that_has_been_filled_up_is_one_block() -> None:
    """The tail of a chunk goes on as the block that it becomes."""
    kv = KvCache(20, 8, 0, 0, TokenPrefixCache(8, 1))
    assert kv.prefix is not None
    request = a_request(0, words((1, 30)), 30)
    assert kv.admit(request, 4)
    for computed in (3, 11, 16, 20, 30):
        request.computed_tokens = computed
        kv.prefix.add(request)
        assert kv.prefix.blocks_in_use == -(-computed // 8)
    other = a_request(1, words((1, 20), (2, 5)), 25)
    assert kv.cached_tokens(other) == 20


def test_matching_whole_runs_finds_no_more() -> None:
    rng = np.random.default_rng(3)
    texts = [words((int(rng.integers(0, 2)), int(rng.integers(1, 40))), (10 + i, 40)) for i in range(30)]
    t = table(np.sort(rng.uniform(0, 60, 30)).tolist(), texts, [int(rng.integers(20, 60)) for _ in texts], [3] * 30, run=8)
    by_token, by_block = (serve(t, match=match, blocks=400).requests.cached_tokens.sum() for match in ("token", "block"))
    assert by_token >= by_block > 0


def test_unknown_ways_of_matching_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown prefix_match 'tokens'.*token"):
        serve(table([0.0], [[1]], [8], [2], run=8), match="tokens")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.integers(1, 9), run=st.integers(1, 9), outputs=st.booleans())
def test_a_match_is_the_longest_common_beginning(seed: int, block: int, run: int, outputs: bool) -> None:
    """Against all that was ever computed, token by token. Memory for everything: nothing is forgotten."""
    rng = np.random.default_rng(seed)
    n = 12
    prompts, answers = rng.integers(1, 40, n), rng.integers(1, 12, n) * outputs
    kinds = [np.cumsum(rng.integers(0, 3, 60) == 0) for _ in range(n)]  # ids that stay alike for some runs
    texts = [[int(k) for k in kind[: -(-int(p + a) // run)]] for kind, p, a in zip(kinds, prompts, answers, strict=True)]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    told = PrefixBlocks(offsets, np.array([i for t in texts for i in t], dtype=np.int64), run, outputs).chained()
    index = TokenPrefixCache(block, run, told if outputs else None)
    there: list[list[tuple[int, int]]] = []
    for row in range(n):
        keys = told.first(row, 99)
        prompt, text = int(prompts[row]), [(key, place) for key in keys for place in range(run)][: int(prompts[row] + answers[row])]
        request = a_request(row, keys, prompt)
        expected = max((alike(text, other, prompt - 1) for other in there), default=0)
        assert index.match(request) == expected
        index.pin(request, expected)
        for computed in sorted(rng.integers(expected + 1, len(text) + 1, 2).tolist()):
            request.computed_tokens = computed
            index.add(request)
        told_tokens = request.computed_tokens if outputs else min(request.computed_tokens, prompt)
        there.append(text[:told_tokens])
        if rng.integers(0, 2):
            index.release(request)


def alike(one: list[tuple[int, int]], other: list[tuple[int, int]], most: int) -> int:
    count = 0
    while count < min(most, len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    policy=st.sampled_from(["sarathi", "vllm-v0", "vllm-v1", "fastgen", "orca", "static"]),
    order=st.sampled_from(["fcfs", "longest-prefix", "shortest-job"]),
    swap=st.booleans(),
    blocks=st.integers(30, 60),
    run=st.sampled_from([1, 3, 8, 32]),
    sessions=st.booleans(),
)
def test_invariants_hold_with_copied_tails_in_scarce_memory(
    seed: int, policy: str, order: str, swap: bool, blocks: int, run: int, sessions: bool
) -> None:
    """`check=True` recounts blocks after every span and compares runs with and without spans."""
    rng = np.random.default_rng(seed)
    n = 40
    prompts, outputs = rng.integers(1, 160, n), rng.integers(0, 50, n)
    texts = []
    for i in range(n):
        alike_runs, family = int(rng.integers(0, 100)) // run, int(rng.integers(0, 3))
        runs = -(-int(prompts[i] + outputs[i] * sessions) // run)
        texts.append([family * 1000 + j if j < alike_runs else 10_000 * (i + 1) + j for j in range(runs)])
    t = table(np.sort(rng.uniform(0, 40, n)).tolist(), texts, prompts.tolist(), outputs.tolist(), run, whole=sessions)
    kw = {"preemption": "swap", "host_kv_blocks": 20} if swap else {}
    records = serve(t, policy, blocks=blocks, order=order, **kw)
    assert (records.requests.cached_tokens >= 0).all()


@dataclass(frozen=True)
class TokenCase(ClusterCase):
    """A cluster that matches token by token, its contents told in runs of `run_tokens`."""

    run_tokens: int = 1

    def workload(self) -> Any:
        work = super().workload()
        prefix = work.requests.prefix
        assert prefix is not None
        return replace(work, requests=replace(work.requests, prefix=replace(prefix, block_tokens=self.run_tokens)))

    def _spec(self, i: int) -> InstanceSpec:
        return replace(super()._spec(i), prefix_match="token")

    def naive_options(self) -> dict[str, Any]:
        return {"prefix_match": "token"}


@st.composite
def token_cases(draw: st.DrawFn, **how: Any) -> TokenCase:
    case = draw(clusters(caching=True, **how))
    run = draw(st.integers(1, 5))
    texts = []
    for number, row in enumerate(case.base.rows):
        runs = -(-(row.prompt + row.output * case.outputs) // run)
        family, same = draw(st.integers(0, 1)), draw(st.sampled_from([99, 99, 7, 3, 1]))
        texts.append(tuple(1000 * family + j if j < same else 10_000 + 1000 * number + j for j in range(runs)))
    return TokenCase(**{**vars(case), "contents": tuple(texts), "run_tokens": run})


WAYS: dict[str, tuple[dict[str, Any], Any]] = {
    "one instance": ({"sizes": (1,)}, equal),
    "windows and states": ({"sizes": (1, 2), "grouped": True}, equal),
    "transfers and deaths": ({"sizes": (2, 3), "kv_transfers": True, "deaths": True, "ways": ("pull", "push", "push-layerwise")}, close),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_engine_equals_the_naive_cluster(way: str) -> None:
    how, same = WAYS[way]
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(token_cases(**how))
    def run(case: TokenCase) -> None:
        naive: NaiveCluster = case.naive()
        if same is close and any(link is not None and link.rounded for link in naive.links):
            return
        for fast_forward in (True, False):
            assert_agree(case.engine(fast_forward=fast_forward), naive, same)
        block = case.base.block_tokens
        seen.update(cases=1, preempted=any(r.preemptions for r in naive.reqs), copied=any(r.cached % block for r in naive.reqs))

    run()
    assert seen["copied"] * 6 >= seen["cases"], seen
    assert seen["preempted"] * 10 >= seen["cases"], seen
