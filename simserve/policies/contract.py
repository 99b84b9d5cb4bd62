"""The contracts of policies: what they see, what they may say.

A policy is one class in one file with its parameters. A *scheduler* is asked for a plan whenever its instance is about to start a step; a
*router* is asked where a request goes; a *controller* is called on a timer and acts on the cluster.

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
    from simserve.engine.cluster_view import ClusterView, Refusal
    from simserve.engine.control import ClusterControl
    from simserve.engine.plan import InstanceView, StepPlan
    from simserve.engine.request import LiveRequest


SMALLEST_STEP_TOKENS = 2048


class PolicyParams(BaseModel):
    """Base of a policy's parameters: unknown keys are errors; fields carry defaults, bounds, units and descriptions.

    Every scheduling policy understands `max_seqs`; a policy may change its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def step_tokens(self, longest_tokens: int) -> int:
        """Most tokens of a step where sequences have up to `longest_tokens`: those that activations take memory for.

        The policy's budget; without one prompts run whole, and the step is never taken for smaller than 2,048 tokens (as the dummy run
        by which vLLM measures its peak, when max_num_batched_tokens is not stated).
        """
        budget = getattr(self, "max_num_batched_tokens", None) or getattr(self, "token_budget", None)
        return int(budget) if budget else max(SMALLEST_STEP_TOKENS, longest_tokens)


class Scheduler(Protocol):
    """What runs in the next step of an instance.

    A class that states `single_stage = True` cannot run on pipeline stages: an experiment that gives it `parallel.pp` above 1 is refused.
    """

    Params: ClassVar[Any]
    """A subclass of PolicyParams."""

    oracle: ClassVar[bool] = False
    """True if the policy is allowed to read `request.output_tokens` (the true output length, unknown to a real scheduler)."""

    def plan(self, view: InstanceView) -> StepPlan: ...


class Router(Protocol):
    """Where a request goes."""

    Params: ClassVar[Any]
    """A subclass of PolicyParams."""

    def choose(self, request: LiveRequest, view: ClusterView) -> int | Refusal | None:
        """The number of an instance in `view.open`; a Refusal, which rejects the request; or None, which holds it in the cluster's own
        queue until a request ends somewhere or an instance becomes available, when it is asked again."""
        ...


class Controller(Protocol):
    """Acts on the cluster on a timer."""

    Params: ClassVar[Any]
    """A subclass of PolicyParams."""

    idle: ClassVar[bool] = False
    """True if it must also be called while no request is in the system (scaling down); others sleep then."""

    @property
    def interval_s(self) -> float:
        """Seconds between two calls, > 0."""
        ...

    def act(self, cluster: ClusterControl) -> None: ...
