"""`--check`: the invariants of docs/invariants.md verified while a run goes on and on what it leaves behind."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from simserve.engine.check_nodes import check_scaling
from simserve.engine.guard import guard
from simserve.engine.kv_cache import KvCache
from simserve.engine.lane import Lane
from simserve.engine.pieces import Pieces, in_pieces
from simserve.engine.records import I64, LaneLog, Piece, RequestColumns, RunRecords, Status
from simserve.engine.request import State
from simserve.engine.simulate import DIED, Progress, Simulation, Sink
from simserve.engine.spec import ClusterSpec, InstanceSpec
from simserve.engine.speculating_group import SpeculatingGroup
from simserve.errors import InvariantError
from simserve.workload.requests import Workload


def simulate_checked(
    workload: Workload,
    specs: Sequence[InstanceSpec],
    cluster: ClusterSpec,
    *,
    fast_forward: bool,
    until_s: float | None,
    progress: Progress | None,
    sink: Sink | None = None,
    pieces: Pieces | None = None,
    piece_requests: int = 0,
) -> RunRecords:
    """Runs with audits after every span, runs again the other way (spans on / off), and checks the records. Raises InvariantError.

    In `pieces` each of them is checked, and of both runs the bytes of requests and steps; I5 and I9 are about all requests at once and are
    left out.
    """
    state = [(spec.scheduler, spec.loads) for spec in specs]
    twins = [replace(spec, scheduler=policy, loads=loads) for spec, (policy, loads) in zip(specs, copy.deepcopy(state), strict=True)]
    twin_cluster = copy.deepcopy(cluster)
    checked = None if pieces is None else CheckedPieces(pieces)
    if checked is None:
        simulation: Simulation = CheckedSimulation(workload, specs, cluster, fast_forward, progress, sink)
    else:
        how = {"fast_forward": fast_forward, "progress": progress, "sink": sink}
        simulation = in_pieces(CheckedSimulation, workload, specs, cluster, checked, piece_requests, **how)
    for instance in simulation.instances:
        instance.checked = True
    guard(simulation)
    records = simulation.run(until_s)
    if checked is None:
        other = Simulation(workload, twins, twin_cluster, not fast_forward).run(until_s)
        same_records(records, other)
    else:
        digests = CheckedPieces(None)
        twin = in_pieces(Simulation, workload, twins, twin_cluster, digests, piece_requests, fast_forward=not fast_forward)
        twin.run(until_s)
        _require(checked.digests() == digests.digests(), "I7", "requests or step times differ between fast-forward on and off")
    away = any(spec.request_s or spec.request_per_prompt_token_s or spec.request_delay_s for spec in specs)
    outside = away or any(spec.loads for spec in specs) or bool(records.instance_states)
    outside = outside or any(instance.postponed for instance in simulation.instances) or simulation.cluster.has_held
    if checked is None:
        check_records(records, finished=until_s is None, outside=outside)
    elif until_s is None:
        checked.finish(records)
    check_scaling(records)
    if until_s is None:
        for instance in simulation.instances:
            _require(
                instance.kv.free_blocks == instance.kv.total_blocks and instance.kv.host_free_blocks == instance.kv.host_total_blocks,
                "I3",
                f"{instance.spec.name} ends with {instance.kv.used_blocks} KV blocks in use",
            )
    return records


class CheckedSimulation(Simulation):
    """A run that recounts after every span what instances keep as totals."""

    def span_ended(self, lane: Lane) -> None:
        """Raises InvariantError when something does not add up."""
        audit(lane)


def audit(lane: Lane) -> None:
    """Recounts, after a span of `lane`, what its instance keeps as running totals: blocks, contexts, sequence slots, places of requests."""
    instance = lane.instance
    kv, name = instance.kv, instance.spec.name
    held, host = sum(kv.elsewhere.values()), 0
    held += kv.prefix.blocks_in_use if kv.prefix is not None else 0
    for request in (*instance.loads.requests(), *instance.intake.waiting):  # waiting requests have blocks after a load only
        held += kv.owned(request) - kv.shared_blocks(request)
    seen = {request.row for request in instance.loads.requests()}
    for other in instance.lanes:
        one = other.batch
        group = one.group
        ahead = 1 if other is not lane and other.busy and other.decodes_now else 0
        if one.speculating is not None:
            held += _speculating(name, one.speculating, kv, ahead)
        for request in () if one.speculating is not None else group:
            blocks, owned = request.held_blocks, kv.owned(request)
            if request.grows:
                tokens = request.base_computed + group.tick + ahead
                blocks, owned = kv.table(tokens), kv.blocks(tokens, decodes=True)
            held += owned - kv.shared_blocks(request)
            _require(request.state is State.DECODING, "I3", f"{request!r} decodes on {name}")
            _require(
                blocks * kv.block_tokens >= request.base_computed + group.tick, "I3", f"{request!r} has more tokens than blocks on {name}"
            )
        for request in one.prefilling:
            held += kv.owned(request) - kv.shared_blocks(request)
            _require(request.state is State.PREFILLING, "I3", f"{request!r} prefills on {name}")
        for request in one.verifying:
            held += kv.owned(request) - kv.shared_blocks(request)
            _require(request.state is State.VERIFYING, "I3", f"{request!r} verifies on {name}")
            _require(
                request.held_blocks * kv.block_tokens >= request.computed_tokens, "I3", f"{request!r} has more tokens than blocks on {name}"
            )
        held += sum(kv.owned(request) - kv.shared_blocks(request) for request in one.lingering)
        for request in one.landed:
            held += kv.owned(request) - kv.shared_blocks(request)
            _require(
                request.held_blocks * kv.block_tokens >= request.computed_tokens, "I3", f"{request!r} has more tokens than blocks on {name}"
            )
        for request in one.swapped:
            host += kv.owned(request)
            _require(request.state is State.SWAPPED, "I3", f"{request!r} is swapped out of {name}")
        places = [r.row for r in [*group, *one.prefilling, *one.verifying, *one.swapped, *one.landed]]
        _require(len(set(places)) == len(places) and not seen & set(places), "I3", f"a request is in two places of {name}")
        seen.update(places)
        _require(one.running <= instance.spec.max_seqs, "I10", f"{name} runs more than {instance.spec.max_seqs} requests")
        if one.speculating is not None:
            continue
        bases = [r.base_computed for r in group]
        _require(group.sum_base == sum(bases), "I2", f"the context total of {name} has drifted")
        known = group._longest_base
        longest = group.longest_tokens()
        group._longest_base = known  # asking must not repair what it has forgotten
        _require(longest == max((b + group.tick + 1 for b in bases), default=0), "I2", f"the longest context of {name} has drifted")
        _require(
            sum(group.growth) == sum(group.growth_of(r) for r in group if r.grows), "I3", f"the growth histogram of {name} has drifted"
        )
    _require(held == kv.total_blocks - kv.free_blocks, "I3", f"{name}: requests hold {held} KV blocks, {kv.used_blocks} are in use")
    _require(kv.adds_up(), "I3", f"{name}: {kv.used_blocks} KV blocks in use and {kv.free_blocks} free are not {kv.total_blocks}")
    _require(0 <= kv.free_blocks <= kv.total_blocks, "I3", f"{name} has {kv.free_blocks} of {kv.total_blocks} KV blocks free")
    _require(host == kv.host_total_blocks - kv.host_free_blocks, "I3", f"{name}: swapped requests hold {host} host blocks")


def _speculating(name: str, group: SpeculatingGroup, kv: KvCache, ahead: int) -> int:
    """Recounts a group that speculates. Returns the blocks that its members hold, without what they share."""
    held = 0
    for request in group:
        blocks = group.held_blocks(request, ahead)
        held += kv.blocks(blocks * kv.block_tokens, decodes=True) - kv.shared_blocks(request)
        _require(request.state is State.DECODING, "I3", f"{request!r} decodes on {name}")
        _require(blocks * kv.block_tokens >= group.computed_tokens(request), "I3", f"{request!r} has more tokens than blocks on {name}")
    kept, recounted = group.totals(), group.recounted()
    _require(kept[:-1] == recounted[:-1], "I2", f"what the group of {name} drafts, accepts, attends and holds has drifted")
    _require(kept[-1] in (None, recounted[-1]), "I2", f"the longest context of {name} has drifted")
    return held


def same_records(one: RunRecords, other: RunRecords) -> None:
    """I7: the same run with and without spans leaves identical request columns and step times."""
    for field in fields(RequestColumns):
        a, b = getattr(one.requests, field.name), getattr(other.requests, field.name)
        same = a == b if isinstance(a, tuple) else np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        _require(same, "I7", f"requests.{field.name} differs between fast-forward on and off")
    for a, b in zip(one.lanes, other.lanes, strict=True):
        _require(
            np.array_equal(a.step_end_s, b.step_end_s),
            "I7",
            f"the step times of instance {a.instance} differ between fast-forward on and off",
        )
        # Steps with prompts are recorded one by one, those of decodes as the spans that they were planned in.
        for name in (field.name for field in fields(LaneLog) if field.name.startswith("span_")):
            found = [getattr(lane, name)[lane.span_prefill_requests > 0] for lane in (a, b)]
            what = f"{name} of the steps with prompts of instance {a.instance}"
            _require(np.array_equal(*found), "I7", f"{what} differs between fast-forward on and off")
    _require(one.scaling == other.scaling, "I7", "the scaling log differs between fast-forward on and off")


def check_records(records: RunRecords, finished: bool, outside: bool = False) -> None:
    """I1, I2, I4, I5 and I9 on the columns of a run. `finished` = it was not cut by a time limit; `outside` = requests spend time outside
    batches though there is room: on their way to an instance, held by a router or while none serves, loading, or postponed by a policy. An
    instance may then well be idle (I5 is not checked)."""
    table, r = records.table, records.requests
    status = r.status
    done = status == Status.COMPLETED
    if finished:
        _require(bool((status != Status.UNFINISHED).all()), "I1", f"{int((status == Status.UNFINISHED).sum())} requests never ended")
        _require(bool(np.isfinite(r.finish_s).all()), "I1", "a request ended at no time")
    refused = (status == Status.REJECTED) | (status == Status.FAILED)
    _require(bool((r.reason[refused] > 0).all()), "I1", "a request was refused without a reason")
    cancelled = status == Status.CANCELLED
    _require(bool((r.reason[cancelled] > 0).all()), "I1", "a request was cancelled without a reason")
    _require(bool((r.generated_tokens <= table.output_tokens).all()), "I1", "a request has more tokens than were asked")
    unserved = np.setdiff1d(np.flatnonzero(refused), _lost(r))
    _require(bool((r.generated_tokens[unserved] == 0).all()), "I1", "a refused request has generated tokens")
    whole = done & (r.reason == 0)
    _require(bool((r.generated_tokens[whole] == table.output_tokens[whole]).all()), "I2", "a completed request lacks tokens")
    e = records.emissions
    emitted = np.bincount(e.request, weights=e.at_once() + (e.last_tick - e.first_tick + 1), minlength=len(table))
    _require(bool((emitted == r.generated_tokens).all()), "I2", "tokens emitted differ from tokens generated")
    if finished:
        check_computed(asked_tokens(records), records)
    for early, late, what in (
        (r.released_s, r.scheduled_s, "scheduled before its release"),
        (r.scheduled_s, r.first_token_s, "has its first token before it was scheduled"),
        (r.first_token_s, r.finish_s, "finished before its first token"),
        (r.released_s, r.finish_s, "finished before its release"),
    ):
        _require(not bool((late < early).any()), "I4", f"a request {what}")
    for lane in records.lanes:
        _require(bool((np.diff(lane.step_end_s) > 0).all()), "I4", f"the steps of instance {lane.instance} are not in order of time")
    _drafts_add_up(records, finished and "void_burst_tokens" not in records.counters)
    if finished and len(records.lanes) == 1 and not outside:
        _never_idle_with_work(records.lanes[0], r)
    if finished:
        _littles_law(r, done)


def _lost(r: RequestColumns) -> I64:
    """Places of requests that were served in vain."""
    died = r.reason == (r.reasons.index(DIED) if DIED in r.reasons else -1)
    return np.flatnonzero((r.status == Status.FAILED) | (died & (r.status == Status.REJECTED)))


def asked_tokens(records: RunRecords) -> int:
    """Tokens that these requests should have computed on these lanes, but for those that the run counts as a whole."""
    table, r = records.table, records.requests
    done, cancelled = r.status == Status.COMPLETED, r.status == Status.CANCELLED
    # Of a request whose instance died, or that a policy has refused after it was served, everything computed counts as recomputed.
    again = r.recomputed_tokens - r.cached_tokens - r.reread_tokens
    asked = (np.maximum(table.prompt_tokens, 1) + r.generated_tokens - 1 + again)[done].sum() + again[_lost(r)].sum()
    # Drafted in vain. Accepted tokens of a request that was started over are among those recomputed.
    asked += sum(int(lane.verified[:, 2].sum()) for lane in records.lanes) - int(records.emissions.bursts[:, 1].sum())
    asked += sum(int(lane.decoded().tokens.sum()) for lane in records.lanes if len(lane.ticks))
    return int(asked + again[cancelled].sum())


def check_computed(asked: int, records: RunRecords) -> None:
    """I2: what requests should have computed is what was computed. Of those whose clients gave up: what they had in memory then, and what
    they had lost before."""
    noted = records.counters
    asked += int(noted.get("cancelled_tokens", 0) + noted.get("overrun_tokens", 0) - noted.get("void_burst_tokens", 0))
    computed = int(noted["computed_tokens"])
    _require(asked == computed, "I2", f"{computed} tokens computed, {asked} asked")


class CheckedPieces:
    """Checks the pieces of a run and keeps digests of them; `pieces` None keeps the digests only."""

    def __init__(self, pieces: Pieces | None) -> None:
        self._pieces = pieces
        self._asked = 0
        self._digests: dict[str, Any] = {}

    def __call__(self, piece: Piece) -> None:
        """The next piece."""
        for field in fields(RequestColumns):
            if field.name != "reasons":
                self._digest(field.name, getattr(piece.records.requests, field.name))
        for number, lane in enumerate(piece.lanes):
            self._digest(f"lane {number}", lane.step_end_s)
        if self._pieces is not None:
            check_records(piece.records, finished=False)
            self._asked += asked_tokens(replace(piece.records, lanes=piece.lanes))
            self._pieces(piece)

    def _digest(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self._digests.setdefault(name, hashlib.sha256()).update(values.tobytes())

    def digests(self) -> dict[str, str]:
        """Of the columns of all requests so far, and of the step times of each lane."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def finish(self, records: RunRecords) -> None:
        """The run is over, and none of it was cut: `records` of it as a whole."""
        check_computed(self._asked, records)


def _drafts_add_up(records: RunRecords, complete: bool) -> None:
    """I2 step by step where requests speculate: what is noted of a step is what its requests had got before and got in it. `complete` =
    the records have every token that was emitted; otherwise a step has at least those that they have."""
    e, prompts = records.emissions, np.maximum(records.table.prompt_tokens, 1)
    if not any(len(lane.ticks) for lane in records.lanes):
        return
    tokens = e.at_once() + e.last_tick - e.first_tick + 1
    order = np.argsort(e.request, kind="stable")
    before = np.cumsum(tokens[order]) - tokens[order]
    begins = np.searchsorted(e.request[order], e.request[order])
    cached = np.empty_like(tokens)
    cached[order] = prompts[e.request[order]] + before - before[begins] - 1
    for number, lane in enumerate(records.lanes):
        if not len(lane.ticks):
            continue
        ends, name = lane.tick_end_s(), records.instances[lane.instance].name
        part = e.bursts[e.lane[e.bursts[:, 0]] == number, 0]
        part = part[e.first_tick[part] < len(ends)]
        part = part[ends[e.first_tick[part]] == e.prefill_end_s[part]]
        decodes = np.repeat(lane.span_decode_requests, lane.span_steps)
        decodes = decodes[decodes > 0]
        drafted, accepted, attended, pairs = lane.ticks.T
        _require(len(decodes) == len(ends) == len(lane.ticks), "I2", f"the decode steps of {name} are {len(ends)}, noted {len(lane.ticks)}")
        _require(bool(((accepted >= 0) & (accepted <= drafted)).all()), "I2", f"a step of {name} accepts more tokens than it drafts")
        found = [
            np.bincount(e.first_tick[part], each, len(ends)).astype(np.int64) for each in (np.ones(len(part)), tokens[part], cached[part])
        ]
        noted = [decodes, decodes + accepted, attended - drafted - decodes]
        for what, one, other in zip(("requests decode", "tokens are emitted", "tokens are cached"), found, noted, strict=True):
            wrong = one != other if complete else one > other
            tick = int(np.argmax(wrong))
            _require(not wrong.any(), "I2", f"{one[tick]} {what} at tick {tick} of {name}, {other[tick]} are noted")
        lone = (1 + drafted) * (2 + drafted) // 2
        alone = decodes == 1
        _require(
            bool((pairs[alone] == ((attended - drafted - 1) * (1 + drafted) + lone)[alone]).all() and (pairs >= attended).all()),
            "I2",
            f"the (query, key) pairs of a step of {name} are not those of its contexts",
        )


def _never_idle_with_work(lane: LaneLog, r: RequestColumns) -> None:
    """I5 for one instance with one lane: between spans it waits only while no request is in the system."""
    if not len(lane.span_steps):
        return
    ends = lane.step_end_s[lane.span_first_step + lane.span_steps - 1]
    gap = lane.span_start_s[1:] > ends[:-1]
    served = r.finish_s > r.released_s
    released, finish = np.sort(r.released_s[served]), np.sort(r.finish_s[served])
    inside = np.searchsorted(released, lane.span_start_s[1:][gap], "left") - np.searchsorted(finish, ends[:-1][gap], "right")
    _require(not bool((inside > 0).any()), "I5", f"instance {lane.instance} idles while {int(inside.max(initial=0))} requests wait")


def _littles_law(r: RequestColumns, done: np.ndarray[Any, Any]) -> None:
    """I9: the time integral of the number in the system equals the sum of the times in the system."""
    released, finish = r.released_s[done], r.finish_s[done]
    times = np.concatenate([released, finish])
    change = np.concatenate([np.ones(len(released)), -np.ones(len(finish))])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(change[order])
    area = float((inside[:-1] * np.diff(times[order])).sum())
    spent = float((finish - released).sum())
    _require(
        abs(area - spent) <= 1e-6 * max(1.0, spent), "I9", f"Little's law: {area} request-seconds in the system, {spent} spent by requests"
    )


def _require(holds: bool, rule: str, message: str) -> None:
    if not holds:
        raise InvariantError(f"invariant {rule} is broken: {message}")
