"""`--check` notices: each rule of `simserve.engine.check` is broken in records and in an instance's state between two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simserve.contracts import InstanceView, Scheduler, StepPlan
from simserve.engine import ClusterSpec, InstanceSpec, simulate
from simserve.engine.check import CheckedSimulation, audit, check_records, same_records
from simserve.engine.lane import Lane
from simserve.engine.records import RunRecords, Status
from simserve.engine.request import State
from simserve.errors import InvariantError
from simserve.workload.requests import RequestTable, Workload
from tests.engine.fixed_cases import RECOMPUTE, ROOMY, SWAP
from tests.engine.seam_world import Accepts, Drafting, Seams
from tests.engine.test_sabotage import FORGED
from tests.reference.toy_cost import RoundCost

IN_RECORDS = ("I1", "I2", "I4", "I5", "I9")
UNSEEN = {
    "a chunk attends the wrong context": "pairs are not counted again",
    "a decode attends one token too few": "pairs are not counted again",
    "released early": "arrival times are the workload's",
    "released before the request it waits for has ended": "what requests wait for is the workload's",
    "a client sends twice": "what clients do is the workload's",
    "the server starts late": "only gaps between two spans are looked at",
    "a step starts before the last has ended": "only the ends of steps are looked at",
    "a prefill is longer than the prompt": "tokens computed are counted in all",
    "the log has one decode more than the requests": "tokens computed are counted in all",
    "a request stays longer than its tokens": "when the last token came is not looked at",
    "a request completes one token short": "",
    "the queue was longer than its requests": "only requests are counted",
    "a request fails that the trace did not fail": "",
}
"""Forgeries that `check_records` leaves to the checkers of the tests, or names by another invariant ("")."""


@pytest.mark.parametrize("what", [what for what, (rule, _, _) in FORGED.items() if rule in IN_RECORDS])
def test_forged_records_are_noticed_by_the_engine_too(what: str) -> None:
    rule, case, forge = FORGED[what]
    records = case.engine()
    check_records(records, finished=True)
    if UNSEEN.get(what):
        return
    with pytest.raises(InvariantError, match="invariant I[1-9] is broken" if what in UNSEEN else f"invariant {rule} is broken"):
        check_records(forge(records), finished=True)


def altered(records: RunRecords, **columns: dict[int, Any]) -> RunRecords:
    """The records with entries of request columns changed: name -> {row: value}."""
    changed = {}
    for name, entries in columns.items():
        column = getattr(records.requests, name).copy()
        for row, value in entries.items():
            column[row] = value
        changed[name] = column
    return dataclasses.replace(records, requests=dataclasses.replace(records.requests, **changed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": {3: Status.UNFINISHED}}, "1 requests never ended"),
        ({"finish_s": {3: np.nan}}, "ended at no time"),
        ({"status": {3: Status.REJECTED}}, "refused without a reason"),
        ({"status": {3: Status.FAILED}}, "refused without a reason"),
        ({"status": {3: Status.CANCELLED}}, "cancelled without a reason"),
        ({"generated_tokens": {3: 99}}, "more tokens than were asked"),
        ({"status": {3: Status.REJECTED}, "reason": {3: 1}}, "refused request has generated tokens"),
        ({"generated_tokens": {3: 1}}, "completed request lacks tokens"),
        ({"released_s": {3: 1e3}}, "scheduled before its release"),
        ({"scheduled_s": {3: 1e3}}, "first token before it was scheduled"),
        ({"first_token_s": {3: 1e3}}, "finished before its first token"),
        ({"recomputed_tokens": {3: 1}}, "tokens computed"),
        ({"cached_tokens": {3: 1}}, "tokens computed"),
        ({"reread_tokens": {3: 1}}, "tokens computed"),
    ],
)
def test_one_request_is_enough(change: dict[str, dict[int, Any]], words: str) -> None:
    records = ROOMY.engine()
    records = dataclasses.replace(records, requests=dataclasses.replace(records.requests, reasons=("", "a reason")))
    check_records(records, finished=True)
    with pytest.raises(InvariantError, match=words):
        check_records(altered(records, **change), finished=True)


def test_a_cut_run_may_leave_requests_but_no_token_unaccounted() -> None:
    records = ROOMY.engine(until_s=1.0)
    assert (records.requests.status == Status.UNFINISHED).any()
    check_records(records, finished=False)
    with pytest.raises(InvariantError, match="never ended"):
        check_records(records, finished=True)
    busiest = int(records.requests.generated_tokens.argmax())
    with pytest.raises(InvariantError, match="tokens emitted differ"):
        check_records(altered(records, generated_tokens={busiest: records.requests.generated_tokens[busiest] - 1}), finished=False)


def test_steps_end_one_after_the_other() -> None:
    records = ROOMY.engine()
    ends = records.lanes[0].step_end_s.copy()
    ends[3] = ends[2]
    equal = dataclasses.replace(records, lanes=(dataclasses.replace(records.lanes[0], step_end_s=ends),))
    with pytest.raises(InvariantError, match="not in order of time"):
        check_records(equal, finished=True)


def test_an_instance_may_idle_only_where_requests_spend_time_outside() -> None:
    forge = FORGED["the server takes a nap"][2]
    records = forge(ROOMY.engine())
    with pytest.raises(InvariantError, match=r"I5 is broken: instance 0 idles while [0-9]+ requests wait"):
        check_records(records, finished=True)
    check_records(records, finished=True, outside=True)
    check_records(dataclasses.replace(records, lanes=records.lanes * 2), finished=True)  # of several lanes one may idle


def test_with_and_without_spans_every_column_and_every_step_is_the_same() -> None:
    records = ROOMY.engine()
    same_records(records, ROOMY.engine(fast_forward=False))
    for name in ("finish_s", "generated_tokens", "status", "cached_tokens"):
        with pytest.raises(InvariantError, match=rf"I7 is broken: requests\.{name} differs"):
            same_records(records, altered(records, **{name: {0: 7}}))
    with pytest.raises(InvariantError, match=r"requests\.reasons differs"):
        same_records(records, dataclasses.replace(records, requests=dataclasses.replace(records.requests, reasons=("", "b"))))
    late = dataclasses.replace(records.lanes[0], step_end_s=records.lanes[0].step_end_s + 1e-9)
    with pytest.raises(InvariantError, match="the step times of instance 0 differ"):
        same_records(records, dataclasses.replace(records, lanes=(late,)))


# -- the state of an instance -----------------------------------------------------------------------------------------------------------


class _StopError(Exception):
    pass


def stopped(workload: Workload, specs: list[InstanceSpec], when: Callable[[Lane], bool]) -> Lane:
    """The first lane whose span has just ended in a state that is asked for; what it shows has been audited."""

    class Stopping(CheckedSimulation):
        def span_ended(self, lane: Lane) -> None:
            audit(lane)
            if when(lane):
                self.found = lane
                raise _StopError

    run = Stopping(workload, specs, ClusterSpec(), True)
    for one in run.instances:
        one.checked = True
    with pytest.raises(_StopError):
        run.run()
    return run.found


def decoding(lane: Lane) -> bool:
    return len(lane.group) > 1 and bool(lane.batch.prefilling)


def swapped_out(lane: Lane) -> bool:
    return bool(lane.batch.swapped)


def verifying(lane: Lane) -> bool:
    return bool(lane.batch.verifying)


def case_lane(case: Any, when: Callable[[Lane], bool]) -> Lane:
    return stopped(case.workload(), [case.spec()], when)


class Chunks(Scheduler):
    """Chunks of 2 tokens of every prompt beside all decodes."""

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        plan.decode(view.decoding)
        for request in view.waiting:
            if not plan.admit(request):
                break
        for request in view.prefilling:
            plan.prefill(request, min(2, request.prefill_left))
        return plan


def busy_lane() -> Lane:
    table = RequestTable.build(np.zeros(4), np.array([3, 4, 9, 12]), np.full(4, 30))
    return stopped(Workload(table), [InstanceSpec("one", Chunks(), RoundCost(), 100, block_tokens=4)], decoding)


def member(lane: Lane) -> Any:
    return next(iter(lane.group))


def set_state(request: Any) -> None:
    request.state = State.WAITING


WRONG: dict[str, tuple[Callable[[Lane], Any], str]] = {
    "a free block more": (lambda lane: setattr(lane.kv, "_free", lane.kv._free + 1), "I3 .* requests hold"),
    "a used block more": (lambda lane: setattr(lane.kv, "_used", lane.kv._used + 1), "I3 .* are not 100"),
    "a block elsewhere that is not": (lambda lane: lane.kv.elsewhere.update({9: 1}), "I3 .* requests hold"),
    "a context more": (lambda lane: setattr(lane.group, "sum_base", lane.group.sum_base + 1), "I2 .* context total of one"),
    "a longer one": (lambda lane: setattr(lane.group, "_longest_base", lane.group.longest_tokens() - lane.group.tick), "I2 .* longest"),
    "a block to grow more": (lambda lane: lane.group.growth.__setitem__(0, lane.group.growth[0] + 1), "I3 .* growth histogram of one"),
    "a member that does not decode": (lambda lane: set_state(member(lane)), "I3 .*decodes on one"),
    "a prompt that does not prefill": (lambda lane: set_state(lane.batch.prefilling[0]), "I3 .* prefills on one"),
    "one in two places": (lambda lane: lane.batch.landed.append(member(lane)), "I3 .* two places of one"),
    "more than there are slots": (
        lambda lane: setattr(lane.instance, "spec", dataclasses.replace(lane.instance.spec, max_seqs=lane.batch.running - 1)),
        "I10 .* one runs more than 3 requests",
    ),
    "a host block that nothing takes": (lambda lane: setattr(lane.kv, "_host_free", lane.kv._host_free - 1), "I3 .* host blocks"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_audit_notices(what: str) -> None:
    lane = busy_lane()
    change, words = WRONG[what]
    change(lane)
    with pytest.raises(InvariantError, match=f"invariant {words}"):
        audit(lane)


def test_as_many_as_there_are_slots_may_run() -> None:
    lane = busy_lane()
    lane.instance.spec = dataclasses.replace(lane.instance.spec, max_seqs=lane.batch.running)
    audit(lane)


def test_the_audit_notices_a_member_with_more_tokens_than_blocks() -> None:
    """One whose memory is reserved to its end does not grow."""
    table = RequestTable.build(np.zeros(2), np.array([4, 4]), np.array([5, 20]))
    reserves = dataclasses.replace(RECOMPUTE, policy="orca", params=(("reserve", "max"),))
    lane = stopped(Workload(table), [reserves.spec()], lambda lane: len(lane.group) > 0 and lane.group.tick > 1)
    one = member(lane)
    assert not one.grows
    one.held_blocks = 0
    with pytest.raises(InvariantError, match=r"I3 .* has more tokens than blocks"):
        audit(lane)


def test_the_audit_notices_a_wrong_swap() -> None:
    lane = case_lane(SWAP, swapped_out)
    audit(lane)
    lane.kv._host_free += 1
    with pytest.raises(InvariantError, match=r"I3 .* swapped requests hold [0-9]+ host blocks"):
        audit(lane)
    lane.kv._host_free -= 1
    set_state(lane.batch.swapped[0])
    with pytest.raises(InvariantError, match=r"I3 .* is swapped out of i0"):
        audit(lane)


def test_the_audit_notices_a_wrong_verification() -> None:
    table = RequestTable.build(np.zeros(3), np.array([5, 6, 7]), np.full(3, 40))
    policy = Drafting(Drafting.Params(k=3, drafts=3))
    spec = InstanceSpec("one", policy, Seams(RoundCost()), 100, block_tokens=4, acceptance=Accepts())
    lane = stopped(Workload(table), [spec], verifying)
    one = lane.batch.verifying[0]
    one.computed_tokens += 100
    with pytest.raises(InvariantError, match=r"I3 .* has more tokens than blocks on one"):
        audit(lane)
    one.computed_tokens -= 100
    set_state(one)
    with pytest.raises(InvariantError, match=r"I3 .* verifies on one"):
        audit(lane)


@pytest.mark.pure("a part of the engine is replaced")
def test_a_checked_run_ends_with_all_memory_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is lost with the very last request is found too."""
    from simserve.engine.simulate import Simulation

    honest = Simulation.run

    def run(self: Simulation, until_s: float | None = None) -> RunRecords:
        records = honest(self, until_s)
        self.instances[0].kv._free -= 1
        return records

    monkeypatch.setattr(Simulation, "run", run)
    with pytest.raises(InvariantError, match=r"I3 .* i0 ends with 0 KV blocks in use"):
        simulate(ROOMY.workload(), [ROOMY.spec()], check=True)
    simulate(ROOMY.workload(), [ROOMY.spec()], check=True, until_s=1.0)
