"""Many instances: routing, states of instances, failures, pools that lend each other instances."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from simserve.contracts import Refusal
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import Failures
from simserve.errors import ConfigError, PolicyError
from simserve.workload.requests import Workload
from tests.engine.cluster_world import Orders, Says, contents, one_long, placed, router, serve, spec, work
from tests.engine.unrolled import token_times

# -- routing -----------------------------------------------------------------------------------------------------------------------


def test_round_robin_passes_over_instances_that_take_nothing() -> None:
    records = serve(work([0, 1, 2, 3], [8] * 4, [2] * 4), spec(), spec(starts=False), spec(), router=router("round-robin"))
    assert placed(records) == [0, 2, 0, 2]


def test_least_outstanding_and_least_tokens_disagree() -> None:
    load = work([0, 0.1, 0.2, 0.3], [40, 4, 4, 4], [9] * 4)
    assert placed(serve(load, spec(), spec(), router=router("least-outstanding"))) == [0, 1, 0, 1]
    assert placed(serve(load, spec(), spec(), router=router("least-tokens"))) == [0, 1, 1, 1]


def test_the_shortest_queue_is_of_those_who_wait() -> None:
    # Instance 0 has one sequence slot, taken by a long request: the second one there waits, and the queue is what counts.
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
    cut = serve(load, spec(), spec(), router=Says(lambda r, v: None if v.outstanding[0] else 0), until_s=0.3)
    assert (cut.requests.status == Status.UNFINISHED).all() and placed(cut) == [0, -1, -1], "those that are held are nowhere"


# -- states ------------------------------------------------------------------------------------------------------------------------


def test_a_draining_instance_finishes_and_stops_and_a_started_one_boots() -> None:
    orders = Orders((2.0, lambda c: c.drain(0)), (2.0, lambda c: c.start(1)))
    records = serve(work([0.0, 3.0, 9.0], [8] * 3, [20] * 3), spec(), spec(starts=False, boot_s=4.0), controllers=(orders,))
    # No instance takes the second request until the other has booted.
    assert placed(records) == [0, 1, 1]
    assert records.requests.scheduled_s[1] == pytest.approx(6.0)
    states = [(at_s, number, state) for at_s, number, state in records.instance_states]
    assert states[:3] == [(0.0, 1, "off"), (2.0, 0, "draining"), (2.0, 1, "booting")]
    assert states[3:] == [(records.requests.finish_s[0], 0, "off"), (6.0, 1, "up")]


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
    assert [state for _, number, state in records.instance_states if number == 0] == ["off", "booting", "up"][
        : len(records.instance_states)
    ]


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
    assert lent.counters["transferred_tokens"] == 160


def test_a_full_token_pool_leaves_requests_where_they_were_prefilled() -> None:
    load = work([0.0, 2.0, 4.0], [80, 80, 80], [60, 60, 60])
    assert placed(pools(load, 1, 1)) == [1, 1, 1]
    # A prompt and its growth take more than 15 of 100 blocks: the second request finds the token instance short, and its own as well.
    records = pools(load, 1, 1, reserve=0.85)
    assert placed(records) == [1, 0, 0]
    assert records.lanes[0].span_decode_requests.max() == 2


def test_a_request_that_may_lose_its_instance_fits_the_smallest_decode_instance_wherever_it_begins() -> None:
    """It decodes on the mixed instance, which dies when it has 24 of 40 tokens, more than the decode instance ever takes. Resumed there it
    would have got more than its last token."""
    parts = (spec("mixed"), spec("prefill", role="prefill"), spec("decode", role="decode", max_model_len=30))
    records = serve(work([0.0], [10], [40]), *parts, failures=Failures(times=((6.3, 0),), restart_s=50.0))
    assert records.requests.generated_tokens.tolist() == [20]
    assert records.requests.reasons[records.requests.reason[0]] == "stopped at the context limit"
