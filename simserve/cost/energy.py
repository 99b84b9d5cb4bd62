"""Joules of a run, from its totals: what the devices draw idle and busy, and what arithmetic, memory and links cost on top.

    E = devices (idle_w idle_s + busy_w busy_s) + joules_per_flop FLOPs + joules_per_hbm_byte bytes + joules_per_activation_byte bytes
        + joules_per_link_byte link bytes

The busy part is at most TDP x busy_s. Figures and their sources are in the device section of the hardware profile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.cost.experts import coverage
from simserve.hardware.device import Device
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_groups, layer_operators, stage_transfer_bytes_per_token, stage_weight_bytes
from simserve.model.operators import AllGather, AllReduce, Elementwise, ExpertExchange, Gemm, MoE, Operator
from simserve.model.parallel import Parallel

F64 = NDArray[np.float64]


class StepTotals(NamedTuple):
    """Equal steps counted together, one entry for each such group.

    steps            how many; a fraction where only a part of the layers runs so (layered prefill)
    tokens           new tokens of one of them, decodes and prompt tokens together
    attended_tokens  keys read by one of them: contexts of the decodes, and of each prompt chunk
    pairs            (query, key) pairs of all of them
    """

    steps: F64
    tokens: F64
    attended_tokens: F64
    pairs: F64


class Traffic(NamedTuple):
    """What the devices of an instance move, all together.

    weight_bytes    read in a step, experts left out; expert_bytes: of all routed experts
    token_bytes     activations read and written for one token; link_bytes: sent for one token between devices
    """

    weight_bytes: float
    expert_bytes: float
    token_bytes: float
    link_bytes: float


class Work(NamedTuple):
    """What the devices of an instance do in their steps, all together.

    flops             as bf16: a faster type counts less in proportion to its peak. Experts' rows fill whole tiles
    hbm_bytes         weights and keys and values read
    activation_bytes  read and written between operators
    link_bytes        sent between devices
    """

    flops: float
    hbm_bytes: float
    activation_bytes: float
    link_bytes: float


EXPERT_TILE_ROWS = 64
"""Rows that the tensor cores multiply at least where an expert has any: a warp group's matrix instruction has 64 on Hopper, and fused
kernels sort tokens into blocks of 16 to 128 an expert. Its power tells: gpt-oss-120b at batch 8 draws as much as a dense model with
twice its reads (docs/power-accuracy.md)."""


@lru_cache(maxsize=64)  # instances of a cluster are alike
def traffic(model: ModelArchitecture, parallel: Parallel) -> Traffic:
    """Bytes moved by a model in a layout."""
    ranks = parallel.tp * parallel.dp
    experts = token = link = 0.0
    for stage in range(parallel.pp):
        for layer, count in layer_groups(model, parallel, stage):
            for op in layer_operators(model, parallel, layer):
                experts += count * ranks * op.weight_bytes if isinstance(op, MoE) else 0.0
                token += count * (ranks if isinstance(op, MoE) else parallel.tp) * _activation_bytes(op)
                link += count * parallel.tp * _link_bytes(op)
    head = head_operators(model, parallel)
    embedding = ranks * sum(getattr(op, "weight_bytes", 0) for op in head.embedding)
    weights = float(sum(stage_weight_bytes(model, parallel))) * ranks - experts
    if not model.tie_word_embeddings or parallel.pp > 1:
        weights -= embedding  # looked up, not read
    link += (parallel.pp - 1) * parallel.tp * stage_transfer_bytes_per_token(model, parallel)
    return Traffic(weights, experts, token, link)


def work(device: Device, model: ModelArchitecture, parallel: Parallel, steps: StepTotals) -> Work:
    """What an instance's devices do in these steps."""
    moved = traffic(model, parallel)
    tokens = float((steps.steps * steps.tokens).sum())
    hit = _experts_hit(model, steps.tokens)
    read = float((steps.steps * (moved.weight_bytes + moved.expert_bytes * hit)).sum())
    kv = attention = 0.0
    for window, kv_bytes, pair_flops in _by_window(model):
        # No new token reads more keys than the window: exact for decodes longer (or shorter) than it, an upper bound for prompts.
        most = steps.tokens * window if window else np.inf
        kv += float((steps.steps * np.minimum(steps.attended_tokens, most)).sum()) * kv_bytes
        attention += float(np.minimum(steps.pairs, steps.steps * most).sum()) * pair_flops
    flops = tokens * _flops_per_token(model) + float((steps.steps * _padding_flops(model, steps.tokens, hit)).sum())
    # Attention runs in the model's own type.
    method = model.quantisation.experts if any(model.moe_layers) else model.quantisation.mlp
    fraction = device.peak("bf16") / device.peak(model.dtype if method == "none" else method)
    return Work(fraction * flops + attention, read + kv, tokens * moved.token_bytes, tokens * moved.link_bytes)


def energy_j(device: Device, model: ModelArchitecture, parallel: Parallel, steps: StepTotals, busy_s: float, run_s: float) -> float | None:
    """Joules of an instance over `run_s` seconds, `busy_s` of them with a step in progress; None when the profile states no figures."""
    figures = device.energy
    if figures is None:
        return None
    done = work(device, model, parallel, steps)
    per_activation = figures.joules_per_activation_byte or figures.joules_per_hbm_byte
    joules = figures.joules_per_flop * done.flops + figures.joules_per_hbm_byte * done.hbm_bytes
    joules += per_activation * done.activation_bytes + figures.joules_per_link_byte * done.link_bytes
    busy = min(parallel.devices * figures.busy_w * busy_s + joules, parallel.devices * device.tdp_w * busy_s)
    return parallel.devices * device.idle_w * (run_s - busy_s) + busy


def _padding_flops(model: ModelArchitecture, tokens: F64, hit: F64) -> F64:
    """FLOPs on the empty rows of the experts' tiles in one step: an expert that any token chose fills its last tile by half on average."""
    if model.experts is None:
        return np.zeros(len(tokens))
    rows, chosen = tokens * model.experts.experts_per_token, hit * model.experts.num_experts
    return np.maximum(chosen * EXPERT_TILE_ROWS - rows, chosen * EXPERT_TILE_ROWS / 2.0) * _flops_per_expert_row(model)


@lru_cache(maxsize=64)
def _flops_per_expert_row(model: ModelArchitecture) -> int:
    """FLOPs of one token in one routed expert of every layer that has experts."""
    assert model.experts is not None
    return 2 * sum(
        model.layer_parameters(layer)["experts"] // model.experts.num_experts for layer, moe in enumerate(model.moe_layers) if moe
    )


@lru_cache(maxsize=64)
def _by_window(model: ModelArchitecture) -> tuple[tuple[int, float, float], ...]:
    """Attention layers with the same window together: the window (0 = none), their KV bytes a token and FLOPs a (query, key) pair."""
    layers = [layer for layer in range(model.num_layers) if model.attends(layer)]
    per_layer = model.attention_flops_per_pair() / max(len(layers), 1)
    found = []
    for window in sorted({model.layer_windows[layer] for layer in layers}):
        alike = [layer for layer in layers if model.layer_windows[layer] == window]
        found.append((window, float(model.kv_bytes_of_layers(alike)), per_layer * len(alike)))
    return tuple(found)


@lru_cache(maxsize=64)
def _flops_per_token(model: ModelArchitecture) -> int:
    return model.flops_per_token(logits=False)


def _experts_hit(model: ModelArchitecture, tokens: F64) -> F64:
    """Fraction of the experts that a step's tokens choose."""
    if model.experts is None:
        return np.zeros(len(tokens))
    return coverage(tokens, model.experts.num_experts, model.experts.experts_per_token)


def expert_bytes(model: ModelArchitecture, parallel: Parallel, steps: F64, tokens: F64) -> float | None:
    """Bytes of expert weights that an instance's steps read from memory, on all devices together; None for a model without experts.

    steps, tokens  as of StepTotals. Each layer of a step reads the experts that the step's tokens choose, once.
    """
    if model.experts is None:
        return None
    return float((steps * _experts_hit(model, tokens)).sum()) * traffic(model, parallel).expert_bytes


def _activation_bytes(op: Operator) -> float:
    """Bytes of activations that one rank reads and writes for one token, 2 bytes an element."""
    if isinstance(op, Gemm):
        return 2.0 * (op.n + op.k)
    if isinstance(op, MoE):
        return 2.0 * op.experts_per_token / op.expert_parallel * (3.0 * op.intermediate_size / op.tensor_parallel + 2.0 * op.hidden_size)
    return float(op.bytes_per_token) if isinstance(op, Elementwise) else 0.0


def _link_bytes(op: Operator) -> float:
    """Bytes that one rank sends for one token: rings for collectives (see operators/collective.py), a copy to each expert's rank."""
    if isinstance(op, AllReduce):
        return 2.0 * (op.group - 1) / op.group * op.bytes_per_token
    if isinstance(op, AllGather):
        return (op.group - 1) / op.group * op.bytes_per_token
    return float(op.bytes_per_token) * min(op.experts_per_token, op.group - 1) if isinstance(op, ExpertExchange) else 0.0
