"""Steps of a pipeline's lanes worked out ahead, as long as each lane would be planned as before (see `Pipeline`).

Which lane starts when follows from when the stages are free and when the steps before have left the last one: the same additions and
comparisons as in `Pipeline`, in the same order, without plans and events in between. So the times are the same to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
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

LONGEST_SPAN_STEPS = 4096

FIRST_ROWS, MOST_ROWS = 4, 1024
"""Steps of a lane that are priced together: as many as have been, at least and at most so many."""

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
        "_lanes",
        "_leaver",
        "_left",
        "_numbers",
        "_order",
        "_priced",
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
        self._lanes = lanes
        self._free_s = list(stage_free_s)
        turns = [place for place in [*range(next_lane, len(lanes)), *range(next_lane)] if lanes[place].plan.decodes]
        self._order = turns
        """Lanes in the order in which they start, again and again: the one that has waited longest."""
        self.more = turns[len(turns) - len(flight) :] == self.lanes and len(set(self.ends_s)) == len(flight)
        self._leaver = leaver
        self._ticks = [lane.group.tick + lane.busy for lane in lanes]
        self._growth = [lane.group.growth for lane in lanes]
        self._left = [_steps_alike(lane) - 1 for lane in lanes]
        """Of each lane, steps whose end is nothing but the end of a step."""
        self._rows: list[list[Row]] = [[] for _ in lanes]
        """Of each lane, the times on each stage of the steps that come next, the next one last."""
        self._priced = [int(lane.busy) for lane in lanes]
        """Of each lane, steps that are priced: from the last plan on, or from the one after it."""
        for lane in lanes:
            if lane.plan.decodes and not lane.busy:
                lane.plan.seal()
        self._numbers = [lane.steps_dropped + len(lane.step_end_s) - lane.busy for lane in lanes]

    def go_on(self, before_s: float) -> bool:
        """Works more steps out; False when there are none. Something happens at `before_s`, inf = it is not known when."""
        before = len(self.by)
        if self.more:
            self._work_out(max(FIRST_STEPS, 2 * before) if before_s == inf else before + LONGEST_SPAN_STEPS, before_s)
        return len(self.by) > before

    def _work_out(self, most: int, before_s: float) -> None:
        lanes, left, ticks, growth, rows, free = self._lanes, self._left, self._ticks, self._growth, self._rows, self._free_s
        starts_s, ends_s, who, by, used_at, taken = self.starts_s, self.ends_s, self.lanes, self.by, self.used, self.taken
        size, room, order, working = lanes[0].group.block_tokens, lanes[0].kv._free, self._order, len(self._order)
        ended, begun, leaver = len(used_at), len(taken), self._leaver
        used = taken[-1] if taken else 0
        turn, last = begun % working, begun + self.flying - working
        while True:
            lane = order[turn]
            free_s = free[0]
            # It starts when its step before has left the last stage, and the step of the lane before it the first one.
            ready_s = ends_s[last] if last >= 0 else -1.0
            own = ready_s >= free_s
            now, place = (ready_s, lane) if own else (free_s, leaver)
            while (
                ended < len(ends_s)
                and (end := ends_s[ended]) <= now
                and (end < now or who[ended] < place or (not own and who[ended] == place))
            ):
                if not left[who[ended]]:
                    self.until_s, self.priority, self.more = end, who[ended], False
                    break
                left[who[ended]] -= 1
                ended += 1
                used_at.append(used)
            if not self.more:
                break
            need, priced = growth[lane][ticks[lane] % size], rows[lane]
            if begun >= most or now >= before_s:
                self.until_s, self.priority = now, place
                break
            if (own and not left[lane]) or used + need > room or (not priced and not self._price(lane)):
                self.until_s, self.priority, self.more = now, place, False
                break
            row = priced.pop()
            end, after = now, []
            for stage_free_s, stage_s in zip(free, row):  # noqa: B905 (as long as each other: `_price`)
                end = (stage_free_s if stage_free_s > end else end) + stage_s
                after.append(end)
            # A stage that takes no time: what comes first is not to be seen here. Or it takes a time that is none.
            if not ends_s[-1] < end < inf or after[0] <= now:
                self.until_s, self.priority, self.more = now, place, False
                break
            if own:
                left[lane] -= 1
                ended += 1
                used_at.append(used)
            free = after
            used += need
            ticks[lane] += 1
            begun += 1
            last += 1
            turn = turn + 1 if turn + 1 < working else 0
            starts_s.append(now)
            ends_s.append(end)
            who.append(lane)
            by.append(place)
            taken.append(used)
            self.free_s.append(free)
            leaver = lane
        self._free_s, self._leaver = free, leaver

    def _price(self, place: int) -> bool:
        """Asks for the times of more steps of a lane; False where the cost model gives what is none."""
        lane, done = self._lanes[place], self._priced[place]
        steps = max(FIRST_ROWS, min(done, MOST_ROWS))
        rows: Any = priced_ahead(lane.cost)(lane.plan.after(done), steps)
        if isinstance(rows, np.ndarray):
            rows = rows.tolist()
        if len(rows) != steps or set(map(len, rows)) != {len(self._free_s)} or not min(map(min, rows)) >= 0:
            return False
        if lane.jitter is not None:
            firsts: Any = lane.jitter.several([row[0] for row in rows], self._numbers[place] + done, lane.plan.decodes)
            firsts = firsts.tolist() if isinstance(firsts, np.ndarray) else firsts
            rows = [(first_s, *row[1:]) for first_s, row in zip(firsts, rows, strict=True)]
        self._priced[place] += steps
        self._rows[place].extend(reversed(rows))
        return True

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
        own: list[list[int]] = [[] for _ in self._lanes]
        for number in range(ended):
            own[who[number]].append(number)
        for number in range(first, first + begun):
            lane = self._lanes[who[number]]
            lane.step_end_s.append(self.ends_s[number])
            lane.held_steps -= 1
        starts_s, blocks = self.starts_s, self.used
        for lane, numbers in zip(self._lanes, own, strict=True):
            lane.busy = False
            if numbers:
                decodes, waiting = lane.plan.decodes, lane.plan.waiting
                context = lane.group.context_tokens()
                contexts = range(context, context + decodes * len(numbers), decodes)
                steps = [
                    span_bytes(1, starts_s[number], decodes, tokens, 0, 0, 0, used + blocks[number], waiting)
                    for number, tokens in zip(numbers, contexts, strict=True)
                ]
                lane.log.frombytes(b"".join(steps))
                lane.group.tick += len(numbers)
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


def priced_ahead(cost: CostModel) -> Callable[[Step, int], Any]:
    """What prices a run of decode-only steps on all stages: the model's own method, unless a subclass has changed `stage_times` alone."""
    for kind in type(cost).__mro__:
        if "stage_decode_times" in vars(kind):
            return cost.stage_decode_times
        if "stage_times" in vars(kind):
            break
    return lambda step, steps: [cost.stage_times(step.after(i)) for i in range(steps)]
