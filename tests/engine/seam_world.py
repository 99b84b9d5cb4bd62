"""Policies, loads, acceptances, costs and controllers for runs in which everything new meets everything else.

What a scheduler here does follows from its view alone, or it states nothing about the steps to come: then spans may change nothing (I7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.contracts import (
    PREFILL,
    VERIFY,
    ClusterControl,
    ClusterView,
    CostModel,
    CostWrapper,
    Field,
    InstanceView,
    Loading,
    Refusal,
    Request,
    Scheduler,
    SchedulerParams,
    State,
    Step,
    StepPlan,
)


class Seams(CostWrapper):
    """Prices drafted tokens of slices like a prompt's, those of decodes and passes of the draft by the piece, on so many pipeline stages of
    equal time."""

    def __init__(self, inner: CostModel, stages: int = 1) -> None:
        super().__init__(inner)
        self.slice_kinds = frozenset({PREFILL, VERIFY})
        self._stages = stages

    @property
    def stages(self) -> int:
        return self._stages

    def stage_times(self, step: Step) -> tuple[float, ...]:
        whole = self.inner.step_time(step) + step.drafted_tokens / 16 + step.draft_passes / 64
        return (whole,) if self._stages == 1 else (whole / self._stages,) * self._stages


class Drafting(Scheduler):
    """Decodes with drafts in some stretches of time and without in others, beside chunks of prompts; sometimes it waits for a time."""

    class Params(SchedulerParams):
        k: int = Field(3, ge=0, description="Tokens drafted for each request.")
        budget: int = Field(32, gt=0, description="Most tokens of a step.")
        stretch_s: float = Field(1.0, gt=0, description="Length of a stretch of time.")
        drafts: int = Field(2, ge=0, description="Stretches out of three in which it drafts.")
        whole: bool = Field(True, description="A newcomer reserves all it has to prefill, or its first chunk.")
        evict: bool = Field(False, description="Preempts the last verifying request when memory is short for drafts.")
        lingers: bool = Field(False, description="Waits for the next stretch before it serves an idle instance's newcomers.")
        held: bool = Field(True, description="States how long its plans hold.")

    hears_ends = True

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.heard: list[int] = []

    def ended(self, requests: Any, now: float) -> None:
        self.heard.extend(request.row for request in requests)

    def plan(self, view: InstanceView) -> StepPlan:
        p = self.params
        plan = view.new_plan(budget=p.budget)
        turn = int(view.now / p.stretch_s)
        turn += ((turn + 1) * p.stretch_s <= view.now) - (turn * p.stretch_s > view.now)  # whatever the division rounds to
        next_s = (turn + 1) * p.stretch_s
        if p.lingers and turn % 3 == 2 and not view.running and not view.swapped:
            return plan.hold(until_s=next_s)
        drafted = p.k if turn % 3 < p.drafts else 0
        for request in [*view.verifying, *view.decoding] if drafted else []:
            if drafted + 1 > plan.budget_left:
                break
            if request.state not in (State.DECODING, State.VERIFYING):  # preempted for another's drafts
                continue
            if not plan.verify(request, drafted) and p.evict and len(view.verifying) > 1:
                last = view.verifying[-1]
                if all(piece.row != last.row for piece in plan.slices):
                    plan.preempt(last)
        plan.decode(view.decoding)
        for request in tuple(view.prefilling):
            tokens = min(request.prefill_left, plan.budget_left)
            if tokens > 0 and plan.grow(request, request.computed_tokens + tokens):
                plan.prefill(request, tokens)
        for request in view.waiting:
            if plan.budget_left <= 0:
                break
            tokens = min(request.prefill_left - plan.cached_tokens(request), plan.budget_left)
            reserve = request.target_tokens if p.whole else request.target_tokens - request.prefill_left + tokens
            if not plan.admit(request, reserve if p.whole or not plan.cached_tokens(request) else None):
                break
            tokens = min(request.prefill_left, plan.budget_left)
            if plan.grow(request, request.computed_tokens + tokens):
                plan.prefill(request, tokens)
        if not plan.decodes and not plan.slices and view.prefilling and not plan.preempted:
            plan.preempt(view.prefilling[-1])  # prompts that hold each other's memory
        # A plan of nothing that states a time would be asked again for ever where loaded requests keep memory from each other.
        return plan.hold(until_s=next_s, ignore_arrivals=False) if p.held and (plan.decodes or plan.slices) else plan


@dataclass(frozen=True)
class Accepts:
    """A number of drafted tokens that follows from the request and its place; `all_of` them, or none."""

    which: str = "some"

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        return {"some": (7 * row + 3 * generated_tokens) % (drafted + 1), "all": drafted, "none": 0}[self.which]


class Tier:
    """KV of some requests comes from elsewhere, all of it or a part; each row waits for a time of its own."""

    def __init__(self, every: int, seconds: float, fraction: float) -> None:
        self.every, self.seconds, self.fraction = every, seconds, fraction

    def load(self, request: Request, now: float) -> Loading | None:
        if request.row % self.every:
            return None
        return Loading(self.seconds * (1 + request.row % 3), int(request.prompt_tokens * self.fraction))


class Adapters:
    """An adapter is loaded when it is first needed, and again when it has not been needed for a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.there_s: dict[Any, float] = {}

    def load(self, request: Request, now: float) -> Loading | None:
        name = request.column("adapter")
        if name is None:
            return None
        there_s = self.there_s.setdefault(name, now + self.seconds)
        return Loading(there_s - now) if there_s > now else None


class Hesitating:
    """A router around another that holds requests while every open instance has so many, and refuses very long ones."""

    def __init__(self, inner: Any, most: int, refuses: int = 10**9) -> None:
        self.inner, self.most, self.refuses = inner, most, refuses
        self.crosses_roles = getattr(inner, "crosses_roles", False)
        self.reads_contents = getattr(inner, "reads_contents", False)
        self.hears_ends = True
        self.heard: list[tuple[int, int]] = []

    def ended(self, requests: Any, instance: int, now: float) -> None:
        self.heard.extend((request.row, instance) for request in requests)

    def choose(self, request: Request, view: ClusterView) -> Any:
        if request.prompt_tokens >= self.refuses:
            return Refusal("too long for this router")
        if all(view.outstanding[number] >= self.most for number in view.open):
            return None
        return self.inner.choose(request, view)


class Script:
    """A controller that does what it was told at given times, if it can be done, and at the end starts whatever is off."""

    idle = True

    def __init__(self, orders: list[list[Any]], interval_s: float = 0.25) -> None:
        self.orders = [tuple(order) for order in sorted(orders)]
        self.interval_s = interval_s

    def act(self, cluster: ClusterControl) -> None:
        while self.orders and self.orders[0][0] <= cluster.now:
            _, what, one, other = self.orders.pop(0)
            getattr(self, what)(cluster, one, other)
        if not self.orders:
            for number, state in enumerate(cluster.states):
                if state == "off":
                    cluster.start(number)

    def migrate(self, cluster: ClusterControl, one: int, other: int) -> None:
        rows = [found.row for found in cluster.decoding(one)]
        if one != other and rows:
            cluster.migrate(rows[(one + other) % len(rows)], one, other)

    def role(self, cluster: ClusterControl, one: int, role: str) -> None:
        others = {each for number, each in enumerate(cluster.roles) if number != one} | {role}
        if {"prefill", "decode"} <= others:
            cluster.set_role(one, role)

    def drain(self, cluster: ClusterControl, one: int, other: int) -> None:
        cluster.drain(one)

    def start(self, cluster: ClusterControl, one: int, other: int) -> None:
        cluster.start(one)
