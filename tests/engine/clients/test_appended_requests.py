"""A client of the contracts: requests that come while the run goes on, and records that leave it as they are made."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import ClusterControl, Controller, InstanceView, Scheduler, StepPlan
from simserve.engine import ClusterSpec, EndedRequest, InstanceSpec, LiveRun, simulate
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import Failures
from simserve.workload.joining import joined
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable, Workload
from tests.engine.test_cluster_random import clusters
from tests.reference.toy_cost import RoundCost


class Serves(Scheduler):
    """Whole prompts as soon as they fit, then one token for all."""

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


def instance(**options: Any) -> InstanceSpec:
    return InstanceSpec("i", Serves(), RoundCost(), 1000, block_tokens=4, **options)


def table(arrival_s: list[float], output_tokens: int = 5, **columns: Any) -> RequestTable:
    rows = len(arrival_s)
    return RequestTable.build(np.array(arrival_s), np.full(rows, 8), np.full(rows, output_tokens), **columns)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Every number of the records, by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for number, item in enumerate(value):
            yield from leaves(item, f"{name}[{number}]")
    else:
        yield name, str(value.dtype).encode() + value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def same(one: RunRecords, other: RunRecords) -> list[str]:
    """Names of what differs."""
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    return [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]


def pieces_of(whole: RequestTable, cuts: list[int]) -> Iterator[tuple[RequestTable, Any, Any]]:
    """The table cut at some rows, with the columns that name rows of the whole."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(whole)}), len(whole)]
    for start, end in pairwise(bounds):
        rows = np.arange(start, end)
        attempts: Any = whole.column("attempt_of")
        yield whole.take(rows), whole.after[rows], None if attempts is None else attempts[rows]


def appended(load: Workload, specs: list[InstanceSpec], cluster: ClusterSpec, cuts: list[int], early: list[float]) -> RunRecords:
    """The requests of a workload, in pieces, each at some time between the arrivals before and after the cut."""
    whole = load.requests
    run = LiveRun(
        specs,
        cluster,
        max_concurrency=load.max_concurrency,
        think_s=load.think_s,
        prefix_block_tokens=0 if whole.prefix is None else whole.prefix.block_tokens,
    )
    for number, (piece, after, attempts) in enumerate(pieces_of(whole, cuts)):
        first_s = float(piece.arrival_s[after < 0][0])
        run.advance(run.now + (first_s - run.now) * early[number % len(early)])
        run.append(piece, after=after, attempt_of=attempts)
    return run.close()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    case=clusters(),
    cuts=st.lists(st.integers(1, 13), max_size=4),
    early=st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=1, max_size=3),
    most=st.sampled_from([None, None, 2]),
)
def test_the_same_requests_in_pieces_leave_the_same_records(case: Any, cuts: list[int], early: list[float], most: int | None) -> None:
    load, specs, cluster = case
    load = dataclasses.replace(load, concurrency=None, max_concurrency=most, think_s=0.3 if most else 0.0)
    at_once = simulate(load, *copied(specs, cluster))
    assert same(at_once, appended(load, specs, cluster, cuts, early)) == []


def copied(specs: list[InstanceSpec], cluster: ClusterSpec) -> tuple[list[InstanceSpec], ClusterSpec]:
    """Policies that have seen nothing."""
    return [dataclasses.replace(spec, scheduler=copy.deepcopy(spec.scheduler)) for spec in specs], copy.deepcopy(cluster)


def test_a_request_may_follow_one_of_an_earlier_piece_that_has_ended_or_not() -> None:
    whole = table([0.0, 3.0, 50.0, 70.0], after=np.array([-1, -1, 0, 0]))
    at_once = simulate(Workload(whole), [instance()])
    run = LiveRun([instance()])
    run.append(whole.take(np.arange(2)))
    assert run.advance(40.0) == 2, "both have ended"
    assert list(run.append(table([50.0, 70.0]), after=np.array([0, 0]))) == [2, 3]
    assert same(at_once, run.close()) == []


def test_what_comes_too_late_or_names_what_is_not_there_is_refused_and_changes_nothing() -> None:
    run = LiveRun([instance()])
    run.append(table([0.0, 5.0]))
    run.advance(20.0)
    for late in (table([4.0]), table([19.9])):
        with pytest.raises(ValueError, match="arrives at"):
            run.append(late)
    with pytest.raises(ValueError, match="too late"):
        run.append(table([0.1]), after=np.array([0]))
    with pytest.raises(ValueError, match="earlier row"):
        run.append(table([30.0]), after=np.array([2]))
    with pytest.raises(ValueError, match="no row 2"):
        run.cancel(2)
    with pytest.raises(ValueError, match="goes on"):
        run.advance(19.0)
    assert len(run) == 2
    records = run.close()
    assert len(records.table) == 2 and (records.requests.status == Status.COMPLETED).all()
    with pytest.raises(ValueError, match="closed"):
        run.append(table([30.0]))


def test_contents_are_shared_across_pieces() -> None:
    from tests.engine.cluster_world import contents

    def of(ids: list[int], arrival_s: float) -> RequestTable:
        return table([arrival_s], prefix=contents([ids]))

    run = LiveRun([instance(prefix_caching=True)], prefix_block_tokens=4)
    run.append(of([1, 2], 0.0))
    run.advance(30.0)
    run.append(of([1, 9], 30.0))  # begins alike
    run.append(of([7, 2], 31.0))  # repeats a block after another beginning
    records = run.close()
    assert records.requests.cached_tokens.tolist() == [0, 4, 0]
    with pytest.raises(ValueError, match="blocks of 4 tokens"):
        LiveRun([instance(prefix_caching=True)], prefix_block_tokens=8).append(of([1], 0.0))


def test_whose_contents_they_are_and_what_was_answered_is_told_across_pieces() -> None:
    """Four turns, each a piece: one that repeats the answer, two under a salt, one of a new column."""
    turns = [([1, 2, 3, 4], "", None), ([1, 2, 3, 4, 5], "", None), ([1, 2, 3], "b", None), ([1, 2, 3], "b", "x")]
    pieces = []
    for number, (ids, salt, adapter) in enumerate(turns):
        prefix = PrefixBlocks(np.array([0, len(ids)]), np.array(ids), 4, outputs=True)
        named = {"salt": Labels.of([salt])} | ({} if adapter is None else {"adapter": Labels.of([adapter])})
        arrival, prompt, output = np.array([30.0 * number]), np.array([4 * len(ids) - 4]), np.array([9])
        pieces.append(RequestTable.build(arrival, prompt, output, prefix=prefix, **named))
    run = LiveRun([instance(prefix_caching=True)], prefix_block_tokens=4, prefix_outputs=True)
    for piece in pieces:
        run.advance(float(piece.arrival_s[0]))
        run.append(piece)
    records = run.close()
    assert records.requests.cached_tokens.tolist() == [0, 12, 0, 0]
    at_once = simulate(Workload(joined(pieces)), [instance(prefix_caching=True)])
    assert same(at_once, records) == []


class Watches(Controller):
    """Notes how many requests are there at every tick."""

    interval_s = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, int]] = []

    def act(self, cluster: ClusterControl) -> None:
        load = cluster.load(0)
        self.seen.append((cluster.now, load.running + load.waiting))


def test_an_arrival_keeps_its_place_among_what_happens_at_the_same_time() -> None:
    """The second is scheduled when the first has come, before the tick of the same instant: also if it is appended later."""
    at_once, in_pieces = Watches(), Watches()
    simulate(Workload(table([0.5, 2.0], output_tokens=20)), [instance()], ClusterSpec(controllers=(at_once,)))
    run = LiveRun([instance()], ClusterSpec(controllers=(in_pieces,)))
    run.append(table([0.5], output_tokens=20))
    run.advance(1.5)
    run.append(table([2.0], output_tokens=20))
    run.close()
    assert in_pieces.seen == at_once.seen
    assert (2.0, 2) in at_once.seen


def test_a_run_that_waits_for_more_is_not_stuck() -> None:
    """An idle instance dies and comes back thousands of times before the next request: as if it were known to come."""
    failures = Failures((), 1.0, 0.01, "resume", 1)
    at_once = simulate(Workload(table([0.0, 3000.0])), [instance()], ClusterSpec(failures=failures))
    run = LiveRun([instance()], ClusterSpec(failures=failures))
    run.append(table([0.0]))
    run.advance(2999.0)
    run.append(table([3000.0]))
    assert same(at_once, run.close()) == []
    assert at_once.counters["instance_failures"] > 2000


def test_a_sink_hears_each_request_once_in_the_order_in_which_they_end() -> None:
    heard: list[EndedRequest] = []
    whole = table([0.0, 0.25, 0.25, 1.0], patience_s=np.array([np.nan, 0.5, np.nan, np.nan]))
    whole = dataclasses.replace(whole, output_tokens=np.array([9, 9, 2, 0]))
    records = simulate(Workload(whole), [instance()], sink=heard.append)
    r = records.requests
    assert sorted(one.row for one in heard) == [0, 1, 2, 3]
    assert [one.finish_s for one in heard] == sorted(r.finish_s.tolist())
    assert {one.row: one.status.name for one in heard} == {0: "COMPLETED", 1: "CANCELLED", 2: "COMPLETED", 3: "FAILED"}
    for one in heard:
        assert one.reason == r.reasons[r.reason[one.row]]
        for name in ("released_s", "finish_s", "generated_tokens", "instance"):
            assert getattr(one, name) == getattr(r, name)[one.row]


def test_an_error_of_the_sink_ends_the_run_with_it() -> None:
    def full(one: EndedRequest) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        simulate(Workload(table([0.0])), [instance()], sink=full)


def test_a_client_that_reacts_appends_from_its_sink() -> None:
    """Each answer is followed by the next question, three in all, a second later: the same as a table that says so."""
    run: LiveRun

    def asks_again(one: EndedRequest) -> None:
        if one.row < 2:
            run.append(table([1.0]), after=np.array([one.row]))

    run = LiveRun([instance()], sink=asks_again)
    run.append(table([0.0]))
    records = run.close()
    assert records.table.after.tolist() == [-1, 0, 1]
    assert same(simulate(Workload(table([0.0, 1.0, 1.0], after=np.array([-1, 0, 1]))), [instance()]), records) == []


def test_a_retry_is_another_row_that_names_the_first_attempt() -> None:
    run: LiveRun

    def retries(one: EndedRequest) -> None:
        if one.status is Status.CANCELLED:
            run.append(table([2.0], patience_s=np.array([60.0])), after=np.array([one.row]), attempt_of=np.array([0]))

    run = LiveRun([instance()], sink=retries)
    run.append(table([0.0], patience_s=np.array([0.5])))
    records = run.close()
    attempts: Any = records.table.column("attempt_of")
    assert attempts.tolist() == [-1, 0]
    assert records.requests.status.tolist() == [Status.CANCELLED, Status.COMPLETED]
    assert records.requests.released_s[1] == records.requests.finish_s[0] + 2.0
