"""Attention of a batch of sequences over a KV cache, by whichever library is installed. Used to measure it and to replay steps.

A plan is made for one batch; `run` writes the new keys and values into a layer's cache and attends. Engines' own attention includes
that write too, and so do the public tables.
"""

from __future__ import annotations

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads
from simserve.calibration.measure.attention_kernels.dense import DensePlan
from simserve.calibration.measure.attention_kernels.flashinfer import FlashInferPlan
from simserve.calibration.measure.attention_kernels.fused_infer import FusedInferPlan
from simserve.calibration.measure.attention_kernels.gather import GatherPlan
from simserve.calibration.measure.attention_kernels.varlen import VarlenPlan
from simserve.calibration.measure.devices import TorchDevice

__all__ = ["PLANS", "AttentionPlan", "Batch", "Heads", "available", "best_for_measuring"]

PLANS: dict[str, type[AttentionPlan]] = {
    "flashinfer": FlashInferPlan,
    "fused_infer": FusedInferPlan,
    "varlen": VarlenPlan,
    "gather": GatherPlan,
    "sdpa": DensePlan,
}
"""Best first for a paged cache. `sdpa` has no paged cache: sequences of one batch must be alike."""


def available(device: TorchDevice) -> tuple[str, ...]:
    """The plans that can run on this device with what is installed, best first."""
    return tuple(name for name, plan in PLANS.items() if plan.can_run(device))


def best_for_measuring(device: TorchDevice) -> str:
    """The best real kernel here. Gathering a paged cache by hand is twice the work of any kernel an engine uses: only on request."""
    return next(name for name in available(device) if name != "gather")
