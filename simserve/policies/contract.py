"""The contract of a scheduling policy: what it sees, what it may say.

A policy is one class in one file. It is asked for a plan whenever its instance is about to start a step:

    class Sarathi:
        class Params(PolicyParams):
            token_budget: int = Field(512, gt=0, description="...")
        def __init__(self, params: Params): ...
        def plan(self, view: InstanceView) -> StepPlan: ...

`StepPlan` acts at once: `admit` takes the request out of the waiting queue and reserves its KV blocks, so the next question the policy
asks of the view already sees the new state. Every action is checked; an illegal one raises PolicyError with the policy's name (I10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from simserve.engine.plan import InstanceView, StepPlan


class PolicyParams(BaseModel):
    """Base of a policy's parameters: unknown keys are errors; fields carry defaults, bounds, units and descriptions.

    Every scheduling policy understands `max_seqs`; a policy may change its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scheduler(Protocol):
    """What runs in the next step of an instance."""

    Params: ClassVar[Any]
    """A subclass of PolicyParams."""

    oracle: ClassVar[bool] = False
    """True if the policy is allowed to read `request.output_tokens` (the true output length, unknown to a real scheduler)."""

    def plan(self, view: InstanceView) -> StepPlan: ...
