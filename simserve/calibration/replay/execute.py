"""Runs the planned steps on a device and times them; a subset of the layers, scaled up, when the model is larger than the memory."""

from __future__ import annotations

import gc
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, TextIO

import numpy as np

from simserve.calibration.measure.attention_kernels import PLANS, AttentionPlan, Batch, Heads, available
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.environment import ClockCheck
from simserve.calibration.measure.points import point
from simserve.calibration.measure.progress import Progress
from simserve.calibration.measure.timing import TimingRule, time_calls
from simserve.calibration.measure.workbench import UnsupportedError
from simserve.calibration.replay.network import Network, attend_with
from simserve.calibration.replay.plan import ReplayPlan, ReplayStep
from simserve.errors import ConfigError, ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_operators
from simserve.model.operators import weight_bytes
from simserve.model.parallel import Parallel

_MEMORY_FRACTION = 0.8  # of the free memory, for weights and the KV cache of the largest step; activations and graphs take the rest
_CLOCK_EVERY_STEPS = 10
_RULE = TimingRule(repeats=7, round_s=0.0, point_s=2.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """One executed step: device seconds of the whole model (scaled from `layers` of them), and the spread of the repeats in percent."""

    step: ReplayStep
    seconds: float
    spread_percent: float


@dataclass(slots=True)
class Execution:
    """All executed steps, and how they were executed. failures: reason -> steps. clock_drift_percent: see `ClockCheck`."""

    measured: list[Measured] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    layers: int = 0
    layers_of_model: int = 0
    attention: str = ""
    fusion: str = ""
    graphs: bool = False
    clock_drift_percent: float = 0.0
    interrupted: bool = False


def execute(
    plan: ReplayPlan,
    model: ModelArchitecture,
    device: TorchDevice,
    *,
    layers: int | None = None,
    attention: str | None = None,
    stream: TextIO | None = None,
) -> Execution:
    """Execute every step of the plan. `layers` fewer than the model has are scaled up; None = as many as fit.

    Raises ModelError for a model that cannot be executed, ConfigError for a wrong number of layers or attention implementation.
    """
    parallel = Parallel(tp=plan.tp, ep=plan.ep)
    out = Execution(layers_of_model=model.num_layers, graphs=device.has_graphs)
    out.layers = _layers(plan, model, parallel, device, layers)
    chosen = tuple(int(i) for i in np.unique(np.linspace(0, model.num_layers - 1, out.layers).round()))
    implementation = attention or next(name for name in available(device) if PLANS[name].paged)
    if implementation not in PLANS or not PLANS[implementation].can_run(device):
        raise ConfigError(f"--attention {implementation}: not available here; there are {', '.join(available(device))}")
    progress = Progress(len(plan.steps), stream)
    progress.say(f"{device.name}: {len(plan.steps)} steps of {plan.model}, {out.layers} of {model.num_layers} layers")
    network = Network(device, model, parallel, chosen)
    out.fusion = network.fusion
    clock = ClockCheck(device)
    start_s = time.monotonic()
    runner = _Runner(device, network, model, implementation, out)
    try:
        for done, step in enumerate(plan.steps):
            if done % _CLOCK_EVERY_STEPS == 0:
                clock.take(time.monotonic() - start_s)
            progress.update(done, sum(out.failures.values()), _as_point(step))
            if not runner.one(step):
                out.failures["not tried: the device had stopped working"] += len(plan.steps) - done - 1
                break
    except KeyboardInterrupt:
        out.interrupted = True
    out.clock_drift_percent = clock.drift_percent()
    return out


class _Runner:
    """Holds the network and the memory of the KV caches between steps."""

    def __init__(self, device: TorchDevice, network: Network, model: ModelArchitecture, implementation: str, out: Execution) -> None:
        self.device, self.network, self.model, self.out = device, network, model, out
        self.plan_of = PLANS[implementation]
        self._cache: Any = None

    def one(self, step: ReplayStep) -> bool:
        """Execute one step, or count why it could not be. False when no further step can run: a fault broke the device."""
        try:
            self.out.measured.append(self._measure(step))
        except UnsupportedError as problem:
            self.out.failures[f"not supported: {problem}"] += 1
        except (RuntimeError, MemoryError) as problem:
            if not self.device.is_out_of_memory(problem):
                self.out.failures[f"failed: {str(problem).splitlines()[0][:160]}"] += 1
                return self.device.healthy()
            problem.__traceback__ = None  # frames hold the tensors that filled the memory
            self._cache = None
            gc.collect()
            self.device.release()
            self.out.failures["out of memory"] += 1
        return True

    def _measure(self, step: ReplayStep) -> Measured:
        decoding = Batch((1,) * len(step.contexts), tuple(c - 1 for c in step.contexts))
        graph = bool(step.graph_tokens) and self.device.has_graphs
        if step.graph_tokens > decoding.sequences:
            pad = step.graph_tokens - decoding.sequences
            decoding = Batch(decoding.new_tokens + (1,) * pad, decoding.context_tokens + (0,) * pad)
        prefilling = Batch(tuple(n for n, _ in step.chunks), tuple(c for _, c in step.chunks))
        batches = [b for b in (decoding, prefilling) if b.sequences]
        ids, angles, rows = self.network.inputs(sum(b.tokens for b in batches), _sampled(decoding, prefilling))
        plans = self._plans(batches)
        attend = attend_with(plans, self._caches(plans[0]))
        run = partial(self.network.step, ids, angles, rows, attend)
        whole = time_calls(self.device, [run], _RULE, graph)
        seconds = whole.seconds
        if self.out.layers < self.model.num_layers:
            head = time_calls(self.device, [partial(run, layers=0)], _RULE, graph)
            seconds = head.seconds + max(seconds - head.seconds, 0.0) * self.model.num_layers / self.out.layers
        return Measured(step, seconds, whole.spread_percent)

    def _plans(self, batches: list[Batch]) -> list[list[tuple[slice, AttentionPlan]]]:
        """For each layer one plan a phase, as engines with separate prefill and decode kernels have; layers of one window share them."""
        made: dict[Heads, list[tuple[slice, AttentionPlan]]] = {}
        ends = np.cumsum([batch.tokens for batch in batches]).tolist()
        layers = [Heads(op.q_heads, op.kv_heads, op.head_dim, op.window_tokens, self.model.dtype) for op in self.network.attention]
        for heads in dict.fromkeys(layers):
            made[heads] = [
                (slice(end - batch.tokens, end), self.plan_of(self.device, heads, batch)) for end, batch in zip(ends, batches, strict=True)
            ]
        self.out.attention = made[layers[0]][0][1].label
        return [made[heads] for heads in layers]

    def _caches(self, plans: list[tuple[slice, AttentionPlan]]) -> list[list[Any]]:
        """Caches of every layer for each plan, cut from one allocation that grows to the largest step."""
        sizes = [prod(plan.cache_shape()) for _, plan in plans]
        count, layers = sum(sizes), len(self.network.layers)
        if self._cache is None or self._cache.shape[1] < count:
            self._cache = None
            self._cache = self.device.torch.empty((layers, count), dtype=self.network.dtype, device=self.device.device).normal_()
        starts = np.cumsum([0, *sizes]).tolist()
        return [
            [self._cache[layer, begin : begin + size].view(plan.cache_shape()) for layer in range(layers)]
            for begin, size, (_, plan) in zip(starts, sizes, plans, strict=False)
        ]


def _sampled(decoding: Batch, prefilling: Batch) -> list[int]:
    """Rows that get logits: every decoding request, and the last token of each chunk."""
    ends = decoding.tokens + np.cumsum(prefilling.new_tokens, dtype=np.int64) - 1
    return [*range(decoding.tokens), *(int(e) for e in ends)]


def _layers(plan: ReplayPlan, model: ModelArchitecture, parallel: Parallel, device: TorchDevice, wanted: int | None) -> int:
    if wanted is not None:
        if not 1 <= wanted <= model.num_layers:
            raise ConfigError(f"--layers is {wanted}; {model.name} has {model.num_layers} layers")
        return wanted
    head = head_operators(model, parallel)
    outside = 2 * max(weight_bytes(head.output), weight_bytes(head.embedding))
    largest = max(weight_bytes(layer_operators(model, parallel, i)) for i in range(model.num_layers))
    cached = max((sum(s.contexts) + sum(new + before for new, before in s.chunks) for s in plan.steps), default=0)
    largest += int(cached * model.kv_bytes_per_token_layer(2, parallel.tp))
    fits = int((_MEMORY_FRACTION * device.free_bytes() - outside) / largest)
    if fits < 1:
        raise ModelError(f"model '{model.name}': not even one layer ({largest / 2**30:.1f} GiB) fits the free memory of {device.name}")
    return min(fits, model.num_layers)


def _as_point(step: ReplayStep) -> Any:
    new = sum(n for n, _ in step.chunks)
    return point("step", 0, number=step.step, decoding=len(step.contexts), context=sum(step.contexts), prefilling=new)
