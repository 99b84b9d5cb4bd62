"""Which kernel models a step is made of: one engine's measurements first, others where it has none, estimates where none has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simserve.cost.four_bits import multiplied_as
from simserve.cost.options import CostOptions
from simserve.cost.spread import ScaledKernel
from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.kernel_model import KernelModel
from simserve.hardware.operators import OPERATORS
from simserve.hardware.operators.base import Context
from simserve.hardware.profile import HardwareProfile, engine_name, timed_eagerly
from simserve.model.operators import ExpertExchange

F64 = NDArray[np.float64]

_QUANTISED_APART = ("gemm", "fp8", "trtllm")
"""TensorRT-LLM's rows of fp8 multiplications were timed with scales found at run time: several kernels before each multiplication, 9.4 us
for the smallest (12.4 us where bf16 takes 3.0). Checkpoints with static scales quantise in one kernel, or in the norm, attention or
activation before: all but one launch is taken off, and what grows with the tokens stays in."""

_NARROW = 256.0
"""Columns of a matrix so narrow that its fp8 row over one token is nearly all quantisation."""

_EXCHANGE_SMS = 20.0
"""SMs that DeepEP gives its throughput kernels by default."""


@dataclass
class KernelChoice:
    """Chooses models from a profile and remembers which were used, for `describe`.

    backend  serving engine whose measurements come first (`vllm`, `vllm 0.14.0`), None = the profile's own order.
    analytic   True leaves all measurements aside: every operator is the analytic estimate.
    expert_skew   exponent of the power law of expert popularity, 0 = all experts equally popular, None = as tokens choose (`expert_layer`).
    options   a paper's changes to formats, layers and attention; none by default.
    factors   by label of a kernel model: what its times are multiplied by (a draw of its error); 1 for what is not named.
    """

    profile: HardwareProfile
    backend: str | None = None
    analytic: bool = False
    expert_skew: float | None = None
    options: CostOptions = field(default_factory=CostOptions)
    factors: Mapping[str, float] = field(default_factory=dict)
    used: dict[str, KernelModel] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)

    def operator(
        self, name: str, dtype: str, *, kv_dtype: str = "", kernel: str | None = None, starting: str = "", preferred: str = ""
    ) -> KernelModel:
        """The best model of an operator.

        kernel    exactly this one: a kernel that was not measured is estimated, not taken from another
        starting  any kernel whose name starts so
        preferred  kernels whose names hold this come before all others
        Where the engine's own rows were timed with the host's launches in them, another engine's device times are preferred.
        """
        found: list[KernelModel] = []
        for backend in () if self.analytic else (self.backend, None) if self.backend else (None,):
            candidates = self.profile.candidates(name, dtype, backend, kv_dtype=kv_dtype, kernel=kernel)
            found += [m for m in candidates if m.entry is not None and m.entry.kernel.startswith(starting)]
        if preferred:
            found.sort(key=lambda m: m.entry is None or preferred not in m.entry.kernel)
        device_only = [m for m in found if m.entry is not None and not timed_eagerly(m.entry)]
        if found:
            return self._note((device_only or found)[0])
        return self._note(self._estimate(name, dtype, kv_dtype), kernel)

    def gemm_seconds(self, dtype: str, m: F64, n: F64, k: F64) -> F64:
        """Seconds of matrix multiplications in one format; of w4a4_int4, part of the depth may run with 8-bit activations.

        W8A8 without rows of its own is timed as TensorRT-LLM's SmoothQuant kernel: the same operands and arithmetic.
        """
        fraction = self.options.a8_fraction if dtype == "w4a4_int4" else 0.0
        if fraction:
            eight = self.operator("gemm", "w4a8_int4").seconds(m=m, n=n, k=k)
            four = self.operator("gemm", dtype).seconds(m=m, n=n, k=k)
            return fraction * eight + (1.0 - fraction) * four
        dtype = self.multiplied(dtype, "gemm")
        if dtype == "w8a8_int8" and not self.analytic and not self.profile.candidates("gemm", dtype):
            dtype = "w8a8_int8_smoothquant"
        model = self.operator("gemm", dtype)
        seconds = model.seconds(m=m, n=n, k=k)
        if model.entry is not None and (model.operator.name, dtype, engine_name(model.entry.backend)) == _QUANTISED_APART:
            plain = self.profile.operator("gemm", "bf16", model.entry.backend)
            whole = model.seconds(m=1.0, n=_NARROW, k=k) - plain.seconds(m=1.0, n=_NARROW, k=k)
            apart = np.maximum(whole - self.profile.device.launch_s, 0.0)
            bound = model.operator.bound_s(model.context, model.operator.arrays({"m": m, "n": n, "k": k}))
            return np.maximum(seconds - apart, bound)
        return seconds

    def multiplied(self, dtype: str, operator: str) -> str:
        """The format that the engine's kernel multiplies weights stored as `dtype` in: `dtype`'s own where only that was measured."""
        run = multiplied_as(self.profile.device, self.backend, operator, dtype)
        return dtype if run != dtype and self.measured(operator, dtype) and not self.measured(operator, run) else run

    def stored_kv(self, name: str, dtype: str) -> str:
        """The cache's format for a measured attention kernel: fp8 where the options only make the cache 8 bits and that was timed."""
        changed = {key for key in self.options.changed() if key not in ("expert_kernel", "expert_popularity")}
        eight = changed == {"kv_bits"} and self.options.kv_bits == 8.0 and not self.analytic
        found = self.profile.candidates(name, dtype, kv_dtype="fp8") if eight else []
        return "fp8" if any(m.entry is not None and m.entry.kv_dtype == "fp8" for m in found) else dtype

    def assume(self, what: str) -> None:
        """Remembers something that no kernel model stands for, to be listed as unvalidated."""
        self.assumed.add(what)

    def measured(self, name: str, dtype: str, kernel: str | None = None) -> bool:
        """Whether this operator was measured, or this kernel of it."""
        return not self.analytic and bool(self.profile.candidates(name, dtype, kernel=kernel))

    def prefix_attention(self, dtype: str) -> KernelModel | None:
        """The prefill model with most measurements among those made with cached prefixes, None when the profile has none."""
        models = [] if self.analytic else self.profile.candidates("attention_prefill", dtype)
        measured = [m for m in models if m.entry is not None and m.entry.with_prefix]
        return self._note(max(measured, key=lambda m: m.entry.points if m.entry else 0)) if measured else None

    def communication(self, name: str, group: int, message_bytes: F64, dtype: str) -> F64:
        """Seconds of a collective (or p2p: group 2) over `group` devices for each message size."""
        per_node = self.profile.device.devices_per_node
        nodes = -(-group // per_node)
        on_node = float(min(group, per_node))
        for backend in (self.backend, None) if self.backend else (None,):
            for model in [] if self.analytic else self.profile.candidates(name, dtype, backend):
                for used in (0.0, on_node):
                    topology = {"num_gpus": float(group), "num_nodes": float(nodes), "gpus_per_node_used": used}
                    if model.covers(**topology):
                        return self._note(model).seconds(message_bytes=message_bytes, **topology)
        model = self._note(self._estimate(name, dtype, ""))
        return model.seconds(message_bytes=message_bytes, num_gpus=float(group), num_nodes=float(nodes))

    def exchange(self, op: ExpertExchange, tokens_per_gpu: F64) -> F64:
        """Seconds of expert dispatch or combine: the faster of the low-latency and the throughput kernels, as engines choose. Where kernels
        for a fabric that all ranks share were measured, they are among them, and nothing that was not.

        Where the profile states an efficiency (Ascend), each tensor-parallel rank sends its part of a replica's tokens, as CANN's kernels
        are called (vllm_ascend/ops/moe, `prepare`: hidden states split by tp rank), quantised first where the experts take 8-bit integers.
        """
        dtype = "fp8" if op.bytes_per_token % 2 or op.name == "moe_dispatch" else "bf16"
        nodes = -(-op.group // self.profile.device.devices_per_node)
        element_bytes = DTYPE_BYTES[dtype]
        common: dict[str, ArrayLike] = {
            "num_tokens_per_gpu": tokens_per_gpu,
            "hidden_size": op.bytes_per_token / element_bytes,
            "topk": float(op.experts_per_token),
            "num_experts": float(op.num_experts),
            "num_gpus": float(op.group),
            "num_nodes": float(nodes),
        }
        times = []
        kinds = [("low_latency", 0.0), ("normal", _EXCHANGE_SMS)]
        if nodes == 1 and self.measured(op.name, dtype, "nvlink"):
            kinds = [*((kind, sms) for kind, sms in kinds if self.measured(op.name, dtype, kind)), ("nvlink", 0.0)]
        for kind, sms in kinds:
            # Only one node was measured: over the network the estimate is used.
            model = self.operator(op.name, dtype, kernel=kind) if nodes == 1 else self._note(self._estimate(op.name, dtype, ""))
            if model.efficiency is not None:
                common["num_tokens_per_gpu"] = np.ceil(tokens_per_gpu / op.tensor_parallel)
                common["hidden_size"] = op.bytes_per_token / element_bytes / (2.0 if op.eight_bit else 1.0)
            times.append(model.seconds(sms=sms, **common))
        fastest: F64 = np.min(times, axis=0)
        return fastest

    def _estimate(self, name: str, dtype: str, kv_dtype: str) -> KernelModel:
        if self.analytic:
            return KernelModel(OPERATORS[name], Context(self.profile.device, dtype, kv_dtype))
        return self.profile.estimate(name, dtype, kv_dtype)

    def _note(self, model: KernelModel, kernel: str | None = None) -> KernelModel:
        label = model.label if model.validated or not kernel else f"{model.label} ({kernel})"
        self.used[label] = model
        factor = self.factors.get(model.label, 1.0)
        return model if factor == 1.0 else ScaledKernel.of(model, factor)

    def describe(self) -> dict[str, Any]:
        """The models used so far: check errors of the measured ones, what efficiencies stand for others, names of the unvalidated."""
        operators = []
        for _, model in sorted(self.used.items()):
            entry = model.entry
            if entry is not None:
                errors = {kind: e.mape_percent for kind, e in (("points", entry.check.points), ("shapes", entry.check.shapes)) if e}
                operators.append(
                    {
                        "operator": entry.operator,
                        "dtype": entry.dtype,
                        "kv_dtype": entry.kv_dtype,
                        "backend": entry.backend,
                        "kernel": entry.kernel,
                        "points": entry.points,
                        "check_mape_percent": errors,
                        "sources": list(entry.sources),
                    }
                )
        stated = [
            {
                "operator": m.operator.name,
                "dtype": m.context.dtype,
                "status": m.status,
                "error_percent": None if m.status == "assumed" else e.error_percent,
                "source": e.source,
            }
            for _, m in sorted(self.used.items())
            if (e := m.efficiency) is not None
        ]
        known = {"efficiencies": stated} if stated else {}
        return {
            "operators": operators,
            **known,
            "unvalidated": sorted(self.assumed | {label for label, m in self.used.items() if not m.validated}),
        }
