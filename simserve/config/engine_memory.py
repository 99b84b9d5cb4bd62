"""How an engine divides a device's memory: what its memory fraction is a fraction of, and the fraction it takes where none is stated."""

from __future__ import annotations

from pydantic import Field

from simserve.config.section import Section
from simserve.cost.kv_groups import WindowedLayers
from simserve.cost.memory import FractionOf

_MIB = 2**20


class ReserveRule(Section):
    """Memory that an engine leaves beside weights and KV cache on devices of a size, MiB of each device. What is stated adds up."""

    below_gib: float | None = Field(default=None, gt=0, description="Holds for devices with less memory. Default: for all that are left.")
    fixed_mib: float = Field(default=0.0, ge=0)
    per_device_mib: float = Field(default=0.0, ge=0, description="For each of an instance's devices.")
    per_step_token_mib: float = Field(default=0.0, ge=0, description="For each token of the largest step, at least 2,048 of them.")
    per_graph_request_mib: float = Field(default=0.0, ge=0, description="For each request of the largest CUDA graph.")
    dp_mib: float = Field(default=0.0, ge=0, description="With data-parallel attention.")
    per_dp_graph_request_mib: float = Field(
        default=0.0, ge=0, description="With data-parallel attention, for each request of the largest CUDA graph and each replica."
    )
    least_mib: float = Field(default=0.0, ge=0, description="At least so much in all.")

    def reserve_mib(self, devices: int, dp: int, step_tokens: int, graph_requests: int) -> float:
        """MiB of a device: `devices` is tp x pp x dp (SGLang's tp_size counts the ranks of all attention replicas), `step_tokens` the
        largest step, `graph_requests` the largest captured batch."""
        sum_mib = self.fixed_mib + self.per_device_mib * devices + self.per_step_token_mib * max(step_tokens, 2048)
        sum_mib += self.per_graph_request_mib * graph_requests
        if dp > 1:
            sum_mib += self.dp_mib + self.per_dp_graph_request_mib * graph_requests * dp
        return max(self.least_mib, sum_mib)


class MemorySection(Section):
    """What an engine does with a device's memory."""

    fraction_of: FractionOf = Field(
        default="device",
        description="What `kv.memory_utilisation` is a fraction of. device: of the device's memory, for weights, activations and KV cache;"
        " device-static: of the device's memory, for weights and KV cache, activations come from the rest; free: of what weights and"
        " activations leave, for the KV cache.",
    )
    reserve: list[ReserveRule] = Field(
        default_factory=list,
        description="How much the engine leaves free where no fraction is stated; the first rule that holds for the device counts."
        " Empty: it takes `kv.memory_utilisation`.",
    )
    windowed_layers: WindowedLayers = Field(
        default="full",
        description="What layers with an attention window keep: the KV of every token, of the window, or of the window only in models whose"
        " layers all have one.",
    )

    def fraction(self, memory_bytes: float, *, devices: int, dp: int, step_tokens: int, graph_requests: int) -> float | None:
        """The fraction the engine chooses on a device, rounded to thousandths as SGLang does; None when it has no rule."""
        memory_mib = memory_bytes / _MIB
        for rule in self.reserve:
            if rule.below_gib is None or memory_mib < rule.below_gib * 1024:
                left = memory_mib - rule.reserve_mib(devices, dp, step_tokens, graph_requests)
                return max(0.001, round(left / memory_mib, 3))
        return None
