"""Everything that a policy or a cost model is written against, in one module; imports nothing of simserve but its errors.

    from simserve.contracts import ClusterView, Field, PolicyParams, Request, Router

The engine implements the views and plans described here; policies and cost models never import the engine.
"""

from pydantic import Field

from simserve.contracts.cluster import ClusterControl, ClusterView, Decoding, Load, Refusal, Score
from simserve.contracts.cost import PREFILL, VERIFY, Acceptance, CostModel, CostWrapper, DecodeSteps, Slice, Step
from simserve.contracts.instance import DecodingView, InstanceView, KvView, StepPlan, WaitingView
from simserve.contracts.loads import Loading, LoadSource
from simserve.contracts.policies import (
    CAPABILITIES,
    FCFS,
    SMALLEST_STEP_TOKENS,
    Controller,
    PolicyParams,
    QueueOrder,
    Router,
    Scheduler,
    SchedulerParams,
    capable,
)
from simserve.contracts.request import OracleRequest, Request, State
from simserve.contracts.speculation import FREED, KEPT, Course, Speculation

__all__ = [
    "CAPABILITIES",
    "FCFS",
    "FREED",
    "KEPT",
    "PREFILL",
    "SMALLEST_STEP_TOKENS",
    "VERIFY",
    "Acceptance",
    "ClusterControl",
    "ClusterView",
    "Controller",
    "CostModel",
    "CostWrapper",
    "Course",
    "DecodeSteps",
    "Decoding",
    "DecodingView",
    "Field",
    "InstanceView",
    "KvView",
    "Load",
    "LoadSource",
    "Loading",
    "OracleRequest",
    "PolicyParams",
    "QueueOrder",
    "Refusal",
    "Request",
    "Router",
    "Scheduler",
    "SchedulerParams",
    "Score",
    "Slice",
    "Speculation",
    "State",
    "Step",
    "StepPlan",
    "WaitingView",
    "capable",
]
