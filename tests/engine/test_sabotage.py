"""Every invariant is seen to fail when its rule is broken on purpose: forged records, and an engine with a part replaced.

I6 and I8 compare runs and are seen to fail in `test_invariants`; I10 has `test_bad_policies`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simserve.engine import simulate
from simserve.engine.check import check_records
from simserve.engine.clock import Agenda
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.events import REQUEST_DUE, STEP_ENDS
from simserve.engine.plan import StepPlan
from simserve.engine.recorder import Recorder
from simserve.engine.records import RunRecords, Status
from simserve.engine.speculating_group import SpeculatingGroup
from simserve.engine.speculating_member import DRAFTED, DURING, Member
from simserve.engine.waiting import FcfsQueue
from simserve.errors import InvariantError, PolicyError
from tests.engine.fixed_cases import (
    CHAIN,
    CLOSED,
    LONG_COURSES,
    RECOMPUTE,
    ROOMY,
    SPECULATES,
    SPECULATES_AND_FREES,
    SPECULATES_BY_BATCH,
)
from tests.engine.invariants import complaints, differences
from tests.engine.strategies import Case


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


def _tick(column: int, more: int, at: int = 5) -> Callable[[RunRecords], RunRecords]:
    """Sabotage: what a step of a lane that speculates has noted is changed: drafted, accepted, attended tokens or pairs."""
    return _lane("ticks", (at, column), lambda noted: noted + more)  # type: ignore[arg-type]


def _bursts(change: Callable[[Any], None]) -> Callable[[RunRecords], RunRecords]:
    """Sabotage: the tokens that steps with drafts gave, (segment, tokens), are changed."""

    def broken(records: RunRecords) -> RunRecords:
        bursts = records.emissions.bursts.copy()
        change(bursts)
        return dataclasses.replace(records, emissions=dataclasses.replace(records.emissions, bursts=bursts))

    return broken


def _one_token_earlier(bursts: Any) -> None:
    """The first two steps of a request give what they gave, but one token moves from the later to the earlier."""
    bursts[0, 1] += 1
    bursts[1, 1] -= 1


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
    "a block leaks": ("I3", ROOMY, lambda r: dataclasses.replace(r, counters={**r.counters, "kv_blocks_in_use_at_end": 1.0})),
    "more blocks than there are": ("I3", RECOMPUTE, _lane("span_kv_blocks", 4, lambda n: 13)),
    "fewer blocks than none": ("I3", RECOMPUTE, _lane("span_kv_blocks", 4, lambda n: -1)),
    "more requests than sequence slots": ("I3", ROOMY, _lane("span_decode_requests", 8, lambda n: n + 7)),
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
    "a step drafts one token more": ("I2", SPECULATES, _tick(0, 1)),
    "a step drafts fewer tokens than it accepts": ("I2", SPECULATES, _tick(0, -30)),
    "a step accepts one token more": ("I2", SPECULATES, _tick(1, 1)),
    "a step accepts one token less": ("I2", SPECULATES, _tick(1, -1)),
    "drafted tokens are attended that there are not": ("I2", SPECULATES, _tick(2, 1)),
    "a lone request's queries attend one pair less": ("I2", SPECULATES, _tick(3, -1, at=-1)),
    "the queries of a batch attend nothing": ("I2", SPECULATES, _tick(3, -10_000)),
    "a step with drafts gives a token that no one generated": ("I2", SPECULATES, _bursts(lambda bursts: bursts.__setitem__((0, 1), 9))),
    "a token comes a step early": ("I2", SPECULATES, _bursts(_one_token_earlier)),
    "the queue was longer than its requests": ("I9", ROOMY, _lane("span_waiting", 2, lambda n: n + 1)),
}
"""What is forged in the records -> (the invariant that must complain, the case, the forger)."""


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_record_is_noticed(what: str) -> None:
    invariant, case, forge = FORGED[what]
    records = case.engine()
    assert complaints(records, case.workload()) == []
    assert invariant in {c[:2] for c in complaints(forge(records), case.workload())}


def test_check_reads_what_steps_with_drafts_have_noted() -> None:
    """`--check` complains about the same forged records."""
    records = SPECULATES.engine()
    check_records(records, finished=True)
    for what, (invariant, case, forge) in FORGED.items():
        if case is SPECULATES:
            with pytest.raises(InvariantError, match=invariant):
                check_records(forge(records), finished=True)
                pytest.fail(what)


def _never(self: Any, *arguments: Any) -> int:
    return 0


def _leak_one(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.leave

    def leave(self: Any, request: Any) -> None:
        honest(self, request)
        object.__setattr__(request, "held_blocks", request.held_blocks - 1)  # past the guard of `--check`

    monkeypatch.setattr(DecodeGroup, "leave", leave)


def _one_token_more(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DecodeGroup.join
    monkeypatch.setattr(DecodeGroup, "join", lambda self, r, n, g: honest(self, r, n + 1, g))


def _context_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = StepPlan.seal

    def seal(self: StepPlan) -> None:
        honest(self)
        self.context_tokens += 1

    monkeypatch.setattr(StepPlan, "seal", seal)


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
    honest = FcfsQueue.requeue

    def requeue(self: Any, request: Any) -> None:
        request.recomputed_tokens -= 1
        honest(self, request)

    monkeypatch.setattr(FcfsQueue, "requeue", requeue)


def _late_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Agenda.at

    def at(self: Any, time_s: float, callback: Any, priority: int = STEP_ENDS) -> Any:
        return honest(self, time_s + 0.01 if time_s == self.now and priority == STEP_ENDS else time_s, callback, priority)

    monkeypatch.setattr(Agenda, "at", at)


def _early_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Agenda.at

    def at(self: Any, time_s: float, callback: Any, priority: int = STEP_ENDS) -> Any:
        return honest(self, max(self.now, time_s - 0.04) if priority == REQUEST_DUE else time_s, callback, priority)

    monkeypatch.setattr(Agenda, "at", at)


def _lose_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Recorder.segment
    monkeypatch.setattr(Recorder, "segment", lambda self, request, lane, last: honest(self, request, lane, last - (request.row == 4)))


def _keep_what_was_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, kept = SpeculatingGroup.advance, []

    def advance(self: Any, steps: int) -> int:
        freed = honest(self, steps)
        if freed and not kept:
            kept.append(freed)
            return 0
        return freed

    monkeypatch.setattr(SpeculatingGroup, "advance", advance)


def _held_one_less(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Member.held_after
    monkeypatch.setattr(Member, "held_after", lambda self, done, memory: honest(self, done, memory) - (done > 0))


def _shorter_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Member.follow

    def follow(self: Any, *arguments: Any) -> None:
        honest(self, *arguments)
        self.columns[DURING] -= 1  # in the sums, not in the tables of the members

    monkeypatch.setattr(Member, "follow", follow)


def _draft_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Member.follow

    def follow(self: Any, *arguments: Any) -> None:
        honest(self, *arguments)
        self.columns[DRAFTED] += 1

    monkeypatch.setattr(Member, "follow", follow)


def _ignore_memory_of_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeculatingGroup, "steps_within", lambda self, free, steps: steps)


def _lose_a_step_of_a_course(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Recorder.course
    monkeypatch.setattr(Recorder, "course", lambda self, r, lane, tokens: honest(self, r, lane, tokens[: len(tokens) - (r.row == 4)]))


def _a_course_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Recorder.course
    monkeypatch.setattr(Recorder, "course", lambda self, r, lane, tokens: honest(self, r, lane, tokens[::-1].copy()))


def _forget_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeculatingGroup, "_forget", lambda self, member: None)


SABOTAGED: dict[str, tuple[str, Case, Callable[[pytest.MonkeyPatch], None]]] = {
    "a request is dropped on its way to the queue": ("I1", ROOMY, _lose_the_third),
    "every request decodes one token too many": ("I1", ROOMY, _one_token_more),
    "contexts are off by one": ("I2", ROOMY, _context_off_by_one),
    "recomputed tokens are miscounted": ("I2", RECOMPUTE, _forget_preemption),
    "a block leaks with every request": ("I3", ROOMY, _leak_one),
    "blocks of a span are not taken": ("I3", ROOMY, _grow_for_free),
    "spans run past the end of memory": ("I3", RECOMPUTE, _ignore_memory),
    "requests arrive before their time": ("I4", ROOMY, _early_arrival),
    "an idle instance sleeps on": ("I5", ROOMY, _late_wake),
    "a token of request 4 goes unrecorded": ("I9", ROOMY, _lose_a_tick),
    "the blocks of rejected tokens are not given back, once": ("I3", SPECULATES_AND_FREES, _keep_what_was_freed),
    "a request that leaves has one block less than it took": ("I3", SPECULATES, _held_one_less),
    "a token is drafted that no one asked for": ("I2", SPECULATES, _draft_in_silence),
    "spans with drafts run past the end of memory": ("I3", LONG_COURSES, _ignore_memory_of_drafts),
    "the last step of a course goes unrecorded": ("I2", SPECULATES, _lose_a_step_of_a_course),
    "a course is recorded in another order": ("I2", SPECULATES, _a_course_in_another_order),
    "what a smaller batch would have drafted still counts": ("I2", SPECULATES_BY_BATCH, _forget_nothing),
    "spans run past the end of a request": ("I7", ROOMY, _overshoot),
}
"""What is broken in the engine -> (the invariant that must complain, the case, the saboteur)."""


def _failing(case: Case) -> set[str]:
    """Numbers of the invariants that complain about both ways of stepping, and I7 when they differ."""
    runs = case.engine(), case.engine(fast_forward=False)
    found = {c[:2] for records in runs for c in complaints(records, case.workload())}
    return found | {c[:2] for c in differences(*runs)}


@pytest.mark.pure("a part of the engine is replaced")
@pytest.mark.parametrize("what", SABOTAGED)
def test_a_sabotaged_engine_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    invariant, case, sabotage = SABOTAGED[what]
    assert _failing(case) == set()
    sabotage(monkeypatch)
    try:
        assert invariant in _failing(case)
    except (PolicyError, InvariantError) as error:  # what leaves requests behind, or frees what was not taken, ends the run itself
        assert f"invariant {invariant}" in str(error)


@pytest.mark.pure("a part of the engine is replaced")
def test_check_notices_a_leak_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--check` runs the same rules live."""
    simulate(ROOMY.workload(), [ROOMY.spec()], check=True)
    _leak_one(monkeypatch)
    with pytest.raises(InvariantError, match="I3"):
        simulate(ROOMY.workload(), [ROOMY.spec()], check=True)


@pytest.mark.pure("a part of the engine is replaced")
@pytest.mark.parametrize("saboteur", [_keep_what_was_freed, _held_one_less, _shorter_tables, _draft_in_silence, _forget_nothing])
def test_check_notices_a_group_that_miscounts_its_drafts(saboteur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While running, from the members: drafted, accepted and attended tokens, pairs and blocks of the coming step."""
    case = SPECULATES_BY_BATCH if saboteur is _forget_nothing else SPECULATES_AND_FREES
    simulate(case.workload(), [case.spec()], check=True)
    saboteur(monkeypatch)
    with pytest.raises(InvariantError, match=r"I2|I3"):
        simulate(case.workload(), [case.spec()], check=True)
