"""The contracts of policies: what they are asked, and what they may declare.

A policy is one class in one file with its parameters. A *scheduler* is asked for a plan whenever its instance is about to start a step; a
*router* is asked where a request goes; a *controller* is called on a timer and acts on the cluster; a *queue discipline* orders those that
wait. Deriving from these classes is not needed, and spares the constructor:

    class Shortest(Router):
        def choose(self, request: Request, view: ClusterView) -> int:
            return view.least(view.outstanding)

    class Sarathi(Scheduler):
        class Params(PolicyParams):
            token_budget: int = Field(512, gt=0, description="...")
        def plan(self, view: InstanceView) -> StepPlan: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from simserve.contracts.cluster import ClusterControl, ClusterView, Refusal
from simserve.contracts.instance import InstanceView, StepPlan
from simserve.contracts.request import Request

CAPABILITIES = {
    "single_stage": "schedulers: cannot run on pipeline stages; an experiment with `parallel.pp` above 1 is refused",
    "asked_each_step": "schedulers: what they remember is of all micro-batches together, and changes with each step: with `parallel.pp`"
    " above 1 they are asked before each step, whatever they hold",
    "oracle": "schedulers, queue disciplines: reads `request.output_tokens`, the true output length, which no real one knows",
    "crosses_roles": "routers: may send an arrival to a decode instance and a prefilled request to a prefill instance",
    "reads_contents": "routers: reads `request.prefix_ids`",
    "one_pool": "controllers: treat all instances alike, so a cluster with roles needs instances of the role `mixed`",
    "hears_ends": "schedulers, routers, controllers: are told of the requests that end (`ended`)",
    "requeues_last": "schedulers: a preempted request waits behind those that have come, not before them",
    "idle": "controllers: are also called while no request is in the system (scaling down); the others sleep then",
}
"""What a policy may declare as a class or instance attribute of this name, and who it is for; False where it does not."""


def capable(policy: Any, name: str) -> bool:
    """Whether a policy declares a capability. Raises KeyError for a name that is none."""
    CAPABILITIES[name]
    return bool(getattr(policy, name, False))


FROM_PYTHON = "python:"
"""How results name a policy object that a run was given from Python: `python:module:Class`."""

SMALLEST_STEP_TOKENS = 2048
"""Where prompts run whole, activations are never charged for a smaller step: the dummy run by which vLLM measures its peak takes as many
tokens when max_num_batched_tokens is not stated."""


class PolicyParams(BaseModel):
    """Base of a policy's parameters: unknown keys are errors; fields carry defaults, bounds, units and descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SchedulerParams(PolicyParams):
    """Base of a scheduler's parameters, with what the engine and the memory must know of every scheduler."""

    max_seqs: int = Field(128, gt=0, le=10**9, description="Most requests that run at once.")

    def step_tokens(self, longest_tokens: int) -> int:
        """Most tokens of a step where sequences have up to `longest_tokens`: those that activations take memory for. A scheduler with a
        token budget answers with it; by default prompts run whole."""
        return max(SMALLEST_STEP_TOKENS, longest_tokens)

    def refused(self, longest_tokens: int) -> str:
        """Why an engine with these parameters, as its user stated them, does not start for sequences of up to `longest_tokens`; "" when
        it does."""
        return ""


class _Policy(Protocol):
    """What deriving gives: no parameters, and a constructor that keeps them."""

    Params: ClassVar[Any] = PolicyParams
    """A subclass of PolicyParams."""

    params: Any

    def __init__(self, params: Any = None) -> None:
        self.params = self.Params() if params is None else params


class Scheduler(_Policy, Protocol):
    """What runs in the next step of an instance. Its parameters derive from SchedulerParams."""

    Params: ClassVar[Any] = SchedulerParams
    oracle: bool = False
    single_stage: bool = False
    asked_each_step: bool = False
    hears_ends: bool = False

    def ended(self, requests: Sequence[Request], now: float) -> None:
        """Requests have ended on this scheduler's instance, at `now` (seconds). Asked for by `hears_ends`."""
        return

    def plan(self, view: InstanceView) -> StepPlan:
        """The coming step: `view.new_plan()` with actions told to it."""
        ...


class Router(_Policy, Protocol):
    """Where a request goes."""

    crosses_roles: bool = False
    reads_contents: bool = False
    hears_ends: bool = False

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        """Requests have ended on an instance, at `now` (seconds). Asked for by `hears_ends`. One whose instance has died has ended only
        if it does not go on elsewhere: otherwise the router is asked again where."""
        return

    def choose(self, request: Request, view: ClusterView) -> int | Refusal | None:
        """The number of an instance in `view.open`; a Refusal, which rejects the request; or None, which holds it in the cluster's own
        queue until a request ends somewhere, an instance becomes available or signals are refreshed, when it is asked again."""
        ...


class Controller(_Policy, Protocol):
    """Acts on the cluster on a timer."""

    idle: bool = False
    one_pool: bool = False
    hears_ends: bool = False

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        """Requests have ended on an instance, at `now` (seconds). Asked for by `hears_ends`."""
        return

    @property
    def interval_s(self) -> float:
        """Seconds between two calls, > 0."""
        ...

    def act(self, cluster: ClusterControl) -> None:
        """Called at multiples of `interval_s`."""
        ...


class QueueOrder(Protocol):
    """A queue discipline: a module (or an object) with these four.

    key         sorts those that wait, smallest first, equals by row; None = first come, first served, the preempted at the front
    victim_key  of those that run, the largest is preempted first when memory is short
    oracle      it reads `request.output_tokens`
    dynamic     the key changes with what the prefix cache holds
    """

    @property
    def key(self) -> Callable[[Any], Any] | None: ...

    @property
    def victim_key(self) -> Callable[[Any], Any]: ...

    @property
    def oracle(self) -> bool: ...

    @property
    def dynamic(self) -> bool: ...


class FirstComeFirstServed:
    """Requests wait in order of arrival; preempted ones go back to the front. The most recently admitted is preempted first."""

    key = None
    oracle = False
    dynamic = False

    def victim_key(self, request: Request) -> Any:
        return request.admission


FCFS = FirstComeFirstServed()
"""The queue discipline of an instance that states none."""
