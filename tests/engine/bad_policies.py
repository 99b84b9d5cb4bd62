"""Bad policies as test instruments: legal ones that serve users badly, and one outlaw per rule.

The legal ones must not break an invariant, whatever they do to latency. The outlaws must be refused with a PolicyError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from numpy.random import PCG64, Generator

from simserve.contracts import SchedulerParams


class NoParams(SchedulerParams):
    """Nothing to set."""


class Bad:
    """What all of them share: no parameters, and `calls` made so far."""

    Params: ClassVar[Any] = NoParams
    oracle: ClassVar[bool] = False

    def __init__(self) -> None:
        self.calls = 0

    def plan(self, view: Any) -> Any:
        self.calls += 1
        return self.choose(view, view.new_plan())

    def choose(self, view: Any, plan: Any) -> Any:
        raise NotImplementedError


def _admit_in_order(view: Any, plan: Any) -> None:
    for r in list(view.waiting):
        if not plan.admit(r):
            return
        plan.prefill(r, r.prefill_left)


class PreemptOldest(Bad):
    """Throws out the oldest running request as soon as two run: no request decodes twice in peace."""

    def choose(self, view: Any, plan: Any) -> Any:
        if len(view.decoding) > 1:
            plan.preempt(min(view.decoding, key=lambda r: r.admission))
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        _admit_in_order(view, plan)
        return plan


class ReversePriority(Bad):
    """The last comer first, the head of the queue last."""

    def choose(self, view: Any, plan: Any) -> Any:
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        for r in reversed(list(view.waiting)):
            if plan.admit(r):
                plan.prefill(r, r.prefill_left)
        return plan


class OneAtATime(Bad):
    """One request in the whole instance, its prompt one token per step."""

    def choose(self, view: Any, plan: Any) -> Any:
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        elif view.prefilling:
            plan.prefill(view.prefilling[0], 1)
        elif len(view.waiting):
            r = next(iter(view.waiting))
            assert plan.admit(r)
            plan.prefill(r, 1)
        return plan.hold()


class GreedyStarver(Bad):
    """Prefills as long as anything at all fits, the longest prompt first; decodes wait for a quiet moment."""

    def choose(self, view: Any, plan: Any) -> Any:
        for r in sorted(view.waiting, key=lambda r: -r.prompt_tokens):
            if plan.admit(r):
                plan.prefill(r, r.prefill_left)
        if not plan.slices:
            plan.decode(view.decoding)
        return plan.hold(ignore_arrivals=False)


class OverReserver(Bad):
    """Reserves more blocks than the prompt needs, fewer than the request will: what it holds too much must not be lost."""

    def choose(self, view: Any, plan: Any) -> Any:
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        for r in list(view.waiting):
            if not (plan.admit(r, r.prefill_left + 3 * view.kv.block_tokens) or plan.admit(r)):
                break
            plan.prefill(r, r.prefill_left)
        return plan.hold()


class RandomLegal(Bad):
    """Anything legal, by the roll of a die: decodes or not, chunks of any size, admits any request, preempts at whim.

    It never says `hold`, so it is asked at every step and its dice fall the same with spans on and off.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = Generator(PCG64(seed))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def choose(self, view: Any, plan: Any) -> Any:
        if self.chance(0.15) and view.running > 1:
            running = [*view.decoding, *view.prefilling]
            plan.preempt(running[int(self.rng.integers(len(running)))])
        if self.chance(0.8) and (len(view.decoding) or view.swapped):
            plan.decode(view.decoding)
        for r in list(view.prefilling):
            if self.chance(0.7):
                c = int(self.rng.integers(1, r.prefill_left + 1))
                if plan.grow(r, r.computed_tokens + c):
                    plan.prefill(r, c)
        for r in list(view.waiting):
            if self.chance(0.5):
                c = int(self.rng.integers(1, r.prefill_left + 1))
                if plan.admit(r, c + int(self.rng.integers(0, 9))):
                    plan.prefill(r, c)
        if not plan.decodes and not plan.slices:
            self.something(view, plan)
        return plan

    def something(self, view: Any, plan: Any) -> None:
        """The dice said nothing at all, which is not allowed: decode, else prefill (making room if need be), else admit."""
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        while not plan.decodes and not plan.slices and view.prefilling:
            oldest = view.prefilling[0]
            if plan.grow(oldest, oldest.computed_tokens + 1):
                plan.prefill(oldest, 1)
            else:
                plan.preempt(view.prefilling[-1])
        if not plan.decodes and not plan.slices:
            for r in list(view.waiting):
                if plan.admit(r):
                    plan.prefill(r, r.prefill_left)


class WrongRepeat(Bad):
    """Says that its plan will stay the same, and plans otherwise the next time it is asked (it admits at every third call only)."""

    def choose(self, view: Any, plan: Any) -> Any:
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        if self.calls % 3 == 0 or not plan.decodes:
            _admit_in_order(view, plan)
        return plan.hold()


LEGAL: dict[str, Callable[[], Bad]] = {
    "preempt-oldest": PreemptOldest,
    "reverse-priority": ReversePriority,
    "one-at-a-time": OneAtATime,
    "greedy-starver": GreedyStarver,
    "over-reserver": OverReserver,
    "random-legal-1": lambda: RandomLegal(1),
    "random-legal-2": lambda: RandomLegal(2),
    "wrong-repeat": WrongRepeat,
}
"""The bad but legal policies by name, as makers of a fresh one."""
