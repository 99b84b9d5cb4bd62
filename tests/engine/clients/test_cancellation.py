"""A client of the contracts: users who give up, at any moment of a request's life. What they get, what they give back, who hears of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simserve.contracts import ClusterControl, Controller, InstanceView, Loading, Request, Router, Scheduler, StepPlan
from simserve.engine import ClusterSpec, InstanceSpec, LiveRun, simulate
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import Failures, LinkSpec, MigrationSpec
from simserve.workload.requests import RequestTable, Workload
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import RoundCost

NEVER = float("nan")
LINK = LinkSpec(bytes_per_s=1000.0, latency_s=0.5, kv_bytes_per_token=100.0)
"""A copy of 8 tokens takes 1.3 s."""

LONG = {"prompt_tokens": 20, "output_tokens": 8}
"""Takes 7 blocks of 4 tokens in the end, 5 to begin with."""


class Serves(Scheduler):
    """Whole prompts as soon as they fit, then one token for all; keeps the ends that it is told."""

    hears_ends = True

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.heard: list[int] = []

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        for request in view.waiting:
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        if not plan.slices:
            plan.decode(view.decoding)
            plan.hold()
        return plan

    def ended(self, requests: Sequence[Request], now: float) -> None:
        self.heard += [request.row for request in requests]


class First(Router):
    """The first instance that takes requests."""

    def choose(self, request: Request, view: Any) -> int:
        return int(view.open[0])


def instance(kv_blocks: int = 100, **options: Any) -> InstanceSpec:
    return InstanceSpec("i", Serves(), RoundCost(), kv_blocks, block_tokens=4, **options)


def table(*patience_s: float, arrival_s: float = 0.0, output_tokens: int = 20, prompt_tokens: int = 8, **columns: Any) -> RequestTable:
    rows = len(patience_s)
    arrivals = np.full(rows, arrival_s)
    return RequestTable.build(
        arrivals, np.full(rows, prompt_tokens), np.full(rows, output_tokens), patience_s=np.array(patience_s), **columns
    )


def serve(requests: RequestTable, *specs: InstanceSpec, cluster: ClusterSpec | None = None, **load: Any) -> RunRecords:
    return simulate(Workload(requests, **load), list(specs) or [instance()], cluster, check=True)


def gave_up(records: RunRecords) -> list[int]:
    r = records.requests
    rows = np.flatnonzero(r.status == Status.CANCELLED)
    assert all(r.reasons[r.reason[row]] == "the client gave up" for row in rows)
    assert np.isfinite(r.finish_s[rows]).all()
    return rows.tolist()


def test_one_who_gives_up_while_decoding_leaves_at_the_end_of_the_step_with_the_tokens_so_far() -> None:
    patient = token_times(serve(table(NEVER)))[0]
    between = (patient[4] + patient[5]) / 2
    records = serve(table(between))
    assert gave_up(records) == [0]
    assert records.requests.finish_s[0] == patient[5], "the step in progress ends first"
    assert token_times(records)[0] == patient[:6]
    assert records.requests.generated_tokens[0] == 6
    assert records.counters["cancelled_tokens"] == 8 + 5


def test_one_whose_last_token_comes_with_that_step_is_served() -> None:
    patient = token_times(serve(table(NEVER)))[0]
    for moment in (np.nextafter(patient[-1], 0.0), patient[-1], patient[-1] + 1.0):
        records = serve(table(moment))
        assert gave_up(records) == [] and token_times(records)[0] == patient


def test_one_who_waits_leaves_at_once_and_the_next_takes_the_memory() -> None:
    """Memory for one: the second waits, and so does the third behind it."""
    served = serve(table(NEVER, NEVER, NEVER, **LONG), instance(kv_blocks=7)).requests
    records = serve(table(NEVER, 1.0, NEVER, **LONG), instance(kv_blocks=7))
    r = records.requests
    assert gave_up(records) == [1]
    assert r.finish_s[1] == 1.0 and np.isnan(r.scheduled_s[1]) and r.generated_tokens[1] == 0
    assert r.finish_s[2] == served.finish_s[1], "it is served in the place of the one that left"


def test_what_one_held_is_there_for_others_at_the_end_of_the_step() -> None:
    records = serve(table(1.6, NEVER, **LONG), instance(kv_blocks=7))
    assert gave_up(records) == [0]
    assert records.requests.finish_s[0] == 1.75
    assert records.requests.scheduled_s[1] == records.requests.finish_s[0]


@pytest.mark.parametrize("patience_s", [0.0, 0.3])
def test_one_on_its_way_into_the_instance_never_reaches_it(patience_s: float) -> None:
    spec = instance(request_s=1.0)
    records = serve(table(patience_s, NEVER), spec)
    assert gave_up(records) == [0]
    assert records.requests.finish_s[0] == patience_s and records.requests.instance[0] == -1
    assert isinstance(spec.scheduler, Serves) and spec.scheduler.heard == [0, 1], "its end is told"


def test_one_that_no_instance_takes_leaves_the_queue_of_the_cluster() -> None:
    off = instance(starts=False)
    run = LiveRun([off], ClusterSpec(router=First()))
    run.append(table(3.0, 5.0))
    assert run.advance(4.0) == 1
    assert run.advance(6.0) == 2
    assert gave_up(run.close()) == [0, 1]


@pytest.mark.parametrize("patience_s", [0.2, 0.5, 0.7, 1.2, 1.8, 2.05, 2.6, 6.0])
@pytest.mark.parametrize("push", [False, True])
def test_between_prefill_and_decode_instance_both_get_their_memory_back(patience_s: float, push: bool) -> None:
    """Before, while and after it is copied; `check` looks at the blocks after every step."""
    specs = [instance(role="prefill", link=LINK), instance(role="decode")]
    records = serve(table(patience_s, patience_s), *specs, cluster=ClusterSpec(push=push))
    assert gave_up(records) == [0, 1]
    assert records.counters["kv_blocks_in_use_at_end"] == 0


def test_one_whose_instance_dies_before_the_step_ends_has_left() -> None:
    start = float(serve(table(NEVER)).requests.scheduled_s[0])
    failures = Failures(((start + 0.11, 0),), None, 1.0, "resume")
    records = serve(table(start + 0.1), cluster=ClusterSpec(failures=failures))
    assert gave_up(records) == [0]
    assert records.requests.finish_s[0] == start + 0.11


def test_whoever_follows_goes_on_as_after_any_end() -> None:
    follows = serve(table(1.0, NEVER, after=np.array([-1, 0])))
    assert follows.requests.released_s[1] == follows.requests.finish_s[0]
    loop = serve(table(1.0, NEVER), concurrency=1)
    assert loop.requests.released_s[1] == loop.requests.finish_s[0]
    bounded = serve(table(1.0, NEVER), max_concurrency=1)
    assert bounded.requests.released_s[1] == bounded.requests.finish_s[0]


def test_patience_counts_from_the_release_not_from_the_arrival() -> None:
    records = serve(table(NEVER, 1.0), max_concurrency=1, think_s=2.0)
    r = records.requests
    assert r.released_s[1] == r.finish_s[0] + 2.0 > 1.0
    assert gave_up(records) == [1] and r.finish_s[1] >= r.released_s[1] + 1.0


def test_a_live_client_cancels_what_it_has_not_sent_yet() -> None:
    run = LiveRun([instance()], max_concurrency=1)
    run.append(table(NEVER, NEVER, NEVER))
    run.append(table(NEVER, arrival_s=30.0))
    run.advance(1.0)
    run.cancel(1)  # held back: one is under way
    run.cancel(3)  # its time has not come
    run.advance(2.0)
    records = run.close()
    r = records.requests
    assert gave_up(records) == [1, 3]
    assert r.finish_s[[1, 3]].tolist() == [1.0, 1.0] and np.isnan(r.released_s[[1, 3]]).all()
    assert r.released_s[2] == r.finish_s[0], "the client sends the one after it instead"


def test_a_live_client_cannot_cancel_what_has_ended() -> None:
    run = LiveRun([instance()])
    run.append(table(NEVER))
    run.advance(1000.0)
    run.cancel(0)
    records = run.close()
    assert gave_up(records) == [] and records.requests.status.tolist() == [Status.COMPLETED]


def test_policies_that_hear_of_ends_hear_of_these_once() -> None:
    spec = instance(kv_blocks=7)
    records = serve(table(1.6, 1.0, NEVER, 0.0, **LONG), spec)
    assert gave_up(records) == [0, 1, 3]
    assert isinstance(spec.scheduler, Serves) and sorted(spec.scheduler.heard) == [0, 1, 2, 3]


def test_a_table_in_which_all_are_patient_leaves_the_records_of_one_without_the_column() -> None:
    without = RequestTable.build(np.zeros(3), np.full(3, 8), np.full(3, 20))
    one, other = serve(without), serve(table(NEVER, NEVER, 1e6))
    assert one.requests.finish_s.tolist() == other.requests.finish_s.tolist()
    assert one.counters == other.counters and one.end_s == other.end_s


class Slow:
    """Every request waits a second for a load that brings nothing."""

    def load(self, request: Request, now: float) -> Loading | None:
        return Loading(1.0)


@pytest.mark.parametrize(("patience_s", "slots"), [(0.4, 8), (1.0, 8), (1.2, 8), (1.6, 1), (2.1, 1)])
def test_one_that_waits_for_a_load_or_has_waited_gives_its_memory_back(patience_s: float, slots: int) -> None:
    """While it loads, when it is loaded, in its step, and (one sequence slot) behind another one with its memory."""
    spec = instance(loads=(Slow(),), max_seqs=slots)
    records = serve(table(NEVER, patience_s), spec)
    assert gave_up(records) == [1]
    assert records.counters["kv_blocks_in_use_at_end"] == 0


class Moves(Controller):
    """Orders the migration of row 0 as soon as it decodes."""

    interval_s = 0.25

    def act(self, cluster: ClusterControl) -> None:
        if any(decoding.row == 0 for decoding in cluster.decoding(0)):
            cluster.migrate(0, 0, 1)


@pytest.mark.parametrize("patience_s", [float(x) for x in np.arange(0.8, 6.0, 0.3)])
def test_one_on_the_move_leaves_both_instances(patience_s: float) -> None:
    """Copied while it decodes, or stopped for the last copy of 1.3 s or more: at every time, nothing stays behind."""
    two = [instance(link=LINK), instance(link=LINK)]
    cluster = ClusterSpec(router=First(), controllers=(Moves(),), migration=MigrationSpec(last_stage_blocks=3, max_stages=3))
    records = serve(table(patience_s, NEVER), *two, cluster=cluster)
    assert gave_up(records) == [0]
    assert records.moves is not None and len(records.moves.request) >= 1
    if 1.1 <= patience_s < 2.0:  # it has stopped: no request waits for a step
        assert records.moves.outcomes[records.moves.outcome[0]] == "the request ended"
        assert records.requests.finish_s[0] == patience_s


def test_the_one_behind_goes_ahead_at_the_next_step_when_the_first_in_the_queue_leaves() -> None:
    """The first to wait is too long for what is free, the one behind it would fit; the batch meanwhile repeats its step."""
    long = dataclasses.replace(table(NEVER, 1.6, NEVER), prompt_tokens=np.array([20, 36, 4]))
    records = serve(long, instance(kv_blocks=13))
    assert gave_up(records) == [1]
    assert records.requests.scheduled_s[2] == 1.75


def test_one_on_the_host_leaves_at_once_and_gives_the_host_its_room_back() -> None:
    """`check` looks at the host's blocks at the end."""
    records = serve(table(NEVER, 3.6), instance(kv_blocks=8, preemption="swap", host_kv_blocks=10))
    assert records.requests.preemptions[1] == 1 and records.counters["swapped_tokens"] > 0
    assert gave_up(records) == [1]
    assert records.requests.finish_s[1] == 3.6
