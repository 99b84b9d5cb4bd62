"""The invariants of docs/invariants.md on random cases, for every policy, good and bad; and each seen to fail when its rule is broken."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import simulate
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.records import RunRecords, Status
from simserve.engine.waiting import FcfsQueue
from simserve.errors import InvariantError
from simserve.workload.requests import Workload
from tests.engine.bad_policies import LEGAL, Bad, WrongRepeat
from tests.engine.invariants import complaints, differences, dump
from tests.engine.strategies import POLICIES, Case, Row, cases
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost

BUSY = tuple(Row(0.05 * i, 5 + 7 * i % 11, 3 + 5 * i % 13, priority=i % 3) for i in range(12))
RECOMPUTE = Case(BUSY, "vllm-v1", (("max_num_batched_tokens", 16),), JaggedCost(), kv_blocks=12, block_tokens=4, max_seqs=6)
SWAP = dataclasses.replace(RECOMPUTE, preemption="swap", host_kv_blocks=40)
ROOMY = dataclasses.replace(RECOMPUTE, kv_blocks=200)
CLOSED = dataclasses.replace(RECOMPUTE, concurrency=4, think_s=0.1)
CHAIN = dataclasses.replace(ROOMY, rows=(*BUSY[:6], Row(0.3, 8, 6, after=2), Row(0.0, 9, 5, after=6), Row(0.0, 4, 4, after=7)))


def test_the_fixed_cases_are_what_they_are_used_for() -> None:
    recompute, swap, roomy = (case.engine() for case in (RECOMPUTE, SWAP, ROOMY))
    assert recompute.requests.preemptions.sum() > 2
    assert recompute.requests.recomputed_tokens.sum() > 10
    assert swap.requests.preemptions.sum() > 2
    assert swap.requests.recomputed_tokens.sum() < recompute.requests.recomputed_tokens.sum()
    assert roomy.requests.preemptions.sum() == 0
    assert max(roomy.lanes[0].span_steps) > 1


@pytest.mark.parametrize("policy", POLICIES)
def test_invariants_hold_for_every_policy(policy: str) -> None:
    """I1-I5, I9 on the records, I7 between the two ways of stepping, on random cases."""

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), max_requests=14))
    def holds(case: Case) -> None:
        fast, slow = case.engine(), case.engine(fast_forward=False)
        assert complaints(fast, case.workload()) == []
        assert complaints(slow, case.workload()) == []
        assert differences(fast, slow) == []

    holds()


@pytest.mark.parametrize("name", LEGAL)
def test_invariants_hold_for_bad_policies(name: str) -> None:
    """Bad service is not a broken rule: I1-I5 and I9 hold. Only the policy that claims a wrong `repeat` gives other records with spans
    off (I7): its claim was its own."""

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(cases(policies=("orca",), max_requests=10))
    def holds(case: Case) -> None:
        runs = [case.engine(LEGAL[name](), fast_forward=fast) for fast in (True, False)]
        for records in runs:
            assert complaints(records, case.workload()) == []
        if name != "wrong-repeat":
            assert differences(*runs) == []

    holds()


def test_check_notices_a_wrong_repeat() -> None:
    """`--check` runs the case with spans on and off, and a policy whose `hold` was not true is found out (I7)."""
    case = dataclasses.replace(ROOMY, rows=tuple(Row(0.03 * i, 6, 30) for i in range(5)))
    assert differences(*(case.engine(WrongRepeat(), fast_forward=fast) for fast in (True, False)))
    with pytest.raises(InvariantError, match="I7"):
        case.engine(WrongRepeat(), check=True)


# -- I6, I8: comparisons of runs ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_same_case_same_bytes(case: Case) -> None:
    """I6."""
    assert dump(case.engine()) == dump(case.engine())


def test_same_bytes_in_another_process() -> None:
    """I6: with other hash seeds, where a set or a dict of objects would come in another order."""
    code = (
        "import hashlib\nfrom tests.engine.test_invariants import *\n"
        "runs = [c.engine() for c in (RECOMPUTE, SWAP, ROOMY, CLOSED, CHAIN)]\n"
        "print(hashlib.sha256(b''.join(dump(r) for r in runs)).hexdigest())"
    )
    seen = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1


class Spy(Bad):
    """Serves plainly and writes down everything public it can see of every request, at every plan."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, Any]] = []

    def choose(self, view: Any, plan: Any) -> Any:
        for r in [*view.waiting, *view.prefilling, *view.decoding, *view.swapped]:
            public = [name for name in dir(r) if not name.startswith("_") and not callable(getattr(r, name, None))]
            self.seen.append((view.now, [(name, repr(getattr(r, name, None))) for name in public]))
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        for r in list(view.waiting):
            if not plan.admit(r):
                break
            plan.prefill(r, r.prefill_left)
        return plan


def test_a_policy_cannot_see_output_lengths() -> None:
    """I8: two workloads that differ only in lengths not yet reached look the same to a policy until the first difference is reached."""
    short = dataclasses.replace(ROOMY, rows=tuple(Row(0.0, 5 + i, 9) for i in range(5)))
    long = dataclasses.replace(ROOMY, rows=tuple(Row(0.0, 5 + i, 9 + 4 * i + 3) for i in range(5)))
    spies = Spy(), Spy()
    first = short.engine(spies[0]), long.engine(spies[1])
    until = float(first[0].requests.finish_s.min())
    views = [[entry for entry in spy.seen if entry[0] < until] for spy in spies]
    assert len(views[0]) > 20
    for a, b in zip(*views, strict=True):
        assert a == b


def test_only_an_oracle_may_ask_for_the_output_length() -> None:
    """I8: the attribute is not there for others."""

    class Asks(Spy):
        def choose(self, view: Any, plan: Any) -> Any:
            self.asked = [getattr(r, "output_tokens", None) for r in view.waiting]
            return super().choose(view, plan)

    class Oracle(Asks):
        oracle = True

    for cls, expected in ((Asks, [None] * 2), (Oracle, [9, 4])):
        policy = cls()
        case = dataclasses.replace(ROOMY, rows=(Row(0.0, 5, 9), Row(0.0, 5, 4)))
        lengths: list[Any] = []
        original = policy.choose

        def choose(view: Any, plan: Any, original: Any = original, policy: Any = policy, lengths: list[Any] = lengths) -> Any:
            result = original(view, plan)
            lengths.extend(policy.asked)
            return result

        policy.choose = choose  # type: ignore[method-assign]
        case.engine(policy)
        assert lengths == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases(), st.floats(0.001, 3.0))
def test_a_run_cut_short_is_the_beginning_of_the_whole_run(case: Case, until_s: float) -> None:
    """I4 again: nothing that happens later can have changed what happened before."""
    whole, cut = case.engine(), case.engine(until_s=until_s)
    done = whole.requests.finish_s < until_s
    for name in ("released_s", "scheduled_s", "first_token_s", "finish_s", "status", "generated_tokens", "preemptions", "recomputed_tokens"):
        a, b = getattr(whole.requests, name), getattr(cut.requests, name)
        assert np.array_equal(a[done], b[done], equal_nan=True), name
    assert (cut.requests.status[~(whole.requests.finish_s <= until_s)] == Status.UNFINISHED).all()
    for a_times, b_times in zip(token_times(whole), token_times(cut), strict=True):
        assert [t for t in a_times if t < until_s] == [t for t in b_times if t < until_s]
        assert all(t <= until_s for t in b_times)


# -- every invariant is seen to fail -----------------------------------------------------------------------------------------------


def _column(name: str, row: int, value: Any) -> Callable[[RunRecords], RunRecords]:
    """Sabotage: one entry of a request column is changed (`value` may be a function of the old value)."""

    def broken(records: RunRecords) -> RunRecords:
        column = getattr(records.requests, name).copy()
        column[row] = value(column[row]) if callable(value) else value
        return dataclasses.replace(records, requests=dataclasses.replace(records.requests, **{name: column}))

    return broken


def _lane(name: str, at: int, change: Callable[[Any], Any]) -> Callable[[RunRecords], RunRecords]:
    """Sabotage: one entry of the step log is changed."""

    def broken(records: RunRecords) -> RunRecords:
        column = getattr(records.lanes[0], name).copy()
        column[at] = change(column[at])
        return dataclasses.replace(records, lanes=(dataclasses.replace(records.lanes[0], **{name: column}),))

    return broken


def _emission(name: str, change: Callable[[Any], Any]) -> Callable[[RunRecords], RunRecords]:
    """Sabotage: one emission segment is changed."""

    def broken(records: RunRecords) -> RunRecords:
        column = getattr(records.emissions, name).copy()
        column[0] = change(column[0])
        return dataclasses.replace(records, emissions=dataclasses.replace(records.emissions, **{name: column}))

    return broken


FORGED: dict[str, tuple[str, Case, Callable[[RunRecords], RunRecords]]] = {
    "a request never ends": ("I1", ROOMY, _column("status", 3, Status.UNFINISHED)),
    "a request has no end time": ("I1", ROOMY, _column("finish_s", 3, np.nan)),
    "a request is rejected without a reason": ("I1", ROOMY, _column("status", 3, Status.REJECTED)),
    "a request completes one token short": ("I1", ROOMY, _column("generated_tokens", 3, lambda n: n - 1)),
    "a request fails that the trace did not fail": ("I1", ROOMY, _column("status", 3, Status.FAILED)),
    "a token is emitted that was not generated": ("I2", ROOMY, _emission("last_tick", lambda t: t + 1)),
    "a token is generated that was not emitted": ("I2", ROOMY, _emission("last_tick", lambda t: t - 1)),
    "recomputation is not counted": ("I2", RECOMPUTE, _column("recomputed_tokens", slice(None), 0)),
    "a prefill is longer than the prompt": ("I2", ROOMY, _lane("span_prefill_tokens", 0, lambda n: n + 1)),
    "a decode attends one token too few": ("I2", ROOMY, _lane("span_context_tokens", -1, lambda n: n - 1)),
    "a chunk attends the wrong context": ("I2", ROOMY, _lane("span_prefill_pairs", 1, lambda n: n + 4)),
    "a block leaks": ("I3", ROOMY, _lane("span_kv_blocks", -1, lambda n: n + 1)),
    "more blocks than there are": ("I3", RECOMPUTE, _lane("span_kv_blocks", 4, lambda n: 13)),
    "fewer blocks than none": ("I3", RECOMPUTE, _lane("span_kv_blocks", 4, lambda n: -1)),
    "more requests than seats": ("I3", ROOMY, _lane("span_decode_requests", 8, lambda n: n + 7)),
    "work before the release": ("I4", ROOMY, _column("scheduled_s", 5, lambda t: t - 1.0)),
    "the first token before the work": ("I4", ROOMY, _column("first_token_s", 5, lambda t: 0.0)),
    "the end before the release": ("I4", ROOMY, _column("finish_s", 5, 0.0)),
    "released early": ("I4", ROOMY, _column("released_s", 5, lambda t: t - 0.01)),
    "released before the request it waits for has ended": ("I4", CHAIN, _column("finish_s", 2, lambda t: t + 5.0)),
    "a client sends twice": ("I4", CLOSED, _column("released_s", 6, 0.0)),
    "a step ends before it starts": ("I4", ROOMY, _lane("step_end_s", 3, lambda t: 0.0)),
    "a step starts before the last has ended": ("I4", ROOMY, _lane("span_start_s", 3, lambda t: t - 0.01)),
    "the server takes a nap": ("I5", ROOMY, _lane("span_start_s", 3, lambda t: t + 0.01)),
    "the server starts late": ("I5", ROOMY, _lane("span_start_s", 0, lambda t: t + 0.01)),
    "a request stays longer than its tokens": ("I9", ROOMY, _column("finish_s", 4, lambda t: t + 0.5)),
    "the log has one decode more than the requests": ("I9", ROOMY, _lane("span_decode_requests", -1, lambda n: n + 1)),
    "the queue was longer than its requests": ("I9", ROOMY, _lane("span_waiting", 2, lambda n: n + 1)),
}
"""What is forged in the records -> (the invariant that must complain, the case, the forger)."""


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_record_is_noticed(what: str) -> None:
    invariant, case, forge = FORGED[what]
    records = case.engine()
    assert complaints(records, case.workload()) == []
    assert invariant in {c[:2] for c in complaints(forge(records), case.workload())}


def _never(self: Any, *arguments: Any) -> int:
    return 0


def _leak_one(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.leave
    monkeypatch.setattr(DecodeGroup, "leave", lambda self, r: (honest(self, r), setattr(r, "held_blocks", r.held_blocks - 1)))


def _one_token_more(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.join
    monkeypatch.setattr(DecodeGroup, "join", lambda self, r, n, g: honest(self, r, n + 1, g))


def _context_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.context_tokens
    monkeypatch.setattr(DecodeGroup, "context_tokens", lambda self: honest(self) + 1)


def _grow_for_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecodeGroup, "growth_over", _never)


def _lose_the_third(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FcfsQueue.push
    monkeypatch.setattr(FcfsQueue, "push", lambda self, r: None if r.row == 3 else honest(self, r))


def _overshoot(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.steps_to_next_change
    monkeypatch.setattr(DecodeGroup, "steps_to_next_change", lambda self: honest(self) + 1)


def _ignore_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecodeGroup, "steps_within", lambda self, free, steps: steps)


def _forget_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = FcfsQueue.give_back

    def give_back(self: Any, request: Any) -> None:
        request.recomputed_tokens -= 1
        honest(self, request)

    monkeypatch.setattr(FcfsQueue, "give_back", give_back)


SABOTAGED: dict[str, tuple[str, Case, Callable[[pytest.MonkeyPatch], None]]] = {
    "a request is dropped on its way to the queue": ("I1", ROOMY, _lose_the_third),
    "every request decodes one token too many": ("I1", ROOMY, _one_token_more),
    "contexts are off by one": ("I2", ROOMY, _context_off_by_one),
    "recomputed tokens are miscounted": ("I2", RECOMPUTE, _forget_preemption),
    "a block leaks with every request": ("I3", ROOMY, _leak_one),
    "blocks of a span are not taken": ("I3", ROOMY, _grow_for_free),
    "spans run past the end of memory": ("I3", RECOMPUTE, _ignore_memory),
    "spans run past the end of a request": ("I7", ROOMY, _overshoot),
}
"""What is broken in the engine -> (the invariant that must complain, the case, the saboteur)."""


def _failing(case: Case) -> set[str]:
    """Numbers of the invariants that complain about both ways of stepping, and I7 when they differ."""
    runs = case.engine(), case.engine(fast_forward=False)
    found = {c[:2] for records in runs for c in complaints(records, case.workload())}
    return found | {c[:2] for c in differences(*runs)}


@pytest.mark.parametrize("what", SABOTAGED)
def test_a_sabotaged_engine_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    invariant, case, sabotage = SABOTAGED[what]
    assert _failing(case) == set()
    sabotage(monkeypatch)
    assert invariant in _failing(case)


def test_check_notices_a_leak_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--check` runs the same rules live."""
    simulate(ROOMY.workload(), [ROOMY.spec()], check=True)
    _leak_one(monkeypatch)
    with pytest.raises(InvariantError, match="I3"):
        simulate(ROOMY.workload(), [ROOMY.spec()], check=True)


def test_invariants_of_nothing() -> None:
    """An empty workload ends at once and breaks no rule."""
    empty = dataclasses.replace(ROOMY, rows=())
    assert complaints(empty.engine(), Workload(empty.workload().requests)) == []


