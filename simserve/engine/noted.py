"""What was noted of the tokens of requests while a run went on, and the emissions that it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts.cost import F64, I64
from simserve.engine.records import Emissions, LaneLog


class Noted(NamedTuple):
    """What was noted of the tokens of requests.

    segments       one row (request, lane, first tick, last tick) each, in the order in which they ended
    prefill_end_s  as in Emissions
    bursts         as in Emissions
    courses        segment -> tokens of each of its ticks, where that is not one
    """

    segments: I64
    prefill_end_s: F64
    bursts: I64
    courses: dict[int, I64]

    def of(self, chosen: NDArray[np.bool_]) -> Noted:
        """Those of the chosen segments."""
        bursts = self.bursts[chosen[self.bursts[:, 0]]]
        place = np.cumsum(chosen) - 1
        bursts[:, 0] = place[bursts[:, 0]]
        courses = {int(place[number]): tokens for number, tokens in self.courses.items() if chosen[number]}
        return Noted(self.segments[chosen], self.prefill_end_s[chosen], bursts, courses)

    def emissions(self, lanes: Sequence[LaneLog]) -> Emissions:
        """The same as segments alone, of one token a tick. `lanes`: as in `Recorder.emissions`."""
        if self.courses:
            return _unrolled(*self, [lane.tick_end_s() for lane in lanes])
        request, lane, first_tick, last_tick = self.segments.T
        return Emissions(request.copy(), lane.copy(), self.prefill_end_s, first_tick.copy(), last_tick.copy(), self.bursts)


def _unrolled(table: I64, prefill_end_s: F64, bursts: I64, courses: dict[int, I64], tick_end_s: Sequence[F64]) -> Emissions:
    """The segments with each tick of those that have courses as a burst: after one for the token of a finished prefill, if there is one."""
    numbers = np.array(list(courses), dtype=np.int64)  # rising: they were noted as the segments ended
    begins = np.zeros(len(table), dtype=np.bool_)
    begins[numbers] = np.isfinite(prefill_end_s[numbers])
    pieces = np.ones(len(table), dtype=np.int64)
    pieces[numbers] = np.array([len(tokens) for tokens in courses.values()], dtype=np.int64) + begins[numbers]
    whole = np.ones(len(table), dtype=np.bool_)
    whole[numbers] = False
    place = np.cumsum(pieces) - pieces  # of the first piece of each segment
    request, lane = np.repeat(table[:, 0], pieces), np.repeat(table[:, 1], pieces)
    tick = np.repeat(table[:, 2] - begins - place, pieces)
    tick += np.arange(len(tick))
    if len(tick_end_s) == 1:
        times_s = np.take(tick_end_s[0], tick, mode="clip")
    else:
        times_s = np.empty(len(tick))
        for number, end_s in enumerate(tick_end_s):
            here = lane == number
            times_s[here] = np.take(end_s, tick[here], mode="clip") if len(end_s) else np.nan
    known = whole | begins  # their first piece is no tick
    times_s[place[known]], tick[place[known]] = prefill_end_s[known], table[known, 2]
    last_tick = tick - 1
    last_tick[place[whole]] = table[whole, 3]
    emitted = np.ones(len(tick), dtype=np.bool_)
    emitted[place[known]] = False
    piece = np.flatnonzero(emitted)
    both = np.empty((len(bursts) + len(piece), 2), dtype=np.int64)
    both[: len(piece), 0], both[: len(piece), 1] = piece, np.concatenate(list(courses.values()))
    if len(bursts):
        both[len(piece) :, 0], both[len(piece) :, 1] = place[bursts[:, 0]], bursts[:, 1]
        both = both[np.argsort(both[:, 0], kind="stable")]
    return Emissions(request, lane, times_s, tick, last_tick, both)
