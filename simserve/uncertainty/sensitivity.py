"""How much a run's figures move when every step takes a little longer, from its own records.

A step that takes f times as long makes a closed loop's latencies f times as long. Where the load is given it does more: a batch grows with
the time its requests stay, and waiting grows without bound towards the capacity. Both follow from what the steps were made of (`work`):

  batches  with a fixed time a per step and a fraction r of the time spent on tokens, a step takes a / (1 - r) seconds (requests come as
           fast as they leave), so f times slower steps take f a / (1 - f r), up to the step of a full batch
  waiting  the recursion of Lindley (1952) over the run's own releases, each with its time at full batches:
           wait' = max(0, wait + f work - gap). Bursts, ramps and the end of the run are in it. Where sequence slots are what fills up, as
           many requests wait as meet full slots: the number in service is normal around its mean, with the variance of Poisson's law
           stretched like the batch, since every one that is there slows the others. Prompts wait for one another as well: the same
           recursion over their time alone

Figures are compared at f = 1.1 and 1 / 1.1: near capacity they are not straight, and a tenth is the size of the error that is asked about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simserve.engine.records import F64, RunRecords, Status
from simserve.uncertainty.work import Work, work_of

STRETCH = 1.1
"""By how much steps are stretched and shortened: about the error of a step that a fitted run has (docs/serving-accuracy.md)."""

CURVE = (-1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0)
"""Where the curve of waiting is known: steps from a third to three times as long."""

_BY_ANSWERS = 0.5
"""From this fraction of requests that are sent when another one has ended, the load is a closed loop's."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """By how many per cent figures move when steps take one per cent longer.

    queueing, ttft, tpot, e2e  latencies, means
    rate     requests and tokens a second: 0 where the load is given, -1 where devices decide
    load     work at full batches over the time in which requests came; None in closed loops and where all come at once
    waiting  fraction of TTFT that is waiting beyond the request path and what is left of the step in progress
    calm     of what else a first token takes
    waits    mean seconds of that waiting where ln of the time of steps is larger by so much: (difference, seconds), () = none
    """

    queueing: float = 1.0
    ttft: float = 1.0
    tpot: float = 1.0
    e2e: float = 1.0
    rate: float = -1.0
    load: float | None = None
    waiting: float = 0.0
    calm: float = 1.0
    waits: tuple[tuple[float, float], ...] = ()


def sensitivity_of(records: RunRecords) -> Sensitivity:
    """Of a run with at least one completed request; all figures move like steps where there is none."""
    r = records.requests
    done = (r.status == Status.COMPLETED) & np.isfinite(r.first_token_s) & np.isfinite(r.scheduled_s)
    works = [work for work in work_of(records) if work is not None]
    if not done.any() or not works:
        return Sensitivity()
    released = r.released_s[done]
    begun = r.released_s[np.isfinite(r.scheduled_s) & np.isfinite(r.released_s)]  # a run that is cut has worked for more than it completed
    period_s = float(begun.max() - begun.min())
    by_answers = float((r.released_s[done] > records.table.arrival_s[done] + 1e-9).mean())
    if period_s <= 0 or by_answers > _BY_ANSWERS:
        return Sensitivity()
    ttft, e2e = float((r.first_token_s[done] - released).mean()), float((r.finish_s[done] - released).mean())
    queueing = float((r.scheduled_s[done] - released).mean())
    taking_in = [work for work in works if work.computed > 0] or works
    waits = r.scheduled_s[done] - released
    on_the_way = float(waits.min())  # the request path: no request is seen sooner
    waiting = max(queueing - on_the_way - float(np.mean([work.residual_s for work in taking_in])), 0.0)
    load = max(work.at_full_batches_s for work in works) / period_s
    queue = _Queue.of(records, done, taking_in)
    span_s = max(records.end_s, period_s)
    batch = _BatchGrowth(works, span_s, load)
    serving = float((r.finish_s[done] - r.scheduled_s[done]).sum()) / period_s / len(taking_in)
    slots = float(np.mean([work.slots for work in taking_in])) if all(work.by_slots for work in taking_in) else 0.0

    prompts = _Queue.of(records, done, taking_in, prompts=True)

    def wait_s(f: float) -> float:
        taken = 1.0 if load * f >= 1.0 or not slots else _all_taken(serving * batch(f), slots, batch.slope(f))
        return queue.wait(f) * taken + (1.0 - taken) * prompts.wait(f)

    now_s = wait_s(1.0)
    up, down = (max(waiting + wait_s(f) - now_s, 0.0) for f in (STRETCH, 1.0 / STRETCH))
    waits = tuple((log, max(waiting + wait_s(math.exp(log)) - now_s, 0.0)) for log in CURVE)
    tpot = _elasticity(batch(STRETCH), batch(1.0 / STRETCH))

    def queued(f: float, wait: float) -> float:
        return on_the_way + max(queueing - on_the_way - waiting, 0.0) * batch(f) + wait

    def first(f: float, wait: float) -> float:
        return queued(f, wait) + (ttft - queueing) * f

    def whole(f: float, wait: float) -> float:
        return first(f, wait) + max(e2e - ttft, 0.0) * batch(f)

    rest_s = float(np.nanmax(r.finish_s[done]) - released.min()) - queue.end(1.0)
    ends = [queue.end(f) + rest_s * f for f in (STRETCH, 1.0 / STRETCH)]
    return Sensitivity(
        queueing=_elasticity(queued(STRETCH, up), queued(1.0 / STRETCH, down)),
        ttft=_elasticity(first(STRETCH, up), first(1.0 / STRETCH, down)),
        tpot=tpot,
        e2e=_elasticity(whole(STRETCH, up), whole(1.0 / STRETCH, down)),
        rate=-max(min(_elasticity(ends[0], ends[1]), 1.0), 0.0) if min(ends) > 0 else -1.0,
        load=load,
        waiting=waiting / ttft if ttft > 0 else 0.0,
        calm=_elasticity(first(STRETCH, 0.0), first(1.0 / STRETCH, 0.0)),
        waits=waits,
    )


def first_token_s(s: Sensitivity, value_s: float, mean_s: float, log: float, tail: bool) -> float:
    """Seconds of a first token (its mean, or a percentile) where ln of the time of steps is larger by `log`.

    What a percentile exceeds the calm part of the mean by is waiting. The mean wait adds to it; to a tail twice that, since an overload's
    waits grow from nothing through the run.
    """
    if not s.waits:
        return value_s * math.exp(s.ttft * log)
    logs, seconds = zip(*s.waits, strict=True)
    more_s = float(np.interp(log, logs, seconds)) - float(np.interp(0.0, logs, seconds))
    calm_s = min(mean_s * (1.0 - s.waiting), value_s)
    return calm_s * math.exp(s.calm * log) + max(value_s - calm_s + (2.0 if tail else 1.0) * more_s, 0.0)


def _elasticity(up: float, down: float) -> float:
    return math.log(up / down) / (2.0 * math.log(STRETCH)) if up > 0 and down > 0 else 1.0


def _all_taken(serving: float, slots: float, stretched: float) -> float:
    """Probability that so many slots are taken where `serving` are served on average, with a variance of that times `stretched`."""
    return 0.5 * math.erfc((slots - serving) / math.sqrt(2.0 * max(serving * stretched, 1e-9))) if math.isfinite(slots) else 0.0


class _BatchGrowth:
    """The factor on the time of a decode step when all steps take f times as long, batches growing up to those of the capacity."""

    def __init__(self, works: list[Work], span_s: float, load: float) -> None:
        decoding = [work for work in works if work.decoded > 0] or works
        self._busy = float(np.mean([min(work.marginal_s / span_s, 0.99) for work in decoding]))
        self._load = load

    def _step(self, f: float) -> float:
        most = min(self._busy / min(self._load, 1.0), 0.99)
        return f / (1.0 - min(f * self._busy * max(self._load, 1.0), most))

    def __call__(self, f: float) -> float:
        return self._step(f) / self._step(1.0)

    def slope(self, f: float) -> float:
        """By how many per cent a step grows with a per cent of work, below the capacity."""
        return 1.0 / (1.0 - min(f * self._busy, 0.99))


class _Queue:
    """The run's requests through one server: releases in order, and the seconds of work of each."""

    def __init__(self, released: F64, work: F64) -> None:
        self._released, self._work = released - released[0], work

    @staticmethod
    def of(records: RunRecords, done: F64, works: list[Work], prompts: bool = False) -> _Queue:
        """The time at full batches of the busiest of these instances, dealt to requests by their tokens as these cost on average; of
        `prompts` alone, as a part of the time that decoding leaves."""
        order = np.argsort(records.requests.released_s[done], kind="stable")
        decoded, computed = (max(sum(getattr(w, name) for w in works), 1e-12) for name in ("decoded", "computed"))
        decode_s = sum((w.decode_s + w.step_s / w.slots) * w.decoded for w in works) / decoded
        prompt_s = sum((w.prompt_s + w.step_s / w.chunk) * w.computed for w in works) / computed
        tokens = records.requests.generated_tokens[done][order] * (0.0 if prompts else decode_s)
        tokens = tokens + np.maximum(records.table.prompt_tokens[done] - records.requests.cached_tokens[done], 0)[order] * prompt_s
        whole, total_s = float(tokens.sum()), max(work.at_full_batches_s for work in works)
        if prompts:
            total_s = max(work.prompt_s * work.computed / work.lanes for work in works)
        return _Queue(records.requests.released_s[done][order], tokens * (total_s / whole) if whole > 0 else tokens)

    def _waits(self, f: float) -> F64:
        gaps = np.diff(self._released)
        walk = np.concatenate([[0.0], np.cumsum(f * self._work[:-1] - gaps)])
        waits: F64 = walk - np.minimum.accumulate(walk)
        return waits

    def wait(self, f: float) -> float:
        """Mean seconds before a request's turn."""
        return float(self._waits(f).mean())

    def end(self, f: float) -> float:
        """Seconds from the first release to the end of the work."""
        return float((self._released + self._waits(f) + f * self._work).max())
