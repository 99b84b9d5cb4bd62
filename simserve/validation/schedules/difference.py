"""Where two schedules of the same workload part: the first step whose plans are not the same, with the state of both sides."""

from __future__ import annotations

from dataclasses import dataclass, field

from simserve.validation.schedules.schedule import DIGITS, RequestSchedule, Schedule, seconds
from simserve.validation.schedules.workload import ScheduleWorkload

TOLERANCE_S = 1.5 * 10**-DIGITS
"""Times are rounded to a microsecond on both sides, so equal ones may differ by one."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side's plan of a step, and its requests once it is made.

    tokens       by row, what the step computes
    preempted    rows that it takes the KV from
    admitted     rows that it takes from the waiting queue, with the tokens that the prefix cache had of each
    running, waiting   rows that are admitted afterwards, and rows that have arrived and are not
    """

    start_s: float | None = None
    tokens: dict[int, int] = field(default_factory=dict)
    preempted: tuple[int, ...] = ()
    admitted: dict[int, int] = field(default_factory=dict)
    running: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    free_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing in which two schedules are not the same.

    about   which rule it speaks of, in a few words
    step    number of the step; None where steps are not recorded, or all are the same and only what came of them is not
    at_s    when it happened, on the side where it happened first
    row     the first request that it shows in, if it shows in one
    times   with `step` None: what happened to that request on each side
    """

    about: str
    step: int | None
    at_s: float
    row: int | None = None
    left: Side | None = None
    right: Side | None = None
    times: tuple[str, str] | None = None


def first_difference(workload: ScheduleWorkload, left: Schedule, right: Schedule) -> Difference | None:
    """None where both did the same: the same tokens to the same requests in the same steps at the same times, the same admissions with the
    same cached tokens, the same preemptions, the same ends. What only one side has recorded is not compared. Where plans are made ahead
    (asynchronous scheduling, pipeline stages), when a step starts shows in what its requests get, and is not compared itself.
    """
    if left.steps is not None and right.steps is not None and not _equal_steps(left, right):
        found = _step_difference(workload, left, right)
        if found is not None:
            return found
    return _ends_difference(workload, left, right)


def _equal_steps(left: Schedule, right: Schedule) -> bool:
    """Whether all that is recorded of steps is the same, without taking it apart."""
    same = all(
        (a.runs, a.admissions, a.preemptions) == (b.runs, b.admissions, b.preemptions)
        for a, b in zip(left.requests, right.requests, strict=True)
    )
    return same and left.steps == right.steps


class _Plans:
    """A schedule by step."""

    def __init__(self, schedule: Schedule) -> None:
        self.starts = schedule.step_starts()
        self.requests = schedule.requests
        count = len(self.starts) + 1  # what is preempted or admitted by a plan that computes nothing, at the very end
        self.tokens: list[dict[int, int]] = [{} for _ in range(count)]
        self.admitted: list[dict[int, int]] = [{} for _ in range(count)]
        self.preempted: list[list[int]] = [[] for _ in range(count)]
        for row, request in enumerate(schedule.requests):
            for first, steps, tokens in request.runs or ():
                for step in range(first, first + steps):
                    self.tokens[step][row] = tokens
            for step, cached in request.admissions or ():
                self.admitted[step][row] = cached
            for step in request.preemptions or ():
                self.preempted[step].append(row)
        self._free = schedule.free_blocks

    def free_blocks(self, step: int) -> int | None:
        for blocks, steps in self._free or ():
            if step < steps:
                return blocks
            step -= steps
        return None

    def side(self, step: int, workload: ScheduleWorkload, at_s: float) -> Side:
        """The state after the plan of a step; `at_s`: the time of it where this side has no such step."""
        there = step < len(self.starts)
        now = self.starts[step] if there else at_s
        waiting: list[int] = []
        running: list[int] = []
        for row, (asked, request) in enumerate(zip(workload.requests, self.requests, strict=True)):
            if asked.arrival_s > now or _gone(request, asked.abort_s, now):
                continue
            (running if _runs(request, step) else waiting).append(row)
        if not there:
            return Side(None, running=tuple(running), waiting=tuple(waiting))
        lists = tuple(self.preempted[step]), self.admitted[step], tuple(running), tuple(waiting)
        return Side(now, self.tokens[step], *lists, self.free_blocks(step))


def _gone(request: RequestSchedule, abort_s: float | None, now: float) -> bool:
    if request.ended == "refused":
        return True
    if request.ended == "aborted":
        return abort_s is not None and abort_s <= now
    return request.finish_s is not None and request.finish_s <= now + TOLERANCE_S


def _runs(request: RequestSchedule, step: int) -> bool:
    """Whether it runs after the plan of a step: it has been admitted more often than preempted."""
    admitted = sum(at <= step for at, _ in request.admissions or ())
    return admitted > sum(at <= step for at in request.preemptions or ())


def _step_difference(workload: ScheduleWorkload, left: Schedule, right: Schedule) -> Difference | None:
    mine, others = _Plans(left), _Plans(right)
    ahead = workload.settings.async_scheduling or workload.settings.pipeline_stages > 1
    for step in range(max(len(mine.starts), len(others.starts))):
        found = _about(mine, others, step, ahead)
        if found is not None:
            at_s = min(plans.starts[step] for plans in (mine, others) if step < len(plans.starts))
            return Difference(found[0], step, at_s, found[1], mine.side(step, workload, at_s), others.side(step, workload, at_s))
    return None


def _about(left: _Plans, right: _Plans, step: int, ahead: bool) -> tuple[str, int | None] | None:
    """What differs between the plans of a step, and the first row that shows it; None where nothing does."""
    if step >= min(len(left.starts), len(right.starts)):
        return "whether there is a further step", None
    a, b = left.preempted[step], right.preempted[step]
    if a != b:
        only = sorted(set(a) ^ set(b))
        about = "which request is preempted" if a and b else "whether a request is preempted"
        return about, only[0] if only else None
    if left.admitted[step] != right.admitted[step]:
        rows = _unlike(left.admitted[step], right.admitted[step])
        row = rows[0]
        cached = row in left.admitted[step] and row in right.admitted[step]
        return ("tokens found in the prefix cache" if cached else "which requests are admitted"), row
    if left.tokens[step] != right.tokens[step]:
        rows = _unlike(left.tokens[step], right.tokens[step])
        row = rows[0]
        ran = row in left.tokens[step] and row in right.tokens[step]
        return ("how many tokens a request gets" if ran else "which requests get tokens"), row
    if not ahead and abs(left.starts[step] - right.starts[step]) > TOLERANCE_S:
        return "when the step starts", None
    return None


def _unlike(left: dict[int, int], right: dict[int, int]) -> list[int]:
    return sorted(row for row in left.keys() | right.keys() if left.get(row) != right.get(row))


def _ends_difference(workload: ScheduleWorkload, left: Schedule, right: Schedule) -> Difference | None:
    """The first request by time whose first token or end is not the same."""
    found: list[tuple[float, int, str, str, str]] = []
    for row, (a, b) in enumerate(zip(left.requests, right.requests, strict=True)):
        for about, mine, other in (
            ("when a request's first token comes", a.first_token_s, b.first_token_s),
            ("when a request ends", a.finish_s, b.finish_s),
        ):
            if mine is None and other is None:
                continue
            if mine is None or other is None or abs(mine - other) > TOLERANCE_S:
                times = tuple("never" if s is None else seconds(s) for s in (mine, other))
                at_s = min(s for s in (mine, other) if s is not None)
                found.append((at_s, row, about, times[0], times[1]))
        if a.ended != b.ended:
            at_s = min((s for s in (a.finish_s, b.finish_s) if s is not None), default=workload.requests[row].arrival_s)
            found.append((at_s, row, "how a request ends", a.ended, b.ended))
    if not found:
        return None
    at_s, row, about, mine_said, other_said = min(found, key=lambda one: one[:2])
    return Difference(about, None, at_s, row, times=(mine_said, other_said))
