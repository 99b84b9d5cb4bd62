"""PolynomialCost: seconds of engine steps from a few published coefficients (see `contract.CostModel`).

The cost model of DistServe's authors (arXiv 2401.09670, their simulator) and of others who publish fits instead of kernel tables:
prefill a + b sum(n) + c sum(n^2), decode a + b (attended tokens) + c (requests). Pipeline stages divide the time evenly, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simserve.contracts import CostModel, Slice, Step
from simserve.contracts.cost import F64
from simserve.cost.coefficients import Coefficients
from simserve.cost.host_copy import host_copy_s
from simserve.errors import ModelError
from simserve.hardware.profile import HardwareProfile
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import check, rank_kv_bytes_per_token
from simserve.model.parallel import Parallel

_ARRAY_FROM = 48
"""Steps from which an array is faster than a list."""

_MS = 1e-3


class PolynomialCost(CostModel):
    """The cost model of one instance by coefficients.

    kv_dtype_bytes  of a cached element, for copies to host memory
    Raises ModelError for a layout that the coefficients do not know (another tp, dp or ep above 1), or another device than theirs.
    """

    def __init__(
        self,
        model: ModelArchitecture,
        profile: HardwareProfile,
        parallel: Parallel,
        coefficients: Coefficients,
        *,
        name: str = "coefficients",
        kv_dtype_bytes: float = 2.0,
    ) -> None:
        check(model, parallel)
        if parallel.dp > 1 or parallel.ep > 1:
            raise ModelError(f"coefficients are for tp and pp; found dp {parallel.dp}, ep {parallel.ep}")
        if profile.name != coefficients.hardware:
            raise ModelError(f"the coefficients '{name}' were measured on {coefficients.hardware}, the instance runs on {profile.name}")
        entry = coefficients.layout(model.name, parallel.tp)
        self._model, self._profile, self._parallel = model, profile, parallel
        self._name, self._source = name, coefficients.source
        self._step_s, self._token_s = coefficients.step_ms * _MS, coefficients.token_ms * _MS
        self._prefill = tuple(term * _MS for term in entry.prefill_ms)
        self._decode = tuple(term * _MS for term in entry.decode_ms)
        self._large = tuple(term * _MS for term in entry.large_decode_ms or entry.decode_ms)
        self._large_from = entry.large_from_requests
        self._swap_bytes = rank_kv_bytes_per_token(model, parallel, kv_dtype_bytes)

    @property
    def stages(self) -> int:
        """Pipeline-parallel stages."""
        return self._parallel.pp

    def step_time(self, step: Step) -> float:
        """Seconds of one step on a single-stage instance. Raises ModelError when there is more than one stage."""
        self._single_stage()
        if not step.slices:
            base, slope = self._decode_line(step.decodes)
            return base + slope * step.context_tokens
        return self._device_s(step) + self._step_host_s(step)

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        """Seconds of `steps` decode-only steps of one batch whose contexts grow by one token a step; bit-identical to `step_time`."""
        self._single_stage()
        n, first = step.decodes, step.context_tokens
        base, slope = self._decode_line(n)
        last = first + n * steps
        if steps >= _ARRAY_FROM:
            return np.arange(first, last, n, dtype=np.float64) * slope + base
        return [base + slope * context for context in range(first, last, n)]

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Seconds of the step on each stage: equal parts; the engine's own time is counted on the first."""
        if self.stages == 1:
            return (self.step_time(step),)
        each = self._device_s(step) / self.stages
        return (each + self._step_host_s(step), *[each] * (self.stages - 1))

    def swap_time(self, tokens: int) -> float:
        """Seconds to copy the KV of `tokens` tokens over each rank's host link, either way."""
        return host_copy_s(self._profile.device, tokens * self._swap_bytes)

    def breakdown(self, step: Step) -> dict[str, float]:
        """Seconds of the step by part; a polynomial knows prefill, decode and host only. In a mixed step `prefill` has the fixed part."""
        whole = self._device_s(step)
        prefill = self._prefill_s(step.slices) if step.slices else 0.0
        parts = {"prefill": prefill, "decode": whole - prefill, "host": self._step_host_s(step)}
        return {part: seconds for part, seconds in parts.items() if seconds}

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """Useful FLOPs of all ranks: the layers' matrix products of `new_tokens` tokens and attention over `attended_pairs` pairs."""
        return float(new_tokens * self._model.flops_per_token(logits=False) + attended_pairs * self._model.attention_flops_per_pair())

    def logits_flops(self, rows: float) -> float:
        """FLOPs of the LM head for `rows` rows."""
        return rows * 2.0 * self._model.vocab_size * self._model.hidden_size

    @property
    def peak_flops_per_s(self) -> float:
        """Dense peak of the instance's devices at the model's type."""
        return self._parallel.devices * self._profile.device.peak(self._model.dtype)

    def describe(self) -> dict[str, Any]:
        """What was simulated with: the coefficients' name and source. They have not been compared with measurements here."""
        parallel = self._parallel
        return {
            "model": self._model.name,
            **({"model_taken": self._model.taken} if self._model.taken else {}),
            "parallel": {"tp": parallel.tp, "pp": parallel.pp, "dp": parallel.dp, "ep": parallel.ep},
            "hardware": self._profile.name,
            "coefficients": {"name": self._name, "source": self._source},
            "unvalidated": [f"step times (the coefficients {self._name})"],
        }

    # ---- inside ----

    def _single_stage(self) -> None:
        if self.stages > 1:
            raise ModelError(f"this is for one pipeline stage, the instance has {self.stages}: use stage_times")

    def _decode_line(self, n: int) -> tuple[float, float]:
        """Intercept and slope over the attended tokens of a decode-only step of n requests, host work included."""
        a, b, c = self._decode if n < self._large_from else self._large
        return self._step_s + a + c * n, b + self._token_s

    def _prefill_s(self, prefills: Sequence[Slice]) -> float:
        """A chunk of n tokens after m attends m more keys with each: n^2 + 2 n m, so that the chunks of a prompt add up to its square.
        One of g groups of layers does 1/g of it."""
        a, b, c = self._prefill
        new = squares = 0.0
        for tokens, context, layers, _, _ in prefills:
            part = 1.0 / layers[1] if layers else 1.0
            new += part * tokens
            squares += part * tokens * (tokens + 2 * context)
        return a + b * new + c * squares

    def _device_s(self, step: Step) -> float:
        """Seconds on the devices. A mixed step pays the fixed part, which is mostly reading the weights, once: the larger of the two."""
        n, context_tokens, prefills = step.decodes, step.context_tokens, step.slices
        a, b, c = self._decode if n < self._large_from else self._large
        if not prefills:
            return a + b * context_tokens + c * n
        prefill = self._prefill_s(prefills)
        return prefill + (max(a - self._prefill[0], 0.0) + b * context_tokens + c * n if n else 0.0)

    def _step_host_s(self, step: Step) -> float:
        tokens = sum(piece[0] for piece in step.slices) + step.context_tokens
        return self._step_s + self._token_s * tokens
