"""The instance whose load scores highest, found without looking at all of them.

A score of memory and requests (freeness) only falls while an instance decodes and requests queue up; it can rise only when a request
leaves, is admitted or gives up its memory. So what an instance scored when it was last looked at is the most it can score now, until one of
these happens, and only the instances at the top need a look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from simserve.contracts.cluster import Load, Score

LoadOf = Callable[[int, bool], Load]
"""The load of an instance: at this moment, or (False, which is quicker) as if no step had passed since its last plan."""

_PART = 16


class Ranking:
    """`members` by a score of their loads. `outstanding` are the counters of all instances."""

    def __init__(self, members: Sequence[int], score: Score, load: LoadOf, outstanding: list[int]) -> None:
        self._members = set(members)
        self._score = score
        self._load = load
        self._outstanding = outstanding
        self._at_most = [-math.inf] * len(outstanding)
        self._tops = [-math.inf] * (-(-len(outstanding) // _PART))
        """The highest of every so many of them: what is changed is looked for among its neighbours only."""
        self._idle = [False] * len(outstanding)
        """It was idle when it was looked at: it scores what it scored as long as it has no request."""
        self._eased = set(members)
        """Those that may have risen since they were looked at."""

    def ease(self, number: int) -> None:
        """The score of an instance may have risen."""
        if number in self._members:
            self._eased.add(number)

    def best(self) -> tuple[int, float]:
        """The instance with the highest score (ties: fewest outstanding requests, then the first) and that; (-1, -inf) without members."""
        if not self._members:
            return -1, -math.inf
        at_most, tops, outstanding, known = self._at_most, self._tops, self._outstanding, set()
        for number in self._eased:
            self._put(number, self._score(self._load(number, False)))
            self._idle[number] = not outstanding[number]
        self._eased.clear()
        while True:
            top = max(tops)
            number = at_most.index(top, tops.index(top) * _PART)
            if number not in known and (outstanding[number] or not self._idle[number]):
                own = self._score(self._load(number, True))
                known.add(number)
            else:
                own = top
            self._put(number, -math.inf)
            others = max(tops)
            self._put(number, own)
            if own > others:
                return number, own
            if own == others:
                first = [part * _PART for part, highest in enumerate(tops) if highest == own]
                tied = [n for start in first for n, most in enumerate(at_most[start : start + _PART], start) if most == own]
                unknown = [n for n in tied if n not in known and (outstanding[n] or not self._idle[n])]
                if not unknown:
                    return min(tied, key=lambda n: (outstanding[n], n)), own
                for n in unknown:
                    self._put(n, self._score(self._load(n, True)))
                known.update(unknown)

    def _put(self, number: int, score: float) -> None:
        """An instance scores at most so much now."""
        part, at_most = number // _PART, self._at_most
        before, at_most[number] = at_most[number], score
        if score >= self._tops[part]:
            self._tops[part] = score
        elif before == self._tops[part]:
            self._tops[part] = max(at_most[part * _PART : (part + 1) * _PART])
