"""Steps of a pipeline's lanes worked out ahead, as long as each lane would be planned as before (see `Pipeline`).

Which lane starts when follows from when the stages are free and when the steps before have left the last one: the same additions and
comparisons as in `Pipeline`, in the same order, without plans and events in between. So the times are the same to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.contracts import CostModel, Step
from simserve.engine.clock import Clock
from simserve.engine.records import span_bytes
from simserve.errors import InvariantError

if TYPE_CHECKING:
    from simserve.engine.lane import Lane

FIRST_STEPS = 16
"""Worked out at first, and as many as there are already each time that these have passed: of those that are in vain when something happens
there are no more than of the others, or 16."""

FIRST_ROWS, MOST_ROWS = 4, 1024
"""Steps of a lane that are priced together: at first, and at most."""

Row = Sequence[float]


class StageSpan:
    """Steps of all lanes of a pipeline in the order in which they start, which is that in which they leave the last stage: first those that
    are in flight already (`flying`), then those that start while the span goes on.

    starts_s, ends_s, lanes   of each step: when it starts and ends, and the index of its lane
    by        of each step that starts in the span, the index of the lane whose event starts it: its own step's end, or that it has left
              the first stage
    used      of each step that ends in the span: KV blocks that steps of the span have taken by then
    taken     of each step that starts in the span: blocks that it and those before it have taken
    free_s    of each step that starts in the span: when each stage is free again
    until_s, priority   what comes next and is not worked out: its time, and the index of the lane that it is an event of
    more      whether it could be worked out
    """

    __slots__ = (
        "_free_s",
        "_growth",
        "_idle",
        "_lanes",
        "_leaver",
        "_left",
        "_next_lane",
        "_rows",
        "_ticks",
        "by",
        "ends_s",
        "flying",
        "free_s",
        "lanes",
        "more",
        "priority",
        "starts_s",
        "taken",
        "until_s",
        "used",
    )

    def __init__(self, lanes: list[Lane], stage_free_s: list[float], next_lane: int, leaver: int) -> None:
        """`leaver` is the index of the lane whose step leaves the first stage at `stage_free_s[0]`, -1 when that is over."""
        flight = sorted([(lane.step_end_s[-1], lane.index) for lane in lanes if lane.busy])
        self.ends_s: list[float] = [end_s for end_s, _ in flight]
        self.lanes: list[int] = [place for _, place in flight]
        self.starts_s: list[float] = [lanes[place].plan.start_s for place in self.lanes]
        self.flying = len(flight)
        self.by: list[int] = []
        self.used: list[int] = []
        self.taken: list[int] = []
        self.free_s: list[list[float]] = []
        self.until_s = inf
        self.priority = 0
        self.more = len(set(self.ends_s)) == len(flight)
        self._lanes = lanes
        self._free_s = list(stage_free_s)
        self._next_lane = next_lane
        self._leaver = leaver
        self._idle = [lane.plan.decodes > 0 and not lane.busy for lane in lanes]
        self._ticks = [lane.group.tick + lane.busy for lane in lanes]
        self._growth = [lane.group.growth for lane in lanes]
        self._left = [_steps_alike(lane) - 1 for lane in lanes]
        """Of each lane, steps whose end is nothing but the end of a step."""
        self._rows = [_rows(lane, left + 1 - lane.busy) for lane, left in zip(lanes, self._left, strict=True)]

    def go_on(self) -> bool:
        """Works more steps out; False when there are none."""
        before = len(self.by)
        if self.more:
            self._work_out(max(FIRST_STEPS, 2 * before))
        return len(self.by) > before

    def _work_out(self, most: int) -> None:
        lanes, left, ticks, growth, rows, idle, free = (
            self._lanes,
            self._left,
            self._ticks,
            self._growth,
            self._rows,
            self._idle,
            self._free_s,
        )
        ends_s, who, used_at, taken = self.ends_s, self.lanes, self.used, self.taken
        count, size, room = len(lanes), lanes[0].group.block_tokens, lanes[0].kv._free
        next_lane, leaver, ended, begun = self._next_lane, self._leaver, len(used_at), len(taken)
        used = taken[-1] if taken else 0
        while True:
            now, place = ends_s[ended], who[ended]
            leaves = leaver < 0 or now < free[0] or (now == free[0] and place <= leaver)
            if leaves:
                if not left[place]:
                    self.more = False
                    break
                if free[0] > now:
                    ended += 1
                    left[place] -= 1
                    idle[place] = True
                    used_at.append(used)
                    continue
            else:
                now, place = free[0], leaver
            chosen = next_lane
            while not idle[chosen] and not (leaves and chosen == place):
                chosen = chosen + 1 if chosen + 1 < count else 0
                if chosen == next_lane:
                    chosen = -1
                    break
            if chosen < 0:
                leaver = -1
                continue
            if begun >= most:
                break
            need = growth[chosen][ticks[chosen] % size]
            row = next(rows[chosen], None) if used + need <= room else None
            if row is None:
                self.more = False
                break
            end, free_s = now, []
            for stage_free_s, stage_s in zip(free, row):  # noqa: B905 (as long as each other: `_rows`)
                end = (stage_free_s if stage_free_s > end else end) + stage_s
                free_s.append(end)
            if end <= ends_s[-1] or free_s[0] <= now:  # a stage that takes no time: what comes first is not to be seen here
                self.more = False
                break
            if leaves:
                ended += 1
                left[place] -= 1
                idle[place] = True
                used_at.append(used)
            idle[chosen] = False
            free = free_s
            used += need
            ticks[chosen] += 1
            begun += 1
            self.starts_s.append(now)
            ends_s.append(end)
            who.append(chosen)
            self.by.append(place)
            taken.append(used)
            self.free_s.append(free)
            next_lane, leaver = (chosen + 1) % count, chosen
        self._free_s, self._next_lane, self._leaver = free, next_lane, leaver
        self.until_s, self.priority = now, place

    def passed(self, clock: Clock) -> tuple[int, int]:
        """How many of its steps have ended by now, and how many have started in it."""
        now, lanes = clock.now, self._lanes
        ended, begun = bisect_left(self.ends_s, now, 0, len(self.used)), bisect_left(self.starts_s, now, self.flying) - self.flying
        while ended < len(self.used) and self.ends_s[ended] == now and clock.has_passed(lanes[self.lanes[ended]].priority):
            ended += 1
        while begun < len(self.by) and self.starts_s[self.flying + begun] == now and clock.has_passed(lanes[self.by[begun]].priority):
            begun += 1
        return ended, begun

    def note(self, ended: int, begun: int) -> None:
        """Writes down that the first `ended` of its steps have ended, and that so many have started in it."""
        kv, who, first = self._lanes[0].kv, self.lanes, self.flying
        used = kv._used
        if begun and not kv.take(self.taken[begun - 1]):
            raise InvariantError(f"invariant I3 is broken: {begun} steps of a pipeline have taken more KV blocks than were free")
        plans, groups, logs = (
            [lane.plan for lane in self._lanes],
            [lane.group for lane in self._lanes],
            [lane.log for lane in self._lanes],
        )
        noted = [0] * len(plans)
        for number in range(ended):
            place = who[number]
            plan, group = plans[place], groups[place]
            decodes = plan.decodes
            context = group.sum_base + decodes * (group.tick + 1 + noted[place])
            noted[place] += 1
            blocks = used + self.used[number]
            logs[place].frombytes(span_bytes(1, self.starts_s[number], decodes, context, 0, 0, 0, blocks, plan.waiting))
        for number in range(first, first + begun):
            lane = self._lanes[who[number]]
            lane.step_end_s.append(self.ends_s[number])
            lane.held_steps -= 1
        for lane, over in zip(self._lanes, noted, strict=True):
            lane.group.tick += over
            lane.busy = False
        for number in range(ended, first + begun):
            lane = self._lanes[who[number]]
            lane.busy = True
            lane.plan.start_s = self.starts_s[number]
            lane.plan.seal()


def worthwhile(lanes: list[Lane]) -> bool:
    """Whether so many steps of lanes whose plans hold can come before something happens that working them out is less than taking them."""
    working = [_steps_alike(lane) - 1 for lane in lanes if lane.plan.decodes]
    return bool(working) and min(working) * len(working) >= len(lanes)


def _steps_alike(lane: Lane) -> int:
    """Steps of a lane, the one in progress included, up to one whose end is more than that."""
    if not lane.plan.decodes:
        return 1
    steps, held = lane.group.steps_to_next_change(), lane.held_steps + lane.busy
    return steps if steps < held else held


def _rows(lane: Lane, steps: int) -> Iterator[Row]:
    """Times on each stage of the coming steps of a lane, one step after the other, up to `steps`."""
    if not lane.plan.decodes or steps < 1:
        return iter(())
    if not lane.busy:
        lane.plan.seal()
    return _priced(lane, int(lane.busy), len(lane.step_end_s), steps)


def _priced(lane: Lane, first: int, number: int, steps: int) -> Iterator[Row]:
    """The same, from the `first` after the plan in hand on, which is step `number` of the lane. It ends where the cost model gives what is
    no time."""
    price, many, stages = priced_ahead(lane.cost), FIRST_ROWS, lane.cost.stages
    done = 0
    while done < steps:
        many = min(many, steps - done)
        rows: Any = price(lane.plan.after(first + done), many)
        if isinstance(rows, np.ndarray):
            rows = rows.tolist()
        if lane.jitter is not None:
            firsts: Any = lane.jitter.several([row[0] for row in rows], number + done, lane.plan.decodes)
            firsts = firsts.tolist() if isinstance(firsts, np.ndarray) else firsts
            rows = [(first_s, *row[1:]) for first_s, row in zip(firsts, rows, strict=True)]
        if len(rows) != many:
            return
        for row in rows:
            if len(row) != stages or not min(row) >= 0 or not 0 < sum(row) < inf:
                return
            yield row
        done += many
        many = min(2 * many, MOST_ROWS)


def priced_ahead(cost: CostModel) -> Callable[[Step, int], Any]:
    """What prices a run of decode-only steps on all stages: the model's own method, unless a subclass has changed `stage_times` alone."""
    for kind in type(cost).__mro__:
        if "stage_decode_times" in vars(kind):
            return cost.stage_decode_times
        if "stage_times" in vars(kind):
            break
    return lambda step, steps: [cost.stage_times(step.after(i)) for i in range(steps)]
