"""A transformer with a model's dimensions and random weights, made of one rank's operators as `simserve.model` lists them.

Communication between ranks is left out. What is executed: embedding, layers (grouped-query attention, dense or expert MLPs, in bf16,
fp16 or fp8), final norm, LM head over the rows that sample, and sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simserve.calibration.measure.attention_kernels import AttentionPlan
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.operators.elementwise import fused
from simserve.calibration.measure.operators.moe import balanced, experts, grouped_kernel, grouped_product
from simserve.calibration.measure.random_data import TORCH_DTYPE
from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_operators
from simserve.model.operators import AllGather, AllReduce, Attention, Elementwise, Gemm, MoE, Operator
from simserve.model.parallel import Parallel

_DTYPES = ("bf16", "fp16", "fp8")

Attend = Callable[[int, Any, Any, Any], Any]
"""(layer, q, k, v) -> attention output; the layer's cache is the caller's."""


class Network:
    """The layers in `layers` (indices of the model's own) with their weights on the device.

    Raises ModelError for a model with operators that cannot be executed, naming them.
    """

    def __init__(self, device: TorchDevice, model: ModelArchitecture, parallel: Parallel, layers: tuple[int, ...], seed: int = 0) -> None:
        self.device, self.model, self.torch = device, model, device.torch
        self._generator = device.torch.Generator(device=device.device).manual_seed(seed)
        self.dtype = getattr(device.torch, TORCH_DTYPE[model.dtype])
        head = head_operators(model, parallel)
        self.layers = [[self._prepare(op) for op in layer_operators(model, parallel, i)] for i in layers]
        self.attention = [next(op for op in layer_operators(model, parallel, i) if isinstance(op, Attention)) for i in layers]
        lm_head = next(op for op in head.output if isinstance(op, Gemm))
        self._embedding = self._random((lm_head.n, model.hidden_size))
        self._lm_head = self._random((lm_head.n, model.hidden_size))
        self._norm_weight = self._random((model.hidden_size,))
        self._ones = device.torch.ones((), dtype=device.torch.float32, device=device.device)
        self._rope, _ = fused(device.torch, device.kind, "rope")
        self._act, _ = fused(device.torch, device.kind, "silu_multiply")
        self._add_norm, self.fusion = fused(device.torch, device.kind, "add_norm")
        self._routing: dict[int, tuple[Any, int, Any]] = {}

    def inputs(self, tokens: int, sampled_rows: Any) -> tuple[Any, Any, Any]:
        """Token ids, rotary angles [2, tokens, 1, head_dim / 2] and the rows that get logits, on the device."""
        ids = self.torch.randint(0, self._embedding.shape[0], (tokens,), device=self.device.device, generator=self._generator)
        angles = self._random((2, tokens, 1, max(self.model.head_dim // 2, 1)))
        for op in {op for layer in self.layers for op, _ in layer if isinstance(op, MoE)}:
            self._route(op, tokens)
        return ids, angles, self.torch.as_tensor(np.asarray(sampled_rows), device=self.device.device)

    def step(self, ids: Any, angles: Any, rows: Any, attend: Attend, layers: int | None = None) -> Any:
        """One forward pass of the first `layers` layers; returns the sampled token of each row."""
        functional = self.torch.nn.functional
        x = functional.embedding(ids, self._embedding)
        residual = self.torch.zeros_like(x)
        for place, layer in enumerate(self.layers[:layers]):
            x, residual = self._layer(place, layer, x, residual, angles, attend)
        x, _ = self._add_norm(self.torch, x, residual, self._norm_weight)
        logits = functional.linear(x[rows], self._lm_head)
        return self.torch.softmax(logits.float(), -1).argmax(-1)

    def _layer(self, place: int, layer: list[tuple[Operator, Any]], x: Any, residual: Any, angles: Any, attend: Attend) -> tuple[Any, Any]:
        torch, hidden, shared = self.torch, x, None
        attention = self.attention[place]
        qk: Any = None
        v: Any = None
        wide: Any = None
        logits: Any = None
        for op, weight in layer:
            match op.name:
                case "input_layernorm" | "post_attention_layernorm":
                    hidden, residual = self._add_norm(torch, x, residual, weight)
                case "attn_pre_proj":  # columns: queries (and their gates), keys, values
                    packed = self._multiply(op, hidden, weight).view(len(x), -1, attention.head_dim)
                    qk, v = packed[:, : attention.q_heads + attention.kv_heads], packed[:, -attention.kv_heads :]
                case "qk_norm":
                    qk = torch.nn.functional.rms_norm(qk, (attention.head_dim,), weight)
                case "attn_rope":
                    qk = self._rope(torch, qk, *angles)
                case "attn":
                    q, k = qk.split((attention.q_heads, attention.kv_heads), 1)
                    x = attend(place, q.contiguous(), k.contiguous(), v.contiguous()).reshape(len(x), -1)
                case "attn_post_proj":
                    x = self._multiply(op, x, weight)
                case "mlp_up_proj" | "shared_up_proj":
                    wide = self._multiply(op, hidden, weight)
                case "mlp_act" | "shared_act":
                    wide = self._act(torch, wide) if self.model.gated_mlp else torch.nn.functional.gelu(wide)
                case "mlp_down_proj":
                    x = self._multiply(op, wide, weight)
                case "shared_down_proj":
                    shared = self._multiply(op, wide, weight)
                case "moe_router":
                    logits = self._multiply(op, hidden, weight)
                case "moe":
                    x = self._experts(op, hidden, logits, weight)
                    x = x if shared is None else x + shared
                case "add":
                    x = x + residual
        return x, residual

    def _prepare(self, op: Operator) -> tuple[Operator, Any]:
        """The operator with its weights. Raises ModelError for one that cannot be executed."""
        if isinstance(op, Gemm) and op.dtype in _DTYPES:
            weight = self._random((op.n, op.k))
            return op, weight.to(self.torch.float8_e4m3fn) if op.dtype == "fp8" else weight
        if isinstance(op, MoE) and op.dtype in ("bf16", "fp16"):
            local, width = op.num_experts // op.expert_parallel, op.intermediate_size // op.tensor_parallel
            return op, (self._random((local, 2 * width, op.hidden_size)), self._random((local, op.hidden_size, width)))
        if isinstance(op, Elementwise) and op.name in _ELEMENTWISE:
            return op, self._random((op.width if op.name != "qk_norm" else self.model.head_dim,))
        if isinstance(op, Attention | AllReduce | AllGather):
            return op, None
        what = f"{op.name} in {op.dtype}" if isinstance(op, Gemm | MoE) else op.name
        raise ModelError(
            f"model '{self.model.name}': replay cannot execute {what}; it executes grouped-query attention and MLPs or experts in "
            f"{', '.join(_DTYPES)} (experts: bf16, fp16)"
        )

    def _multiply(self, op: Operator, x: Any, weight: Any) -> Any:
        if weight.dtype == self.dtype:
            return self.torch.nn.functional.linear(x, weight)
        # Quantising with a fixed scale is one cast; engines measure a scale for each token in the same pass.
        quantised = x.to(weight.dtype)
        return self.torch._scaled_mm(quantised, weight.t(), scale_a=self._ones, scale_b=self._ones, out_dtype=self.dtype)

    def _experts(self, op: Operator, x: Any, logits: Any, weights: tuple[Any, Any]) -> Any:
        assert isinstance(op, MoE)
        ids, rows, multiply = self._route(op, len(x))
        local = op.num_experts // op.expert_parallel
        return experts(self.torch, multiply, x, logits.float(), ids, rows, local, weights, self.dtype)

    def _route(self, op: MoE, tokens: int) -> tuple[Any, int, Any]:
        """Balanced routing of a step, made before it is timed or captured."""
        if tokens not in self._routing:
            chosen, local = balanced(tokens, op.num_experts, op.experts_per_token), op.num_experts // op.expert_parallel
            counts = np.bincount(chosen[chosen < local].ravel(), minlength=local)
            multiply = grouped_product(self.torch, grouped_kernel(self.torch, self.device.kind), counts)
            ids = self.torch.as_tensor(chosen, device=self.device.device)
            self._routing[tokens] = (ids, int((chosen < local).sum()), multiply)
        return self._routing[tokens]

    def _random(self, shape: tuple[int, ...]) -> Any:
        """Normal numbers scaled so that a product with unit inputs has unit variance: activations stay of the size that real ones have."""
        weight = self.torch.empty(shape, dtype=self.dtype, device=self.device.device)
        return weight.normal_(0.0, shape[-1] ** -0.5 if len(shape) > 1 else 1.0, generator=self._generator)


_ELEMENTWISE = ("input_layernorm", "post_attention_layernorm", "qk_norm", "attn_rope", "mlp_act", "shared_act", "add")


def attend_with(plans: list[list[tuple[slice, AttentionPlan]]], caches: list[list[Any]]) -> Attend:
    """Attention of a step whose rows belong to several phases: plans[layer][phase] with their rows, caches[phase][layer]."""

    def attend(layer: int, q: Any, k: Any, v: Any) -> Any:
        phases = plans[layer]
        if len(phases) == 1:
            return phases[0][1].run(q, k, v, caches[0][layer])
        parts = [plan.run(q[rows], k[rows], v[rows], cache[layer]) for (rows, plan), cache in zip(phases, caches, strict=True)]
        return phases[0][1].device.torch.cat(parts)

    return attend
