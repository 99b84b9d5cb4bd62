"""Finding the highest rate at which something holds: doubling or halving until it is bracketed, then bisection."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["found", "never", "always"]

MAX_DOUBLINGS = 24


@dataclass(slots=True)
class Search:
    """One search. Ask `next_rate`, probe there, `tell` what was found, until there is no next rate.

    start      the first rate to try
    tolerance  stop when the bracket is this narrow, as a fraction of its lower end
    whole      rates are whole numbers (clients of a closed loop)
    low        highest rate seen to hold; high: lowest seen to fail
    outcome    None while searching
    """

    start: float
    tolerance: float
    whole: bool = False
    low: float | None = None
    high: float | None = None
    outcome: Outcome | None = None
    _steps: int = field(default=0)

    def next_rate(self) -> float | None:
        """Where to probe; None when the search has ended."""
        if self.outcome is not None:
            return None
        if self.low is None and self.high is None:
            return self._round(self.start)
        if self.high is None:
            assert self.low is not None
            return self._round(2 * self.low)
        if self.low is None:
            return self._round(self.high / 2)
        return self._round(math.sqrt(self.low * self.high))

    def tell(self, rate: float, holds: bool, at_an_end: bool) -> None:
        """What a probe found. `at_an_end`: going further the same way changes nothing (no request shares the system, or all do)."""
        self._steps += 1
        if holds:
            self.low = rate
        else:
            self.high = rate
        if self.low is not None and self.high is not None:
            gap = self.high - self.low
            if gap <= self.tolerance * self.low or (self.whole and gap <= 1):
                self.outcome = "found"
        elif at_an_end or self._steps > MAX_DOUBLINGS or (self.whole and not holds and rate <= 1):
            self.outcome = "always" if holds else "never"

    def _round(self, rate: float) -> float:
        if not self.whole:
            return float(f"{rate:.6g}")  # the rate that is printed is the one that was run
        if self.low is not None and self.high is not None:
            return float(min(max(round(rate), self.low + 1), self.high - 1))
        return float(max(1, round(rate)))
