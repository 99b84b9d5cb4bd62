"""Layers that keep a window, and recurrent state: what a sequence takes of the pool, by hand, and that spans and moves count the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.decode_group import NO_END, DecodeGroup
from simserve.engine.kv_cache import KvCache
from simserve.engine.kv_groups import NO_LIMIT, KvGroups, KvWindow
from simserve.engine.kv_view import KvView
from simserve.engine.prefix_cache import PrefixCache
from simserve.engine.records import Status
from simserve.engine.request import LiveRequest
from simserve.engine.spec import ClusterSpec, LinkSpec, MigrationSpec
from simserve.errors import ConfigError, InvariantError
from simserve.policies.routing.freeness import MostFree
from simserve.workload.requests import Workload
from tests.engine.clients import test_asynchronous_load as loading
from tests.engine.clients import test_uneven_emission as speculating
from tests.engine.cluster_world import LINK, Orders, contents, moves, one_long, serve, spec, work
from tests.engine.strategies import POLICIES, Case, cases
from tests.engine.test_cluster_random import clusters
from tests.engine.test_pipeline import StagedCost
from tests.engine.test_routers import Looks
from tests.reference.toy_cost import RoundCost

WINDOW = KvGroups(1, (KvWindow(2, 6, 3),), 0)
"""Blocks of 4 tokens: 1 of every token, 2 for each of the last 3 blocks (6 while a prompt is computed)."""

MIXED = KvGroups(2, (KvWindow(1, 4, 2), KvWindow(3, 6, 5)), 7)


def a_request(row: int = 0, prompt_tokens: int = 40, ids: tuple[int, ...] = ()) -> LiveRequest:
    request = LiveRequest(row, 0.0, prompt_tokens, 0, -1, -1)
    request.prefix_ids = list(ids)
    return request


def cache(groups: KvGroups = WINDOW, blocks: int = 100, **more: Any) -> KvCache:
    return KvCache(blocks, 4, 0, 50, groups=groups, **more)


# -- arithmetic -----------------------------------------------------------------------------------------------------------------------


def test_a_window_keeps_more_of_a_prompt_than_of_an_answer() -> None:
    assert [WINDOW.pool_blocks(table, True) for table in (1, 3, 4, 10)] == [3, 9, 10, 16]
    assert [WINDOW.pool_blocks(table, False) for table in (1, 3, 4, 10)] == [3, 9, 12, 22]
    assert MIXED.pool_blocks(10, True) == 20 + 2 + 15 + 7
    assert MIXED.pool_blocks(10, False) == 20 + 4 + 18 + 7


@pytest.mark.parametrize("groups", [WINDOW, MIXED, KvGroups(3, (), 11), KvGroups(0, (KvWindow(1, 5, 3),), 0)])
def test_the_longest_table_is_the_last_that_fits_with_room_for_the_next_question(groups: KvGroups) -> None:
    for pool in range(120):
        longest = groups.longest_table(pool)
        spare = groups.per_block - groups.full + groups.state
        fits = [table for table in range(1, 200) if groups.pool_blocks(table, False) + spare <= pool]
        assert (longest or 0) == max(fits, default=0) or (longest is None and len(fits) == 199)


def test_a_model_of_windows_alone_has_no_longest_sequence_once_its_windows_fit() -> None:
    groups = KvGroups(0, (KvWindow(1, 5, 3),))
    assert groups.longest_table(6) is None and groups.longest_table(5) == 4
    assert replace(spec(), kv_groups=groups, kv_blocks=6).limit_tokens == NO_LIMIT
    assert replace(spec(), kv_groups=groups, kv_blocks=6, max_model_len=99).limit_tokens == 99


@pytest.mark.parametrize(
    "make",
    [
        lambda: KvGroups(0),
        lambda: KvGroups(1, (KvWindow(1, 2, 3),)),
        lambda: KvGroups(1, (KvWindow(1, 5, 4), KvWindow(1, 5, 3))),
        lambda: KvGroups(1, (), -1),
        lambda: replace(spec(), kv_groups=KvGroups(0, (KvWindow(1, 2, 2),)), prefix_caching=True),
    ],
)
def test_groups_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


# -- the verbs ------------------------------------------------------------------------------------------------------------------------


def test_a_prompt_grows_its_window_and_an_answer_gives_back_what_it_does_not_keep() -> None:
    kv, request = cache(), a_request()
    assert kv.admit(request, 4) and (request.held_blocks, kv.used_blocks) == (4, 4 + 8)
    assert kv.grow(request, 40) and (request.held_blocks, kv.used_blocks) == (10, 10 + 12)
    kv.decode(request)
    assert (request.held_blocks, kv.used_blocks) == (10, 10 + 6) and kv.owned(request) == 16
    kv.release(request)
    assert (request.held_blocks, request.beside_blocks, kv.used_blocks) == (0, 0, 0) and kv.adds_up()


def test_a_newcomer_that_does_not_fit_with_its_window_changes_nothing() -> None:
    kv, request = cache(blocks=11), a_request()
    assert not kv.admit(request, 4) and (kv.free_blocks, request.held_blocks, request.beside_blocks) == (11, 0, 0)
    assert kv.admit(request, 3) and not kv.grow(request, 16) and kv.owned(request) == 9


def test_state_is_taken_at_once_and_goes_with_its_sequence() -> None:
    kv, request = cache(KvGroups(1, (), 20)), a_request()
    kv.admit(request, 1)
    assert kv.used_blocks == 21
    kv.decode(request)
    assert kv.swap_out(request) and (kv.used_blocks, kv.host_free_blocks, request.held_blocks) == (0, 50 - 21, 1)
    request.computed_tokens = 4
    assert kv.swap_in(request) and (kv.used_blocks, kv.host_free_blocks) == (22, 50), "with the block of its next token"
    kv.clear()
    assert kv.free_blocks == 100


def test_a_table_that_comes_in_parts_brings_its_window_with_the_last() -> None:
    kv, request = cache(MIXED), a_request()
    assert kv.arriving(5, 0, last=False) == 10
    kv.reserve(0, 5, last=False)
    assert (kv.used_blocks, kv.table_here(0)) == (10, 5)
    assert kv.arriving(3, 5) == 6 + MIXED.beside(8, True)
    kv.reserve(0, 3)
    assert kv.used_blocks == MIXED.pool_blocks(8, True) and kv.table_here(0) == 8
    kv.receive(request)
    assert (request.held_blocks, kv.owned(request), kv.elsewhere) == (8, kv.used_blocks, {})
    kv.reserve(1, 2)
    assert kv.cancel(1, 0) and kv.used_blocks == kv.owned(request)
    with pytest.raises(InvariantError, match="I3"):
        kv.reserve(1, 60)


def test_contents_are_shared_by_the_layers_that_keep_every_token_alone() -> None:
    kv = cache(MIXED, prefix=PrefixCache(4, 4, pool_blocks=MIXED.full))
    one, two = a_request(0, 13, (1, 2, 3)), a_request(1, 13, (1, 2, 3))
    kv.admit(one, 4)
    one.computed_tokens = 13
    assert kv.prefix is not None
    kv.prefix.add(one)
    before = kv.used_blocks
    assert kv.admit(two, 4) and two.computed_tokens == 12
    assert kv.used_blocks == before + MIXED.full + MIXED.beside(4, False), "one block of its own, and its windows and state"
    kv.release(one)
    kv.release(two)
    assert kv.used_blocks == 0 and kv.free_blocks - kv.spare_blocks == 3 * MIXED.full


def test_policies_are_told_what_a_new_sequence_takes_and_what_surely_fits() -> None:
    kv = cache(MIXED, blocks=50)
    view = KvView(kv)
    assert view.blocks(9) == MIXED.pool_blocks(3, False)
    assert view.free_tokens == (50 - 7) // 6 * 4
    request = a_request()
    assert kv.admit(request, view.free_tokens // 4), "what is said to fit does"


# -- the decoding group ---------------------------------------------------------------------------------------------------------------


def taken_by_the_book(groups: KvGroups, tokens: int, ticks: int) -> list[int]:
    """Blocks needed before each tick by a request that decodes from so many tokens in blocks of 4."""
    held = [groups.pool_blocks(-(-(tokens + tick) // 4), True) for tick in range(ticks + 1)]
    return [b - a for a, b in pairwise(held)]


@pytest.mark.parametrize("groups", [WINDOW, MIXED, KvGroups(0, (KvWindow(1, 5, 3),)), KvGroups(1, (KvWindow(1, 2, 2), KvWindow(1, 9, 2)))])
@pytest.mark.parametrize("tokens", [1, 4, 7, 8, 11, 20, 30])
def test_a_member_takes_less_once_its_window_is_full(groups: KvGroups, tokens: int) -> None:
    group, request = DecodeGroup(4, groups), a_request()
    request.computed_tokens, request.generated_tokens, request.held_blocks = tokens, 1, -(-tokens // 4)
    group.join(request, 1000, grows=True)
    found, ahead = [], []
    for _ in range(40):
        found.append(group.blocks_needed())
        span = min(group.steps_to_next_change(), 12)
        ahead.append((len(found), group.growth_over(span - 1), span))
        group.tick += 1
    assert found == taken_by_the_book(groups, tokens, 40)
    book = taken_by_the_book(groups, tokens, 60)
    assert all(over == sum(book[at : at + span - 1]) for at, over, span in ahead), "a span ends before a member takes less"
    group.leave(request)
    assert request.beside_blocks == groups.beside(request.held_blocks, True) and not any(group.growth)
    assert group.steps_to_next_change() == NO_END


def test_one_that_leaves_and_joins_again_at_once_is_not_counted_twice() -> None:
    group, request = DecodeGroup(4, WINDOW), a_request()
    request.computed_tokens, request.generated_tokens, request.held_blocks = 5, 1, 2
    for _ in range(3):
        group.join(request, 1000, grows=True)
        group.leave(request)
    group.join(request, 1000, grows=True)
    needed = []
    for _ in range(30):
        needed.append(group.blocks_needed())
        group.tick += 1
    assert needed == taken_by_the_book(WINDOW, 5, 30)


def test_a_reservation_that_runs_out_inside_a_window_goes_on_with_it() -> None:
    """8 tokens computed, 12 reserved: blocks of the fourth on; the window of 5 blocks is full after the fifth."""
    groups = KvGroups(1, (KvWindow(2, 5, 5),))
    group, request = DecodeGroup(4, groups), a_request()
    request.computed_tokens, request.generated_tokens, request.held_blocks = 4, 1, 3
    group.join(request, 1000, grows=True)
    needed = []
    for _ in range(24):
        needed.append(group.blocks_needed())
        group.tick += 1
    assert [(tick, blocks) for tick, blocks in enumerate(needed) if blocks] == [(8, 3), (12, 3), (16, 1), (20, 1)]


# -- runs -----------------------------------------------------------------------------------------------------------------------------


def test_blocks_of_a_run_by_hand() -> None:
    """A prompt of 38 tokens in chunks of 16, then 7 tokens: 4, 8 and 10 blocks of table, of which windows keep 6, and then 3."""
    one = replace(spec(), kv_groups=WINDOW)
    chunks = {"max_num_batched_tokens": 16, "max_seqs": 8}
    scheduler = type(one.scheduler)(type(one.scheduler).Params(**chunks))  # type: ignore[call-arg, attr-defined]
    records = serve(work([0.0], [38], [7]), replace(one, scheduler=scheduler))
    (lane,) = records.lanes
    assert lane.span_kv_blocks.tolist()[:3] == [4 + 8, 8 + 12, 10 + 12]
    assert lane.span_kv_blocks.tolist()[-1] == 11 + 6, "44 tokens in the cache, the last is never stored"


def test_what_windows_give_back_is_there_for_the_next_request() -> None:
    """Two prompts of 40 tokens take 22 blocks each and keep 16: in 40 blocks the second comes in once the first decodes."""
    one = replace(spec(), kv_groups=WINDOW, kv_blocks=40)
    records = serve(work([0.0, 0.0], [40, 40], [8, 8]), one)
    first, second = records.requests.scheduled_s.tolist()
    assert second == float(records.requests.first_token_s[0]) > first
    assert not records.requests.preemptions.any() and (records.requests.status == Status.COMPLETED).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_spans_and_steps_agree_and_blocks_add_up(policy: str) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), grouped=True))
    def run(case: Case) -> None:
        simulate(case.workload(), [case.spec()], check=True)

    run()


def test_the_random_windows_are_hard() -> None:
    """What agreement is worth: windows fill up while decoding, give back after a prompt, and memory is short while they do."""
    seen: Counter[str] = Counter()

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(cases(grouped=True))
    def look(case: Case) -> None:
        naive = case.naive()
        full, windows, state = case.groups
        ends = [naive.table(r.prompt + r.generated) for r in naive.reqs if r.generated > 1]
        begins = [naive.table(r.prompt + 1) for r in naive.reqs if r.generated > 1]
        preempted = any(r.preemptions for r in naive.reqs)
        fills = any(b <= kept < e for _, _, kept in windows for b, e in zip(begins, ends, strict=True))
        gives = any(b > kept for _, _, kept in windows for b in begins)
        seen.update(
            fills=fills,
            gives=gives,
            fills_and_preempts=fills and preempted,
            state=state > 0 and bool(ends),
            no_full=full == 0 and bool(ends),
            several=len(windows) > 1 and fills,
            spans=any(r.generated > 12 for r in naive.reqs) and fills,
            swapped=case.preemption == "swap" and any(r.preemptions and not r.recomputed for r in naive.reqs),
        )

    look()
    assert min(seen[what] for what in ("fills", "gives", "state", "spans")) >= 40, seen
    assert min(seen[what] for what in ("fills_and_preempts", "several", "no_full")) >= 15, seen
    assert seen["swapped"] >= 5, seen


GROUPS = st.sampled_from([WINDOW, MIXED, KvGroups(1, (), 4), KvGroups(3, (KvWindow(1, 9, 1),), 0)])
Cluster = tuple[Workload, list[InstanceSpec], ClusterSpec]


def with_groups(specs: list[InstanceSpec], groups: KvGroups) -> list[InstanceSpec]:
    """The same instances with layers of these groups, and as much memory for them."""
    blocks = groups.pool_blocks(specs[0].kv_blocks, False) + groups.per_block - groups.full + groups.state
    host = specs[0].host_kv_blocks * groups.per_block
    return [replace(one, kv_groups=groups, kv_blocks=blocks, host_kv_blocks=host) for one in specs]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=clusters(), groups=GROUPS)
def test_invariants_hold_in_clusters_whose_layers_differ(case: Cluster, groups: KvGroups) -> None:
    load, specs, cluster = case
    simulate(load, with_groups(specs, groups), cluster, check=True)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=clusters(), groups=GROUPS)
def test_a_router_learns_what_windows_have_given_back(case: Cluster, groups: KvGroups) -> None:
    """The lazy ranking chooses what looking at every instance would."""
    load, specs, cluster = case
    watched = replace(cluster, router=Looks(MostFree.Params()), decode_router=Looks(MostFree.Params()))
    simulate(load, with_groups(specs, groups), watched)


@pytest.mark.parametrize("policy", ["vllm-v1", "sarathi", "fastgen", "vllm-v0"])
@pytest.mark.parametrize("stages", [2, 3])
def test_lanes_share_a_pool_of_windows(policy: str, stages: int) -> None:
    """Pipeline stages: memory for two of six requests that together want three times as much; all finish, blocks add up."""
    groups = KvGroups(1, (KvWindow(2, 20, 3),), 5)
    cost = StagedCost(*[1 / stages] * stages)
    one = replace(spec(policy=policy, cost=cost), kv_groups=groups, kv_blocks=groups.pool_blocks(30, False) + 40)
    records = serve(work([0.0] * 6, [40, 70, 30, 90, 10, 60], [30, 20, 50, 25, 60, 40]), one)
    assert (records.requests.status == Status.COMPLETED).all() and len(records.lanes) == stages


def test_a_migration_copies_windows_and_state_last_and_only_what_exists() -> None:
    """100 bytes a token of all tokens, 10 a token of the last 8, 500 of state: in the last copy 580 bytes more than without."""
    link = replace(LINK, bytes_per_s=1000.0, windows=((8, 10.0),), state_bytes=500.0)
    assert (link.beside_bytes(3), link.beside_bytes(100), LINK.beside_bytes(100)) == (530.0, 580.0, 0.0)
    pauses = []
    for one in (replace(LINK, bytes_per_s=1000.0), link):
        orders = Orders((4.0, moves(0, 0, 1)))
        both = [replace(spec(link=one), kv_groups=WINDOW, kv_blocks=300)] * 2
        records = serve(one_long(), *both, controllers=(orders,), migration=MigrationSpec(last_stage_blocks=2, max_stages=9))
        assert records.moves is not None and records.moves.outcomes[records.moves.outcome[0]] == ""
        pauses.append(float(records.moves.landed_s[0] - records.moves.stop_s[0]))
        assert placed_at(records) == 1
    assert pauses[1] - pauses[0] == pytest.approx(0.58)


def placed_at(records: Any) -> int:
    return int(records.requests.instance[0])


def test_a_hand_over_copies_the_window_and_the_state() -> None:
    plain = LinkSpec(bytes_per_s=1000.0, latency_s=0.0, kv_bytes_per_token=10.0)
    gaps = []
    for link in (plain, replace(plain, windows=((8, 5.0),), state_bytes=100.0)):
        roles = [replace(spec(role=role, link=link), kv_groups=WINDOW) for role in ("prefill", "decode")]
        records = serve(work([0.0], [20], [2]), *roles)
        gaps.append(float(records.requests.finish_s[0] - records.requests.first_token_s[0]))
    assert gaps[1] - gaps[0] == pytest.approx((8 * 5 + 100) / 1000)


def test_prefix_hits_are_found_where_windows_are_kept_too() -> None:
    ids = contents([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
    records = serve(work([0.0, 50.0], [21, 21], [4, 4], prefix=ids), replace(spec(), kv_groups=MIXED, prefix_caching=True))
    assert records.requests.cached_tokens.tolist() == [0, 20] and np.isfinite(records.requests.finish_s).all()


@pytest.mark.parametrize("groups", [WINDOW, MIXED, KvGroups(1, (), 4)])
@pytest.mark.parametrize("more", [200, 4])
def test_requests_that_verify_drafted_tokens_keep_windows_like_those_that_decode(groups: KvGroups, more: int) -> None:
    """With memory for all, and for the longest and little more."""
    kv_blocks = groups.pool_blocks(15, False) + groups.per_block - groups.full + groups.state + more
    records = speculating.serve([30, 50, 20], speculating.Every(), kv_blocks=kv_blocks, pause=3, kv_groups=groups)
    assert records.requests.generated_tokens.tolist() == [30, 50, 20]


@pytest.mark.parametrize("policy", ["vllm-v1", "sarathi", "fastgen"])
def test_requests_that_wait_for_a_load_hold_their_windows_and_state(policy: str) -> None:
    records = loading.serve([16, 40, 30], (loading.Tier({0, 2}),), policy, output=12, kv_groups=MIXED)
    assert (records.requests.status == Status.COMPLETED).all() and records.requests.cached_tokens.tolist() == [12, 0, 26]


def test_an_instance_without_groups_takes_no_notice() -> None:
    """One group of full attention is what there is without groups, record by record."""
    load = work([0.0, 0.1, 0.2], [40, 90, 30], [60, 80, 70])
    plain, grouped = (serve(load, spec(cost=RoundCost(), kv_blocks=60, kv_groups=groups)) for groups in (None, KvGroups(1)))
    assert plain.requests.finish_s.tolist() == grouped.requests.finish_s.tolist() and plain.requests.preemptions.any()
    assert plain.lanes[0].span_kv_blocks.tolist() == grouped.lanes[0].span_kv_blocks.tolist()
