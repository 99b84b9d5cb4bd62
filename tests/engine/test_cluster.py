"""Many instances: routing, live migration, failures, starting and stopping. Nothing is lost or doubled, spans change nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.cluster_view import ClusterView, Refusal
from simserve.engine.control import ClusterControl
from simserve.engine.records import RunRecords, Status
from simserve.engine.request import LiveRequest
from simserve.engine.spec import ClusterSpec, Failures, LinkSpec, MigrationSpec
from simserve.errors import ConfigError, PolicyError
from simserve.policies import registry
from simserve.policies.contract import PolicyParams
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost, RoundCost

LINK = LinkSpec(bytes_per_s=10_000.0, latency_s=0.05, kv_bytes_per_token=100.0, layers=4)
ROUTERS = registry.router_names()


def spec(name: str = "i", policy: str = "vllm-v1", cost: Any = None, **kw: Any) -> InstanceSpec:
    cls = registry.scheduler_class(policy)
    seats = kw.pop("max_seqs", 8)
    base = InstanceSpec(name, cls(cls.Params(max_seqs=seats)), cost or RoundCost(), 100, block_tokens=4, max_seqs=seats, link=LINK)
    return replace(base, **kw)


def router(name: str, **params: Any) -> Any:
    cls = registry.router_class(name)
    return cls(cls.Params(**params))


def work(arrivals: list[float], prompts: list[int], outputs: list[int], **columns: Any) -> Workload:
    return Workload(RequestTable.build(np.array(arrivals, float), np.array(prompts), np.array(outputs), **columns))


def serve(load: Workload, *specs: InstanceSpec, until_s: float | None = None, **cluster: Any) -> RunRecords:
    return simulate(load, specs, ClusterSpec(**cluster), check=True, until_s=until_s)


class Orders:
    """A controller that does what it was told at given times: a list of (seconds, action)."""

    Params = PolicyParams
    idle = True

    def __init__(self, *orders: tuple[float, Any], interval_s: float = 0.25) -> None:
        self.orders = list(orders)
        self.interval_s = interval_s
        self.answers: list[Any] = []

    def act(self, cluster: ClusterControl) -> None:
        while self.orders and self.orders[0][0] <= cluster.now:
            self.answers.append(self.orders.pop(0)[1](cluster))


def moves(row: int, source: int, destination: int) -> Any:
    return lambda cluster: cluster.migrate(row, source, destination)


# -- routing -----------------------------------------------------------------------------------------------------------------------


def placed(records: RunRecords) -> list[int]:
    return records.requests.instance.tolist()


def test_round_robin_passes_over_instances_that_take_nothing() -> None:
    records = serve(work([0, 1, 2, 3], [8] * 4, [2] * 4), spec(), spec(starts=False), spec(), router=router("round-robin"))
    assert placed(records) == [0, 2, 0, 2]


def test_least_outstanding_and_least_tokens_disagree() -> None:
    load = work([0, 0.1, 0.2, 0.3], [40, 4, 4, 4], [9] * 4)
    assert placed(serve(load, spec(), spec(), router=router("least-outstanding"))) == [0, 1, 0, 1]
    assert placed(serve(load, spec(), spec(), router=router("least-tokens"))) == [0, 1, 1, 1]


def test_the_shortest_queue_is_of_those_who_wait() -> None:
    # Instance 0 has one seat, taken by a long request: the second one there waits, and the queue is what counts.
    load = work([0, 0.1, 2, 2.1, 2.2], [8] * 5, [40, 40, 4, 4, 4])
    records = serve(load, spec(max_seqs=1), spec(max_seqs=4), router=router("shortest-queue"))
    assert placed(records) == [0, 1, 0, 1, 1]


def test_stale_signals_send_a_burst_to_one_instance() -> None:
    load = work([0.1, 0.2, 0.3, 0.4, 1.1], [8] * 5, [200] * 5)
    fresh = serve(load, spec(), spec(), router=router("least-outstanding"))
    stale = serve(load, spec(), spec(), router=router("least-outstanding"), refresh_s=1.0)
    assert placed(fresh) == [0, 1, 0, 1, 0]
    assert placed(stale) == [0, 0, 0, 0, 1]


def test_random_and_power_of_two_use_all_instances_and_their_seed() -> None:
    load = work(list(np.arange(60) / 10), [8] * 60, [4] * 60)
    runs = [
        placed(serve(load, *[spec() for _ in range(4)], router=router(name, seed=seed)))
        for name in ("random", "power-of-two")
        for seed in (1, 2)
    ]
    assert all(len(set(run)) == 4 for run in runs)
    assert runs[0] != runs[1] and runs[2] != runs[3]


def test_two_choices_balance_better_than_one() -> None:
    load = work([0.0] * 400, [4] * 400, [2] * 400)
    one, two = (
        max(Counter(placed(serve(load, *[spec() for _ in range(8)], router=router(name)))).values()) for name in ("random", "power-of-two")
    )
    assert two < one


def test_a_session_stays_where_it_began_until_that_instance_is_gone() -> None:
    load = work([0, 1, 2, 3, 30], [8] * 5, [2] * 5, session=np.array([7, 8, 7, 8, 7]))
    records = serve(load, spec(), spec(), router=router("session-sticky"))
    assert placed(records) == [0, 0, 0, 0, 0]  # each finds the other gone
    busy = work([0, 0, 0.1, 0.2, 0.3], [8] * 5, [50] * 5, session=np.array([7, 8, 7, 8, 7]))
    assert placed(serve(busy, spec(), spec(), router=router("session-sticky"))) == [0, 1, 0, 1, 0]
    died = serve(load, spec(), spec(), router=router("session-sticky"), failures=Failures(times=((20.0, 0),), restart_s=100.0))
    assert placed(died) == [0, 0, 0, 0, 1]


def contents(ids: list[list[int]]) -> PrefixBlocks:
    return PrefixBlocks(np.cumsum([0, *map(len, ids)]), np.array([i for one in ids for i in one]), 4)


def test_affinity_follows_the_prefix_and_gives_way_to_load() -> None:
    ids = [[1, 2], [5, 6], [1, 2, 3], [5, 6, 7], [1, 9]]
    load = work([0, 0.1, 0.2, 0.3, 0.4], [4 * len(one) for one in ids], [60] * 5, prefix=contents(ids))
    assert placed(serve(load, spec(), spec(), router=router("prefix-affinity"))) == [0, 1, 0, 1, 0]
    strict = router("prefix-affinity", balance_requests=0, balance_ratio=1.0)
    assert placed(serve(load, spec(), spec(), router=strict)) == [0, 1, 0, 1, 0]
    same = work([0, 0.1, 0.2], [8] * 3, [60] * 3, prefix=contents([[1, 2]] * 3))
    assert placed(serve(same, spec(), spec(), router=router("prefix-affinity"))) == [0, 0, 0]
    assert placed(serve(same, spec(), spec(), router=strict)) == [0, 1, 0]


def test_affinity_forgets_what_it_has_no_room_for() -> None:
    ids = [[1, 2], [3, 4], [5, 6], [1, 2]]
    load = work([0, 0.1, 0.2, 0.3], [8] * 4, [60] * 4, prefix=contents(ids))
    assert placed(serve(load, spec(), spec(), router=router("prefix-affinity"))) == [0, 1, 0, 0]
    assert placed(serve(load, spec(), spec(), router=router("prefix-affinity", remembered_blocks=4))) == [0, 1, 0, 1]


def test_freeness_counts_blocks_a_request_and_the_head_of_the_queue() -> None:
    # Blocks left a request when the third comes: 100 - 30 for instance 0, 100 - 2 for 1. When the fourth comes: 70 against 96 / 2.
    load = work([0, 0.1, 0.2, 0.3], [120, 8, 8, 8], [90] * 4)
    assert placed(serve(load, spec(), spec(), router=router("freeness"))) == [0, 1, 1, 0]


class Says:
    """A router with a fixed answer."""

    Params = PolicyParams

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def choose(self, request: LiveRequest, view: ClusterView) -> Any:
        return self.answer(request, view) if callable(self.answer) else self.answer


def test_a_router_may_refuse_or_hold_but_not_invent() -> None:
    load = work([0, 0.1, 0.2], [8] * 3, [4] * 3)
    refused = serve(load, spec(), spec(), router=Says(lambda r, v: Refusal("too busy") if r.row == 1 else 0))
    assert refused.requests.status.tolist() == [Status.COMPLETED, Status.REJECTED, Status.COMPLETED]
    assert refused.requests.reasons[refused.requests.reason[1]] == "too busy"
    held = serve(load, spec(), spec(), router=Says(lambda r, v: None if v.outstanding[0] else 0))
    finish, start = held.requests.finish_s, held.requests.scheduled_s
    assert start[1] >= finish[0] and start[2] >= finish[1]
    for wrong in (2, -1, "0"):
        with pytest.raises(PolicyError, match=r"Says.*instances that take requests: 0, 1"):
            serve(load, spec(), spec(), router=Says(wrong))
    with pytest.raises(PolicyError, match="3 wait for an instance"):
        serve(load, spec(), spec(), router=Says(lambda r, v: None))


# -- migration ---------------------------------------------------------------------------------------------------------------------


def one_long(tokens: int = 60) -> Workload:
    return work([0.0], [40], [tokens])


def test_a_request_moves_while_it_decodes_and_pauses_for_one_short_copy() -> None:
    orders = Orders((4.0, moves(0, 0, 1)))
    stay = serve(one_long(), spec(), spec())
    records = serve(one_long(), spec(), spec(), controllers=(orders,), migration=MigrationSpec(last_stage_blocks=2))
    assert records.moves is not None
    assert records.moves.outcomes[records.moves.outcome[0]] == ""
    assert records.moves.stages[0] >= 2
    gaps, plain = np.diff(token_times(records)[0]), np.diff(token_times(stay)[0])
    pause = records.moves.landed_s[0] - records.moves.stop_s[0]
    assert (gaps > plain.max() + 1e-9).sum() == 1
    # The last copy takes its latency and at most 2 blocks and the tokens of a step; the next step follows at once.
    assert 0.05 < pause <= 0.05 + (2 * 4 + 1) * 100 / 10_000 + 1e-9
    assert gaps.max() <= pause + plain.max() + 1e-9
    assert placed(records) == [1] and records.requests.recomputed_tokens[0] == 0
    assert records.requests.generated_tokens[0] == 60


def test_the_pause_does_not_grow_with_the_context() -> None:
    pauses = []
    for prompt in (40, 160, 320):
        load = work([0.0], [prompt], [60])
        begins = float(serve(load, spec()).requests.first_token_s[0])
        orders = Orders((begins + 0.1, moves(0, 0, 1)))
        records = serve(load, spec(), spec(), controllers=(orders,), migration=MigrationSpec(last_stage_blocks=3, max_stages=9))
        assert records.moves is not None and np.isfinite(records.moves.landed_s).all() and len(records.moves.stop_s) == 1
        pauses.append(records.moves.landed_s[0] - records.moves.stop_s[0])
    # Between none and 3 blocks and the token of a step, whatever the context.
    assert max(pauses) - min(pauses) <= (3 * 4 + 1) * 100 / 10_000 + 1e-9


def test_migrations_are_given_up_for_the_stated_reason() -> None:
    def outcome(load: Workload, *specs: InstanceSpec, at_s: float = 4.0, **cluster: Any) -> str:
        records = serve(load, *specs, controllers=(Orders((at_s, moves(0, 0, 1))),), **cluster)
        assert records.moves is not None and (records.requests.status == Status.COMPLETED).all()
        return records.moves.outcomes[records.moves.outcome[0]]

    full = work([0.0, 0.0], [40, 380], [60, 12])
    fixed = Says(lambda r, v: r.row)
    assert outcome(full, spec(), spec(), router=fixed) == "the destination is full"
    slow = replace(LINK, bytes_per_s=300.0)
    assert outcome(one_long(), spec(link=slow), spec(), migration=MigrationSpec(last_stage_blocks=1)) == "the request ended"
    crawl = replace(LINK, bytes_per_s=800.0)
    assert outcome(one_long(300), spec(link=crawl), spec(), migration=MigrationSpec(last_stage_blocks=1)) == "the copy did not catch up"
    # Two requests grow until memory is short; the younger one, which is being copied, has to give its up.
    tight = work([0.0, 0.1], [40, 40], [90, 90])
    records = serve(
        tight,
        spec(link=slow, kv_blocks=34),
        spec(kv_blocks=34),
        router=Says(0),
        controllers=(Orders((4.0, moves(1, 0, 1))),),
        migration=MigrationSpec(last_stage_blocks=1),
    )
    assert records.moves is not None
    scarce = records.moves.outcomes[records.moves.outcome[0]]
    assert scarce == "the request was preempted"


def test_what_cannot_move_says_why() -> None:
    orders = Orders((4.0, moves(0, 0, 1)), (4.0, moves(0, 0, 1)), (4.0, moves(0, 1, 0)), (4.0, moves(9, 0, 1)))
    serve(one_long(), spec(), spec(), controllers=(orders,))
    orders = Orders((4.0, moves(0, 0, 1)), (4.0, moves(0, 0, 1)), (4.0, moves(0, 1, 0)))
    simulate(one_long(), [spec(), spec()], ClusterSpec(controllers=(orders,)))
    assert orders.answers == ["", "it is on its way already", "it does not decode there"]
    small = Orders((4.0, moves(0, 0, 1)))
    simulate(one_long(), [spec(), spec(max_model_len=90)], ClusterSpec(controllers=(small,), router=Says(0)))
    assert small.answers in (["it may become too long for the destination"], [""])
    for wrong, message in ((moves(0, 0, 0), "to itself"), (moves(0, 0, 5), "names instance 5")):
        with pytest.raises(PolicyError, match=message):
            serve(one_long(), spec(), spec(), controllers=(Orders((1.0, wrong)),))


def test_a_request_that_moves_to_and_fro_for_ever_still_ends() -> None:
    class Restless:
        Params = PolicyParams
        idle = False
        interval_s = 0.1

        def act(self, cluster: ClusterControl) -> None:
            for source in (0, 1):
                for request in cluster.decoding(source):
                    cluster.migrate(request.row, source, 1 - source)

    records = serve(work([0.0, 0.5], [20, 30], [80, 80]), spec(), spec(), controllers=(Restless(),))
    assert records.moves is not None and (records.moves.outcome == 0).sum() > 4
    assert (records.requests.status == Status.COMPLETED).all()


# -- lives -------------------------------------------------------------------------------------------------------------------------


def test_a_draining_instance_finishes_and_stops_and_a_started_one_boots() -> None:
    orders = Orders((2.0, lambda c: c.drain(0)), (2.0, lambda c: c.start(1)))
    records = serve(work([0.0, 3.0, 9.0], [8] * 3, [20] * 3), spec(), spec(starts=False, boot_s=4.0), controllers=(orders,))
    # Nobody takes the second request until the other has booted.
    assert placed(records) == [0, 1, 1]
    assert records.requests.scheduled_s[1] == pytest.approx(6.0)
    lives = [(at_s, number, life) for at_s, number, life in records.lives]
    assert lives[:3] == [(0.0, 1, "off"), (2.0, 0, "draining"), (2.0, 1, "booting")]
    assert lives[3:] == [(records.requests.finish_s[0], 0, "off"), (6.0, 1, "up")]


def test_scaling_to_zero_with_requests_to_come_is_an_error_that_says_so() -> None:
    with pytest.raises(PolicyError, match="1 wait for an instance to take them"):
        serve(work([0.0, 9.0], [8] * 2, [4] * 2), spec(), controllers=(Orders((5.0, lambda c: c.drain(0))),))


@pytest.mark.parametrize("rule", ["resume", "retry", "fail"])
def test_the_requests_of_a_dead_instance(rule: str) -> None:
    load = work([0.0, 0.0], [20, 20], [40, 40])
    plain = serve(load, spec(), spec())
    at_s = float(token_times(plain)[0][10]) + 0.01
    records = serve(load, spec(), spec(), failures=Failures(times=((at_s, 0),), restart_s=5.0, rule=rule))
    r = records.requests
    assert r.finish_s[1] >= plain.requests.finish_s[1] and r.status[1] == Status.COMPLETED
    times = token_times(records)[0]
    if rule == "fail":
        assert r.status[0] == Status.FAILED and r.reasons[r.reason[0]] == "its instance died"
        assert r.generated_tokens[0] == 11 and r.finish_s[0] == at_s
    elif rule == "resume":
        assert r.generated_tokens[0] == 40 and r.recomputed_tokens[0] == 20 + 10 and placed(records) == [1, 1]
        assert (np.array(times[:11]) == np.array(token_times(plain)[0][:11])).all() and times[11] > at_s
    else:
        assert r.generated_tokens[0] == 40 and times[0] > at_s and r.first_token_s[0] == times[0]
    assert records.counters["instance_failures"] == 1
    assert [life for _, number, life in records.lives if number == 0] == ["off", "booting", "up"][: len(records.lives)]


def test_a_dead_instance_serves_again_after_its_restart() -> None:
    records = serve(work([0.0, 2.0], [8, 8], [30, 30]), spec(), failures=Failures(times=((1.0, 0),), restart_s=5.0))
    assert records.requests.scheduled_s[1] >= 6.0 and (records.requests.status == Status.COMPLETED).all()


def test_failures_of_instances_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="there is no instance 3"):
        serve(one_long(), spec(), failures=Failures(times=((1.0, 3),)))


# -- pools that lend each other instances ------------------------------------------------------------------------------------------


def pools(load: Workload, prompt: int, token: int, cap_tokens: int = 8192, reserve: float = 0.1, **kw: Any) -> RunRecords:
    specs = [spec(role="prefill", **kw) for _ in range(prompt)] + [spec(role="decode", **kw) for _ in range(token)]
    first, second = router("splitwise", cap_tokens=cap_tokens), router("splitwise-decode", reserve=reserve)
    return serve(load, *specs, router=first, decode_router=second)


def test_a_full_prompt_pool_borrows_a_token_instance_and_the_request_stays_there() -> None:
    load = work([0.0, 0.0, 0.0], [80, 80, 8], [4, 4, 4])
    apart = pools(load, 1, 1)
    assert [lane.span_prefill_tokens.sum() for lane in apart.lanes] == [168, 0]
    lent = pools(load, 1, 1, cap_tokens=100)
    # The second prompt finds 80 tokens pending, the third 160: it goes to the token instance, and nothing of it is copied.
    assert [lane.span_prefill_tokens.sum() for lane in lent.lanes] == [160, 8]
    assert lent.counters["handed_over_tokens"] == 160


def test_a_full_token_pool_leaves_requests_where_they_were_prefilled() -> None:
    load = work([0.0, 2.0, 4.0], [80, 80, 80], [60, 60, 60])
    assert placed(pools(load, 1, 1)) == [1, 1, 1]
    # A prompt and its growth take more than 15 of 100 blocks: the second request finds the token instance short, and its own as well.
    records = pools(load, 1, 1, reserve=0.85)
    assert placed(records) == [1, 0, 0]
    assert records.lanes[0].span_decode_requests.max() == 2


def test_controllers_stay_awake_through_a_long_span_of_one_request() -> None:
    # 400 steps of 0.25 s with nothing else to come: the order after 90 s is still carried out.
    orders = Orders((90.0, moves(0, 0, 1)), interval_s=0.01)
    orders.idle = False  # type: ignore[misc]
    records = serve(work([0.0], [8], [380]), spec(), spec(), controllers=(orders,))
    assert orders.answers == [""] and records.moves is not None and np.isfinite(records.moves.landed_s).all()


# -- all together ------------------------------------------------------------------------------------------------------------------


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Workload, list[InstanceSpec], ClusterSpec]:
    """A random cluster in which everything may happen."""
    n = draw(st.integers(1, 14))
    arrivals = np.sort(np.array(draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.3, 4.0, 7.7]), min_size=n, max_size=n))))
    lengths = st.lists(st.integers(1, 60), min_size=n, max_size=n)
    session = np.array(draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)))
    priority = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    prompts = np.array(draw(lengths))
    prefix = None
    if draw(st.booleans()):  # every prompt begins like one of two others
        kinds = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        prefix = contents([[100 * kind + k for k in range(-(-int(tokens) // 4))] for kind, tokens in zip(kinds, prompts, strict=True)])
    table = RequestTable.build(arrivals, prompts, np.array(draw(lengths)), session=session, priority=priority, prefix=prefix)
    load = Workload(table, concurrency=draw(st.sampled_from([None, None, 3])))
    cost = draw(st.sampled_from([RoundCost(), JaggedCost()]))
    disaggregated = draw(st.booleans())
    roles = ["prefill", "decode", "decode", "prefill"] if disaggregated else ["mixed"] * draw(st.integers(1, 4))
    policy = draw(st.sampled_from(["vllm-v1", "sarathi", "vllm-v0", "orca"]))
    common: dict[str, Any] = {
        "kv_blocks": draw(st.integers(34, 60)),
        "boot_s": 1.0,
        "steps_ahead": draw(st.integers(0, 2)),
        "order": draw(st.sampled_from(["fcfs", "priority"])),
    }
    if policy != "orca":
        common |= {"prefix_caching": prefix is not None and draw(st.booleans())}
        common |= draw(st.sampled_from([{}, {"preemption": "swap", "host_kv_blocks": 20}]))
    specs = [
        spec(f"i{k}", policy, cost, role=role, max_seqs=draw(st.integers(2, 8)), node=k // 2, **common) for k, role in enumerate(roles)
    ]
    if draw(st.booleans()):
        specs = [replace(one, uplink=replace(LINK, bytes_per_s=3000.0)) for one in specs]
    controllers: list[Any] = []
    if draw(st.booleans()):
        migration = registry.controller_class("llumnix-migration")
        pairing, which = draw(st.sampled_from(["defrag", "balanced"])), draw(st.sampled_from(["shortest", "longest", "last"]))
        threshold = draw(st.sampled_from([3.0, 8.0]))
        params = {
            "interval_s": 0.25,
            "threshold": threshold,
            "pairing": pairing,
            "request": which,
            "headroom_blocks": draw(st.sampled_from([0, 3])),
        }
        controllers.append(migration(migration.Params(**params)))
    if draw(st.booleans()) and not disaggregated:
        scaling = registry.controller_class("llumnix-scaling")
        controllers.append(scaling(scaling.Params(interval_s=1.0, scale_up=3.0, scale_down=9.0)))
    failures = None
    if draw(st.booleans()):
        times = draw(st.lists(st.tuples(st.sampled_from([0.25, 0.8, 2.0, 5.0]), st.integers(0, len(specs) - 1)), max_size=3))
        failures = Failures(tuple(times), draw(st.sampled_from([None, 40.0])), 2.0, draw(st.sampled_from(["resume", "retry", "fail"])), 1)
    decode_router = draw(st.sampled_from(ROUTERS))
    push = "pull" if decode_router.startswith("splitwise") else draw(st.sampled_from(["pull", "push", "layers"]))
    cluster = ClusterSpec(
        router=router(draw(st.sampled_from(ROUTERS))),
        decode_router=router(decode_router),
        refresh_s=draw(st.sampled_from([0.0, 0.3])),
        push=push != "pull",
        layerwise=push == "layers",
        controllers=tuple(controllers),
        failures=failures,
        migration=MigrationSpec(draw(st.integers(1, 4)), draw(st.integers(1, 4))),
    )
    return load, specs, cluster


def test_invariants_hold_under_random_failures_migrations_and_transfers() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(case=clusters())
    def look(case: tuple[Workload, list[InstanceSpec], ClusterSpec]) -> None:
        load, specs, cluster = case
        records = simulate(load, specs, cluster, check=True)
        moves = records.moves
        seen.update(
            cases=1,
            migrated=moves is not None and bool((moves.outcome == 0).any()),
            gave_up=moves is not None and bool((moves.outcome > 0).any()),
            died=bool(records.counters["instance_failures"]),
            lost_work=bool(records.counters["instance_failures"]) and bool(records.requests.recomputed_tokens.any()),
            handed_over=bool(records.counters["handed_over_tokens"]),
            scaled=any(state == "draining" for _, _, state in records.lives),
            preempted=bool(records.requests.preemptions.any()),
            cached=bool(records.requests.cached_tokens.any()),
        )

    look()
    rare = [
        what for what in ("migrated", "gave_up", "died", "lost_work", "handed_over", "scaled", "preempted", "cached") if seen[what] < 10
    ]
    assert not rare, seen


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=clusters(), until_s=st.sampled_from([0.5, 2.0, 6.1]))
def test_a_run_cut_short_leaves_consistent_records(case: tuple[Workload, list[InstanceSpec], ClusterSpec], until_s: float) -> None:
    load, specs, cluster = case
    simulate(load, specs, cluster, check=True, until_s=until_s)
