"""What the engine asks of a cost model. Nothing here, and nothing that implements it, knows SimPy or policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class PrefillSlice(NamedTuple):
    """One chunk of one prompt in a step: `new_tokens` computed now, after `context_tokens` that are in the KV cache already.

    layers  (group, groups): the chunk passes through this one of so many equal, contiguous groups of layers only (layered prefill); the
            other layers run the step's decodes alone. None = all layers. The same for all chunks of a step.
    """

    new_tokens: int
    context_tokens: int
    layers: tuple[int, int] | None = None


class CostModel(Protocol):
    """Seconds of engine steps for one model on one instance (its devices, its parallel layout, its engine profile).

    In every method `decode_requests` sequences compute one token each; `context_tokens` is the sum over them of the tokens their
    query attends (the cached ones and itself) and `longest_tokens` the largest of these. Times are seconds, > 0, deterministic.
    """

    @property
    def stages(self) -> int:
        """Pipeline-parallel stages (1 = no pipeline)."""
        ...

    def step_time(self, decode_requests: int, context_tokens: int, longest_tokens: int, prefills: Sequence[PrefillSlice]) -> float:
        """Time of one step on a single-stage instance, host work included."""
        ...

    def decode_times(self, decode_requests: int, context_tokens: int, longest_tokens: int, steps: int) -> list[float] | F64:
        """Times (list or array) of `steps` consecutive decode-only steps of an unchanged batch; each adds one token to every context.

        Element i must equal, bit for bit, `step_time(decode_requests, context_tokens + i * decode_requests, longest_tokens + i, ())`.
        """
        ...

    def stage_times(
        self, decode_requests: int, context_tokens: int, longest_tokens: int, prefills: Sequence[PrefillSlice]
    ) -> tuple[float, ...]:
        """Time of the step on each pipeline stage, the hand-over of activations to the next stage included (length `stages`)."""
        ...

    def swap_time(self, tokens: int) -> float:
        """Time to copy the KV of `tokens` tokens between device and host, either way (all ranks in parallel)."""
        ...

    def breakdown(
        self, decode_requests: int, context_tokens: int, longest_tokens: int, prefills: Sequence[PrefillSlice]
    ) -> dict[str, float]:
        """The same step's seconds by part (gemm, attention_prefill, attention_decode, collective, elementwise, lm_head, host ...)."""
        ...

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """Useful model FLOPs of all ranks for `new_tokens` tokens whose queries attend `attended_pairs` (query, key) pairs in all."""
        ...

    @property
    def peak_flops_per_s(self) -> float:
        """Dense peak of all devices of the instance at the model's compute type, for utilisation."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was simulated with: model, hardware profile, engine profile, versions, the error of each operator and what is unvalidated.

        Plain JSON types. Ships with every result.
        """
        ...
