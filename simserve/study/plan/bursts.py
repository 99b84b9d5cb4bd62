"""What bursts cost however they are scheduled: of the very requests, the fewest that must wait too long for their first token.

A prompt is work: its tokens, each at the least seconds that a prompt token takes in any step of prompts of its length alone. In the fluid
limit n instances are one that is n times as fast and never idle while work is there. Prompts that arrive within a window and are answered
within the limit L are computed within the window and L after it, so what a window brings beyond that must miss:

    sum of the work that arrived in (s, t] and is answered in time <= n (t - s + L)

The backlog of a busy period bounds all windows that begin with it. Whenever a request's backlog is above n L, some request that came since
must be given up; giving up the largest is best (Moore, Management Science 15 (1968): the fewest late jobs of one machine), and taking all
of its work off the backlog, though it may have been computed in idle time, errs on the plan's side. Decodes cost nothing here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simserve.config.experiment import Experiment
from simserve.report.metrics import ALL_CLASSES
from simserve.study.plan.offered import Offered
from simserve.study.quantities import Quantity
from simserve.workload.requests import F64

_HALVINGS = 12
"""Of the interval in which a percentile is looked for: to a four-thousandth of the longest wait, from below."""

_BY_FIRST_TOKEN = ("ttft_s", "e2e_s")
"""Limits that a first token after them breaks."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one seed: when they arrive, in order, and the seconds that one instance takes for each at least.

    outside_s  of each request's first token, spent where no instance works (network, tokenisation), at least
    """

    arrival_s: F64
    work_s: F64
    outside_s: float

    def __len__(self) -> int:
        return len(self.arrival_s)

    def longest_wait_s(self, instances: int) -> float:
        """Of the last prompt of the worst burst, in order of arrival and with none given up."""
        ahead = np.cumsum(self.work_s) - instances * self.arrival_s
        backlog = ahead - np.minimum.accumulate(ahead - self.work_s)
        return float(backlog.max()) / instances + self.outside_s

    def late(self, within_s: float, instances: int) -> int:
        """The fewest requests whose first token comes later than this."""
        most = instances * (within_s - self.outside_s)
        if self.longest_wait_s(instances) <= within_s:
            return 0
        late, backlog, last_s = 0, 0.0, -math.inf
        since: list[float] = []
        for arrival_s, work_s in zip(self.arrival_s.tolist(), self.work_s.tolist(), strict=True):
            backlog -= instances * (arrival_s - last_s)
            last_s = arrival_s
            if backlog <= 0.0:
                backlog = 0.0
                since.clear()
            backlog += work_s
            heapq.heappush(since, -work_s)
            while backlog > most and since:
                backlog += heapq.heappop(since)
                late += 1
        return late

    def percentile_s(self, fraction: float, instances: int) -> float:
        """The least that this fraction of the first tokens can come within, by the definition of percentiles (inverted_cdf)."""
        may_miss = len(self) - math.ceil(fraction * len(self))
        low, high = 0.0, self.longest_wait_s(instances)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.late(middle, instances) > may_miss:
                low = middle
            else:
                high = middle
        return low


def best_in_bursts(prompts: Sequence[Prompts], instances: int, within_s: float | None, wanted: Sequence[Quantity]) -> dict[str, float]:
    """Column -> the best mean over the seeds of `prompts`, of attainment and of percentiles of TTFT.

    within_s  what the SLO allows a first token; None = some request may take any time
    """
    best: dict[str, float] = {}
    for quantity in wanted if prompts else ():
        if quantity.slo_class != ALL_CLASSES:
            continue
        if quantity.name == "attainment" and within_s is not None:
            values = [1.0 - one.late(within_s, instances) / len(one) for one in prompts]
        elif quantity.name == "ttft" and quantity.stat[:1] == "p":
            fraction = float(quantity.stat[1:].replace("_", ".")) / 100
            values = [one.percentile_s(fraction, instances) for one in prompts]
        else:
            continue
        best[quantity.column] = sum(values) / len(values)
    return best


def first_token_within_s(experiment: Experiment, load: Offered) -> float | None:
    """The longest that the SLO of any class of the load allows a first token; None where one allows any time."""
    names = load.table.slo_class.names
    stated = experiment.spec.slo.by_class(names)
    longest = 0.0
    for code in np.unique(load.slo_class):
        of_class = stated.get(names[code], {})
        known = [value for limit in _BY_FIRST_TOKEN if (value := of_class.get(limit)) is not None]
        if not known:
            return None
        longest = max(longest, *known)
    return longest
