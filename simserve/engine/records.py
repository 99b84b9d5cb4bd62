"""What a run leaves behind: columns only. Metrics, tables and plots are computed from these, in `simserve.report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.engine.scaling_log import ScalingLog
from simserve.workload.requests import RequestTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Status(IntEnum):
    """How a request ended. UNFINISHED occurs only in runs cut by a time limit; CANCELLED: its client gave up."""

    UNFINISHED = 0
    COMPLETED = 1
    REJECTED = 2
    FAILED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """One entry per row of the request table, in its order. Times are seconds of simulated time, NaN where the event did not happen.

    released_s     when the request entered the system (its arrival; in a closed loop when the client sent it)
    scheduled_s    start of the first step that worked on it
    first_token_s  end of the step that produced its first output token
    finish_s       end of the step that produced its last token; for rejected and failed requests the time of that verdict,
                   for cancelled ones the time at which they had left: the client gave up then, or during the step that ended then
    status         Status
    reason         index into `reasons`; entry 0 is "" (completed normally)
    instance       instance that served it, -1 = none
    generated_tokens  output tokens produced
    preemptions    times it lost its KV or was swapped out
    recomputed_tokens  tokens computed more than once because of preemption
    cached_tokens  prompt tokens that its first admission took from a prefix cache (hits)
    reread_tokens  tokens that later admissions took from it, after a preemption or a failure: computed before, so no hits
    """

    released_s: F64
    scheduled_s: F64
    first_token_s: F64
    finish_s: F64
    status: NDArray[np.int8]
    reason: NDArray[np.int16]
    instance: NDArray[np.int32]
    generated_tokens: I64
    preemptions: I64
    recomputed_tokens: I64
    cached_tokens: I64
    reread_tokens: I64
    reasons: tuple[str, ...]


class EndedRequest(NamedTuple):
    """What has become of one request, as a sink is told when it ends: `row` of the request table, and its entries of RequestColumns."""

    row: int
    status: Status
    reason: str
    instance: int
    released_s: float
    scheduled_s: float
    first_token_s: float
    finish_s: float
    generated_tokens: int
    preemptions: int
    recomputed_tokens: int
    cached_tokens: int
    reread_tokens: int


class Span(NamedTuple):
    """A run of consecutive steps with the same plan, as it is recorded: the one list of what is kept of it. See `LaneLog`."""

    steps: int
    start_s: float
    decodes: int
    context_tokens: int
    prefill_requests: int
    prefill_tokens: int
    prefill_pairs: int
    kv_blocks: int
    waiting: int


span_bytes = Struct(f"{len(Span._fields)}d").pack
"""A span as doubles, its fields in order: an array takes bytes in half the time of numbers."""


class Decoded(NamedTuple):
    """What the decoding requests of each span computed: tokens, tokens attended by their (last) queries, and (query, key) pairs; all summed
    over the steps of the span."""

    tokens: F64
    attended: F64
    pairs: F64


@dataclass(frozen=True, slots=True)
class LaneLog:
    """The steps of one lane: one batch in flight on an instance (pp > 1 has one lane per pipeline stage; otherwise there is one lane).

    step_end_s[i]  end of step i. A step begins where the previous one ended, or later if the lane was idle (see span_start_s).
    Spans are runs of consecutive steps with the same plan; span j covers steps
    span_first_step[j] .. span_first_step[j] + span_steps[j] - 1.
    span_start_s          start time of the span's first step
    span_decode_requests  requests decoding in each step of the span
    span_context_tokens   tokens attended by their queries in the span's first step (each further step adds span_decode_requests)
    span_prefill_requests, span_prefill_tokens  chunks and new prompt tokens in the step (then span_steps is 1)
    span_prefill_pairs    (query, key) pairs of the chunks: sum of new * context + new * (new + 1) / 2
    span_kv_blocks        KV blocks in use on the instance in the last step of the span, before the requests that end with it free theirs
    span_waiting          requests in the waiting queue when the span was planned
    ticks     of an instance that speculates, one row (drafted tokens, accepted tokens, attended tokens, pairs) for each step in which
              requests decoded: sums over these; attended tokens are those of the last queries, as in span_context_tokens, pairs those
              of all queries. Without speculation, no rows
    verified  one row (span, requests, tokens, pairs) for each span in which a policy had drafted tokens verified in slices; the columns of
              prompt chunks do not count them
    layered   one row (span, group, groups) for each span whose chunks passed through one of so many groups of layers only: their tokens
              and pairs stand in each of these spans, and are computed in that of the last group
    """

    instance: int
    lane: int
    step_end_s: F64
    span_first_step: I64
    span_steps: I64
    span_start_s: F64
    span_decode_requests: I64
    span_context_tokens: I64
    span_prefill_requests: I64
    span_prefill_tokens: I64
    span_prefill_pairs: I64
    span_kv_blocks: I64
    span_waiting: I64
    layered: I64 = field(default_factory=lambda: np.empty((0, 3), dtype=np.int64))
    verified: I64 = field(default_factory=lambda: np.empty((0, 4), dtype=np.int64))
    ticks: I64 = field(default_factory=lambda: np.empty((0, 4), dtype=np.int64))

    def decoded(self) -> Decoded:
        """By span, what its decoding requests computed in all its steps."""
        n, k = self.span_decode_requests.astype(np.float64), self.span_steps.astype(np.float64)
        attended = k * self.span_context_tokens + n * k * (k - 1) / 2
        if not len(self.ticks):
            return Decoded(n * k, attended, attended)
        tokens, pairs = n * k, attended.copy()
        spans = np.flatnonzero(self.span_decode_requests > 0)
        firsts = np.cumsum(self.span_steps[spans]) - self.span_steps[spans]
        drafted, _, context, computed = np.add.reduceat(self.ticks.astype(np.float64), firsts, axis=0).T
        tokens[spans] += drafted
        attended[spans], pairs[spans] = context, computed
        return Decoded(tokens, attended, pairs)

    def drafted(self) -> I64:
        """By step: drafted and accepted tokens, (steps, 2); zeros without speculation."""
        return self._by_step()[:, :2]

    def step_context_tokens(self) -> I64:
        """By step: tokens attended by the (last) queries of the decoding requests."""
        if len(self.ticks):
            return self._by_step()[:, 2]
        first = np.repeat(self.span_first_step, self.span_steps)
        decodes = np.repeat(self.span_decode_requests, self.span_steps)
        return np.repeat(self.span_context_tokens, self.span_steps) + (np.arange(len(first)) - first) * decodes

    def _by_step(self) -> I64:
        rows = np.zeros((len(self.step_end_s), 4), dtype=np.int64)
        if len(self.ticks):
            rows[np.repeat(self.span_decode_requests > 0, self.span_steps)] = self.ticks
        return rows

    def sliced(self) -> tuple[I64, I64, I64]:
        """By span: slices, their tokens and their (query, key) pairs, of prompt chunks and drafted tokens together."""
        columns = self.span_prefill_requests, self.span_prefill_tokens, self.span_prefill_pairs
        if not len(self.verified):
            return columns
        requests, tokens, pairs = (column.copy() for column in columns)
        for column, more in zip((requests, tokens, pairs), self.verified.T[1:], strict=True):
            column[self.verified[:, 0]] += more
        return requests, tokens, pairs

    def layer_group(self) -> tuple[I64, I64]:
        """By span: the group of layers that its chunks passed through, and of how many; 0 of 1 for all layers."""
        group, groups = np.zeros_like(self.span_steps), np.ones_like(self.span_steps)
        group[self.layered[:, 0]], groups[self.layered[:, 0]] = self.layered[:, 1], self.layered[:, 2]
        return group, groups

    def computed_prefills(self) -> tuple[I64, I64, I64]:
        """Prompt chunks, their tokens and (query, key) pairs by the span in which their computation was complete."""
        columns = self.span_prefill_requests, self.span_prefill_tokens, self.span_prefill_pairs
        if not len(self.layered):
            return columns
        span, group, groups = self.layered.T
        chunks, tokens, pairs = (column.copy() for column in columns)
        on_their_way = span[group + 1 < groups]
        chunks[on_their_way] = tokens[on_their_way] = pairs[on_their_way] = 0
        return chunks, tokens, pairs

    def since(self, span: int) -> LaneLog:
        """The log from a span on; steps and spans count from there."""
        if span <= 0:
            return self
        first = int(self.span_first_step[span]) if span < len(self.span_steps) else int(self.span_steps.sum())
        decodes = int(self.span_steps[:span][self.span_decode_requests[:span] > 0].sum())
        columns: dict[str, Any] = {name: getattr(self, name)[span:] for name in SPAN_COLUMNS}
        columns["span_first_step"] = columns["span_first_step"] - first
        for name in ("layered", "verified"):
            rows = getattr(self, name)
            columns[name] = rows[rows[:, 0] >= span] - np.array([span, *[0] * (rows.shape[1] - 1)])
        return replace(self, step_end_s=self.step_end_s[first:], ticks=self.ticks[decodes:], **columns)

    def followed_by(self, later: LaneLog) -> LaneLog:
        """This log and that of the steps that come next on the lane, as one."""
        steps, spans = len(self.step_end_s), len(self.span_steps)
        columns: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(later, name)]) for name in SPAN_COLUMNS}
        columns["span_first_step"][spans:] += steps
        for name in ("layered", "verified"):
            rows = getattr(later, name)
            columns[name] = np.concatenate([getattr(self, name), rows + np.array([spans, *[0] * (rows.shape[1] - 1)])])
        return replace(
            self,
            step_end_s=np.concatenate([self.step_end_s, later.step_end_s]),
            ticks=np.concatenate([self.ticks, later.ticks]),
            **columns,
        )

    def tick_end_s(self) -> F64:
        """End times, in seconds, of the steps in which requests decoded: the clock that Emissions refers to. Increasing."""
        decodes = np.repeat(self.span_decode_requests > 0, self.span_steps)
        return self.step_end_s[decodes]


SPAN_COLUMNS = tuple(item.name for item in fields(LaneLog) if item.name.startswith("span_"))


def lanes_that_ran(lanes: Sequence[LaneLog], instances: int) -> list[list[LaneLog]]:
    """By number of the instance: its lanes, where they ran a step."""
    found: list[list[LaneLog]] = [[] for _ in range(instances)]
    for lane in lanes:
        if len(lane.span_steps):
            found[lane.instance].append(lane)
    return found


@dataclass(frozen=True, slots=True)
class Emissions:
    """When tokens appeared. A lane's *ticks* are those of its steps in which requests decoded (LaneLog.tick_end_s); every member of the
    decoding group gets one token at each tick, so a request's token times are a slice of the lane's ticks.

    Segment k belongs to `request[k]` on `lane[k]` (index into RunRecords.lanes): first the token of a finished prefill at
    `prefill_end_s[k]` (NaN when the segment has none: the request came back from swap), then one token at the end of each tick
    first_tick[k] .. last_tick[k] (none if last_tick < first_tick). Segments of one request are in order of time; a new one begins
    after a preemption or a move. Sum over a request's segments of (isfinite(prefill_end_s) + last_tick - first_tick + 1) = its
    generated tokens, bursts aside.

    bursts  one row (segment, tokens) for each step that verified drafted tokens of a request: a segment without ticks, so many tokens of
            which appeared at the end of that step, which stands in `prefill_end_s`
    """

    request: I64
    lane: I64
    prefill_end_s: F64
    first_tick: I64
    last_tick: I64
    bursts: I64 = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))

    def at_once(self) -> I64:
        """By segment: the tokens that appeared together at `prefill_end_s`."""
        tokens = np.isfinite(self.prefill_end_s).astype(np.int64)
        tokens[self.bursts[:, 0]] = self.bursts[:, 1]
        return tokens

    def of_prefill(self) -> NDArray[np.bool_]:
        """By segment: whether it begins with the end of a prefill."""
        ends = np.isfinite(self.prefill_end_s)
        ends[self.bursts[:, 0]] = False
        return ends


@dataclass(frozen=True, slots=True)
class Moves:
    """Live migrations, one entry each, in the order in which they ended.

    request, source, destination   row of the request table; numbers of instances
    start_s     when it was decided
    stop_s      when the request stopped decoding at the source; NaN if it never did
    landed_s    when the last byte had arrived; NaN unless it succeeded
    stages      copies begun
    outcome     index into `outcomes`; entry 0 is "" (it succeeded)
    """

    request: I64
    source: I64
    destination: I64
    start_s: F64
    stop_s: F64
    landed_s: F64
    stages: I64
    outcome: I64
    outcomes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """Facts of one instance, fixed over the run. `cost` is CostModel.describe(), `peak_flops_per_s` of all its devices together;
    `prefix_caching` says whether it looks prompts up in a prefix cache (it has one, and the workload tells prompts' contents)."""

    name: str
    policy: str
    devices: int
    kv_blocks: int
    block_tokens: int
    max_seqs: int
    peak_flops_per_s: float
    cost: dict[str, Any]
    prefix_caching: bool = False


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Everything a run produced. `table` holds what was asked, `requests` what happened."""

    table: RequestTable
    requests: RequestColumns
    lanes: tuple[LaneLog, ...]
    emissions: Emissions
    instances: tuple[InstanceInfo, ...]
    end_s: float
    """When the last request or step ended; of a run that was cut with requests left, the time of the cut."""
    moves: Moves | None = None
    instance_states: tuple[tuple[float, int, str], ...] = ()
    """(seconds, instance number, what it became: up, draining, booting, off), in order of time. Instances are up at time 0 if nothing else
    is said."""
    roles: tuple[tuple[float, int, str], ...] = ()
    """Changes of roles while running: (seconds, instance number, the new role), in order of time."""
    scaling: ScalingLog | None = None
    """What controllers decided, how instances started, and their nodes; None of a run in which nothing scales."""
    counters: dict[str, float] = field(default_factory=dict)
    """Totals: steps, plans, computed_tokens, attended_pairs, useful_flops, preemptions, reread_tokens, swapped_tokens,
    kv_blocks_in_use_at_end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Requests that have ended and steps that are over, since the piece before: of a run whose records leave while it goes on.

    first_row  number in the run of the first request; requests of a piece follow each other
    records    of these requests alone: rows count from 0, ticks from the first step of their lanes here, which go back as far as one of
               these requests, or one still to come, decoded. `end_s` is the time of the cut
    lanes      of each lane the steps since the piece before, each in one piece only
    known_s    requests of pieces to come were released at this time or later
    begun_s    of each lane: its steps of pieces to come begin at this time or later
    """

    first_row: int
    records: RunRecords
    lanes: tuple[LaneLog, ...]
    known_s: float
    begun_s: tuple[float, ...]
