"""Routers and controllers on clusters made of plain lists: what each does at the edges of its rule."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from simserve.contracts import Decoding, Load
from simserve.policies import registry
from simserve.policies.freeness import freeness
from simserve.policies.routing.splitwise import free_fraction


def router(name: str, **params: Any) -> Any:
    found = registry.router_class(name)
    return found(found.Params(**params))


def controller(name: str, **params: Any) -> Any:
    found = registry.controller_class(name)
    return found(found.Params(**params))


def a_view(outstanding: list[int], **columns: Any) -> Any:
    """A ClusterView with the given columns; all instances are open and mixed unless stated."""
    n = len(outstanding)
    view = SimpleNamespace(
        open=tuple(range(n)), outstanding=outstanding, waiting=[0] * n, prompt_tokens=[0] * n, roles=["mixed"] * n, source=-1, now=0.0
    )
    vars(view).update(columns)
    view.least = lambda column: min(view.open, key=column.__getitem__)

    def best(score: Any, role: str = "") -> tuple[int, float]:
        of_role = [number for number in view.open if not role or view.roles[number] == role]
        return max(((number, score(view.loads[number])) for number in of_role), key=lambda pair: pair[1], default=(-1, -math.inf))

    view.best = best
    return view


def a_request(*ids: int, session: int = -1) -> Any:
    return SimpleNamespace(prefix_ids=list(ids), session=session, row=0, prompt_tokens=16)


# ---- routers ----


def test_affinity_gives_way_when_both_measures_say_it_is_busier() -> None:
    """More than 32 requests above the least loaded, and more than 1.5 times as many: SGLang's rule needs both."""
    for outstanding, chosen in (([32, 0], 0), ([33, 0], 1), ([99, 66], 0), ([100, 66], 1), ([101, 66], 1), ([60, 28], 0)):
        policy = router("prefix-affinity")
        view = a_view([0, 0])
        assert policy.choose(a_request(1, 2), view) == 0
        view.outstanding[:] = outstanding
        assert policy.choose(a_request(1, 2), view) == chosen, outstanding


def test_affinity_at_its_edges() -> None:
    policy = router("prefix-affinity", balance_requests=2, balance_ratio=2.0)
    view = a_view([0, 0])
    policy.choose(a_request(1, 2), view)
    view.outstanding[:] = [6, 3]
    assert policy.choose(a_request(1, 2), view) == 0, "exactly twice as many is in balance"
    view.outstanding[:] = [7, 3]
    assert policy.choose(a_request(1, 2), view) == 1
    assert policy.choose(a_request(1, 2), view) == 1, "what was sent there is there now, too, and it is less busy"


def test_affinity_forgets_the_least_recently_sent() -> None:
    policy = router("prefix-affinity", remembered_blocks=2, min_match=0.1)
    view = a_view([0, 5])
    policy.choose(a_request(1, 2), view)
    policy.choose(a_request(1), view)  # 2 is now the oldest
    policy.choose(a_request(3), view)
    view.outstanding[:] = [5, 0]
    assert policy.choose(a_request(1), view) == 0
    assert policy.choose(a_request(2), view) == 1


def test_affinity_needs_an_open_holder_and_takes_the_least_loaded_of_several() -> None:
    policy = router("prefix-affinity", min_match=0.0)
    view = a_view([0, 1, 1])
    policy.choose(a_request(7), view)
    view.open = (1, 2)
    assert policy.choose(a_request(7), view) == 1, "the instance that held it takes no requests"
    view.open, view.outstanding = (0, 1, 2), [3, 2, 0]
    assert policy.choose(a_request(7), view) == 1, "0 and 1 hold it"
    assert policy.choose(a_request(), view) == 2, "nothing is known of it"


def test_sessions_stay_until_their_instance_closes() -> None:
    policy = router("session-sticky")
    view = a_view([0, 1, 2])
    assert policy.choose(a_request(session=0), view) == 0
    view.outstanding[:] = [9, 1, 2]
    assert policy.choose(a_request(session=0), view) == 0 and policy.choose(a_request(session=1), view) == 1
    assert policy.choose(a_request(), view) == 1
    view.open, view.outstanding = (1, 2), [0, 9, 2]
    assert policy.choose(a_request(session=0), view) == 2
    view.open, view.outstanding = (0, 1, 2), [0, 9, 9]
    assert policy.choose(a_request(session=0), view) == 2, "its new home"
    assert policy.choose(a_request(), view) == 0 and policy.choose(a_request(), view) == 0, "without a session there is no home"


@pytest.mark.parametrize(("tokens", "chosen"), [([100, 90, 0], 1), ([101, 101, 100], 2), ([101, 101, 101], 0), ([100, 101, 0], 0)])
def test_splitwise_borrows_above_its_cap_and_only_the_less_loaded(tokens: list[int], chosen: int) -> None:
    view = a_view([0, 0, 0], prompt_tokens=tokens, roles=["prefill", "prefill", "decode"])
    assert router("splitwise", cap_tokens=100).choose(a_request(), view) == chosen


def test_splitwise_without_a_pool() -> None:
    policy = router("splitwise", cap_tokens=100)
    assert policy.choose(a_request(), a_view([0, 0], prompt_tokens=[900, 200], roles=["decode", "decode"])) == 1
    assert policy.choose(a_request(), a_view([0, 0], prompt_tokens=[900, 200], roles=["prefill", "prefill"])) == 1
    assert policy.params.cap_tokens == 100 and router("splitwise").params.cap_tokens == 8192


def test_splitwise_tokens_want_more_free_memory_than_the_reserve() -> None:
    def chosen(decode: int, prefill: int, source: int = 0) -> int:
        loads = [Load(prefill, 100, 1, 0, 0), Load(decode, 100, 1, 0, 0)]
        return router("splitwise-decode", reserve=0.2).choose(
            a_request(), a_view([0, 0], roles=["prefill", "decode"], loads=loads, source=source)
        )

    assert chosen(21, 90) == 1 and chosen(20, 90) == 0 and chosen(20, 20) == 0 and chosen(20, 20, source=1) == 1
    assert chosen(20, 20, source=5) == 0, "the instance it is on has closed: the first open one"
    assert free_fraction(Load(50, 100, 3, 1, 10)) == 0.4


def test_the_shortest_queue_and_what_decides_among_equals() -> None:
    view = a_view([5, 3, 4], waiting=[1, 2, 1])
    assert router("shortest-queue").choose(a_request(), view) == 2
    assert router("shortest-queue", ties="first").choose(a_request(), view) == 0
    view.waiting = [0, 2, 0]
    assert router("shortest-queue").choose(a_request(), view) == 2
    view.waiting, view.outstanding = [0, 0, 0], [4, 3, 3]
    assert router("shortest-queue").choose(a_request(), view) == 1


def test_turns_go_on_over_instances_that_close() -> None:
    policy, view = router("round-robin"), a_view([0] * 4)
    assert [policy.choose(a_request(), view) for _ in range(3)] == [0, 1, 2]
    view.open = (0, 1)
    assert [policy.choose(a_request(), view) for _ in range(3)] == [0, 1, 0]
    view.open = (0, 1, 2, 3)
    assert policy.choose(a_request(), view) == 1


@pytest.mark.parametrize("name", ["random", "power-of-two"])
def test_draws_come_from_the_seed(name: str) -> None:
    view = a_view([0] * 8)
    zero, same, one = (
        [policy.choose(a_request(), view) for _ in range(200)] for policy in (router(name), router(name, seed=0), router(name, seed=1))
    )
    assert zero == same != one and set(zero) == set(range(8))


def test_two_are_drawn_unless_told_otherwise() -> None:
    view = a_view([3, 2, 1, 0])
    assert {router("power-of-two", seed=seed).choose(a_request(), view) for seed in range(60)} == {1, 2, 3}
    assert {router("power-of-two", seed=seed, choices=1).choose(a_request(), view) for seed in range(60)} == {0, 1, 2, 3}
    assert {router("power-of-two", seed=seed, choices=3).choose(a_request(), view) for seed in range(60)} == {2, 3}


# ---- controllers ----


class Control:
    """A ClusterControl that writes down what it is told."""

    def __init__(self, loads: list[Load], states: list[str] | None = None, roles: list[str] | None = None, held: int = 0) -> None:
        self.loads, self.held, self.now = loads, held, 0.0
        self.states = states or ["up"] * len(loads)
        self.roles = roles or ["mixed"] * len(loads)
        self.told: list[tuple[Any, ...]] = []
        self.running: dict[int, list[Decoding]] = {}
        self.under_way: dict[int, int] = {}

    def decided(self, *decision: Any) -> None:
        """What it is told is what it does."""

    def load(self, number: int) -> Load:
        return self.loads[number]

    def may_be_below(self, score: Any, bound: float) -> list[int]:
        return [number for number, state in enumerate(self.states) if state in ("up", "draining")]

    def blocks(self, number: int, tokens: int) -> int:
        return -(-tokens // 16)

    def decoding(self, number: int) -> list[Decoding]:
        return self.running.get(number, [])

    def migrations(self, number: int) -> int:
        return self.under_way.get(number, 0)

    def migrate(self, row: int, source: int, destination: int) -> str:
        self.told.append((row, source, destination))
        return ""

    def start(self, number: int) -> None:
        self.told.append(("start", number))

    def drain(self, number: int) -> None:
        self.told.append(("drain", number))


def free(per_request: float, running: int = 2) -> Load:
    """An instance of that freeness."""
    load = Load(int(per_request * running), 100, running, 0, 0)
    assert freeness(load) == per_request
    return load


def migrated(control: Control, **params: Any) -> list[tuple[Any, ...]]:
    control.told.clear()
    controller("llumnix-migration", **params).act(control)  # type: ignore[arg-type]
    return control.told


def test_the_fullest_pairs_with_the_freest() -> None:
    control = Control([free(1), free(9), free(2), free(30), free(3)])
    control.running = {0: [Decoding(7, 0, 50, 1)], 2: [Decoding(8, 0, 50, 1)], 4: [Decoding(9, 0, 50, 1)]}
    assert migrated(control) == [(7, 0, 3), (8, 2, 1)], "freeness 3, the threshold, is neither source nor destination"
    control.under_way = {3: 1}
    assert migrated(control) == [(7, 0, 1)]
    assert migrated(control, concurrent=2) == [(7, 0, 3), (8, 2, 1)]
    control.under_way, control.roles[3], control.states[1] = {}, "prefill", "booting"
    assert migrated(control) == []


def test_equals_pair_by_number_and_an_empty_source_has_nothing_to_move() -> None:
    control = Control([free(1), free(1), free(9), free(9)])
    control.running = {1: [Decoding(4, 0, 50, 1)]}
    assert migrated(control) == [(4, 1, 3)], "0 pairs with 2, and has no other"


def test_a_draining_instance_is_a_source_however_free() -> None:
    control = Control([free(40), free(9)], states=["draining", "up"])
    control.running = {0: [Decoding(4, 0, 50, 1)]}
    assert migrated(control) == [(4, 0, 1)]
    control.states = ["off", "up"]
    assert migrated(control) == []


@pytest.mark.parametrize(("rule", "row"), [("shortest", 1), ("longest", 2), ("last", 3)])
def test_which_request_moves(rule: str, row: int) -> None:
    """Of the lowest priority, whatever those of higher priority are."""
    control = Control([free(1), free(9)])
    control.running = {
        0: [Decoding(1, 0, 10, 5), Decoding(2, 0, 90, 4), Decoding(3, 0, 50, 9), Decoding(4, 1, 1, 99), Decoding(5, 1, 999, 98)]
    }
    assert migrated(control, request=rule) == [(row, 0, 1)]


def test_a_balanced_move_narrows_the_gap_and_leaves_the_destination_free() -> None:
    """Moving 2 blocks of one of two requests: the source has 4 + 2 for one (6), the destination 18 - 2 for three (5.33): turned round."""
    control = Control([free(2), free(9)])
    control.running = {0: [Decoding(1, 0, 32, 1)]}
    assert migrated(control, pairing="balanced") == []
    # Of ten requests with 20 blocks: 22 for nine (2.44) and 60 - 2 for four (14.5); before, 2 and 20.
    control = Control([free(2, 10), free(20, 3)])
    control.running = {0: [Decoding(1, 0, 32, 1)]}
    assert migrated(control, pairing="balanced") == [(1, 0, 1)]
    assert migrated(control, pairing="balanced", threshold=14.4) == [(1, 0, 1)]
    assert migrated(control, pairing="balanced", threshold=14.5) == []


def test_headroom_makes_instances_with_urgent_requests_fuller() -> None:
    control = Control([free(9), free(9)])
    control.running = {0: [Decoding(1, 1, 32, 1), Decoding(2, 0, 32, 2)]}
    assert migrated(control) == []
    assert migrated(control, headroom_blocks=13) == [(2, 0, 1)], "(18 - 13) / 2 = 2.5"
    assert migrated(control, headroom_blocks=12) == [], "(18 - 12) / 2 = 3 is the threshold"


def scaled(control: Control, **params: Any) -> list[tuple[Any, ...]]:
    control.told.clear()
    controller("llumnix-scaling", **params).act(control)  # type: ignore[arg-type]
    return control.told


@pytest.mark.parametrize(("average", "told"), [(9.5, [("start", 2)]), (10.0, []), (60.0, []), (60.5, [("drain", 1)])])
def test_between_the_thresholds_nothing_changes(average: float, told: list[tuple[Any, ...]]) -> None:
    control = Control([free(average), free(average), free(0)], states=["up", "up", "off"])
    control.loads = [Load(int(2 * average), 1000, 2, 0, 0)] * 3
    assert scaled(control) == told


def test_an_idle_instance_counts_as_the_most() -> None:
    """One at 4 and one idle: (4 + 100) / 2 = 52; with at most 10, 7, which is below 10."""
    control = Control([free(4), Load(100, 100, 0, 0, 0), free(0)], states=["up", "up", "off"])
    assert scaled(control) == [] and scaled(control, most=10.0) == [("start", 2)]
    assert scaled(control, most=16.0) == [], "(4 + 16) / 2 = 10"


def test_a_draining_instance_is_taken_back_before_another_starts() -> None:
    control = Control([free(1), free(1), free(1), free(1)], states=["up", "off", "draining", "off"])
    assert scaled(control) == [("start", 2)]
    control.states = ["up", "off", "off", "off"]
    assert scaled(control) == [("start", 1)]


def test_nobody_stops_while_one_boots_nor_below_the_least() -> None:
    idle = Load(100, 100, 0, 0, 0)
    assert scaled(Control([idle, idle, idle], states=["up", "up", "booting"])) == []
    assert scaled(Control([idle, idle])) == [("drain", 1)] and scaled(Control([idle, idle]), min_instances=2) == []
    assert scaled(Control([idle])) == [] and scaled(Control([idle]), min_instances=0) == [("drain", 0)]


def test_the_emptiest_stops_and_of_equals_the_last() -> None:
    def busy(running: int, waiting: int) -> Load:
        return Load(900, 1000, running, waiting, 0)

    assert scaled(Control([busy(2, 0), busy(1, 0), busy(1, 0), busy(3, 0)])) == [("drain", 2)]
    assert scaled(Control([busy(1, 2), busy(2, 0), busy(2, 2)])) == [("drain", 1)], "those that wait count as well"


def test_from_nothing_something_starts_when_somebody_is_held() -> None:
    assert scaled(Control([free(1)], states=["off"])) == []
    assert scaled(Control([free(1)], states=["off"], held=1)) == [("start", 0)]
    # A decode instance takes no arrivals, however free it is.
    idle = Load(100, 100, 0, 0, 0)
    control = Control([idle, idle, idle], states=["up", "off", "off"], roles=["decode", "decode", "mixed"], held=1)
    assert scaled(control) == [("start", 2)]


def test_pools_that_need_each_other() -> None:
    idle = Load(100, 100, 0, 0, 0)
    roles = ["prefill", "decode", "decode"]
    assert scaled(Control([idle] * 3, roles=roles)) == [("drain", 2)]
    assert scaled(Control([idle] * 3, states=["up", "up", "off"], roles=roles)) == [], "the last of each"
    assert scaled(Control([idle] * 3, states=["draining", "off", "off"], roles=roles)) == [("start", 1)], "what it prefills is decoded"
    assert scaled(Control([idle] * 3, states=["draining", "off", "draining"], roles=roles)) == [("start", 2)]
    assert scaled(Control([idle] * 3, states=["off", "off", "off"], roles=roles)) == []
    assert scaled(Control([idle] * 3, states=["off", "up", "up"], roles=roles)) == [("drain", 2)], "no instance prefills: decoding may stop"


def test_thresholds_that_would_start_and_stop_for_ever() -> None:
    params = registry.controller_class("llumnix-scaling").Params
    with pytest.raises(ValidationError, match="at least scale_up, which is 10"):
        params(scale_down=9.9)
    assert params(scale_down=10.0).scale_down == 10.0
    assert (params().interval_s, params().scale_up, params().scale_down, params().min_instances, params().most) == (
        10.0,
        10.0,
        60.0,
        1,
        100.0,
    )
