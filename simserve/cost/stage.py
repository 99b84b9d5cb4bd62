"""One pipeline stage: its tables, put together from the operators of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simserve.cost.decode import Attending, DecodeAttention
from simserve.cost.kernels import KernelChoice
from simserve.cost.lines import Segments
from simserve.cost.options import CostOptions
from simserve.cost.prefill import PrefillAttention
from simserve.cost.tokens import Counted, TokenTable, kernel_count
from simserve.cost.verification import VerifyAttention
from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_groups, layer_operators, stage_layers, stage_transfer_bytes_per_token
from simserve.model.operators import MLA, Attention, Gemm, IndexerScores, Operator
from simserve.model.parallel import Parallel

Sum = tuple[float, tuple[float, ...], float, float]
"""Of a stage, seconds of the parts that depend on numbers of tokens only, in the order of `breakdown`: the sum of those before attention
to prompts, each of those after it; the least that launching takes; sending the activations on."""

StageRow = tuple[float, float, float, tuple[Segments, Segments] | None]
"""Of a stage, for a number of decoding sequences: seconds of all but attention, the least that launching takes, sending the activations on,
and its attention to all of them and to the longest; None where that is as on the stage before."""

_FIRST_TOKENS = 8192
_FIRST_ROWS = 512


@dataclass(slots=True)
class Stage:
    """Tables of one stage. `rows` is over sequences that need logits (0 everywhere but on the last stage). `graph_pieces` counts its
    layers, at each of which a piecewise graph is cut.

    Where prompts skip layers, `skipped` is what those layers cost over the other tokens (decodes and the last of each prompt), and
    `skipped_keys` what making their keys and values costs over prompt tokens. `tokens` then has the other layers only.
    """

    tokens: TokenTable
    rows: TokenTable
    decode: DecodeAttention
    prefill: PrefillAttention
    verify: VerifyAttention
    stage_transfer: list[float]
    launched_kernels: int
    graph_pieces: int
    skipped: TokenTable | None = None
    skipped_keys: TokenTable | None = None


def build_stages(
    model: ModelArchitecture, parallel: Parallel, kernels: KernelChoice, max_context_tokens: int, extra: tuple[Operator, ...] = ()
) -> tuple[Stage, ...]:
    """The stages of an instance; `extra` runs over every token before the first layer.

    Raises ModelError for an operator without a kernel model or an impossible layout.
    """
    head = head_operators(model, parallel)
    stages: list[Stage] = []
    of_stages: list[tuple[list[tuple[Attending, int]], list[tuple[Attending, int]]]] = []
    for index in range(parallel.pp):
        last = index == parallel.pp - 1
        operators: list[Counted] = [(op, 1) for op in ((*head.embedding, *extra) if index == 0 else ())]
        attention: list[tuple[Attending, int]] = []
        prompt_attention: list[tuple[Attending, int]] = []
        skipped: list[Counted] = []
        keys: list[Counted] = []
        for layer, count, early in _early_layers(model, parallel, index, kernels):
            for op in layer_operators(model, parallel, layer):
                if isinstance(op, Attending):
                    attention.append((op, count))
                    prompt_attention.append((op, early))
                if not isinstance(op, Attention | IndexerScores):  # MLA brings a matrix multiplication too
                    operators.append((op, early))
                    skipped.append((op, count - early))
            caches = -(-(count - early) // kernels.options.kv_layers_per_cache)
            keys += [(op, caches) for op in _key_projections(layer_operators(model, parallel, layer))] if caches else []
        output: list[Counted] = [(op, 1) for op in head.output] if last else []
        # Stages of alike layers share their attention, which is then looked up once a step.
        alike = next((s for s, layers in zip(stages, of_stages, strict=True) if layers == (attention, prompt_attention)), None)
        of_stages.append((attention, prompt_attention))
        stages.append(
            Stage(
                TokenTable(kernels, operators, _FIRST_TOKENS, parallel.dp),
                TokenTable(kernels, output, _FIRST_ROWS, parallel.dp),
                alike.decode if alike else DecodeAttention(kernels, attention, max_context_tokens, parallel.dp),
                alike.prefill if alike else PrefillAttention(kernels, prompt_attention, max_context_tokens, parallel.dp),
                alike.verify if alike else VerifyAttention(kernels, attention, max_context_tokens, parallel.dp),
                [] if last else _stage_transfer(model, parallel, kernels),
                kernel_count([*operators, *skipped, *output, *((op, n) for op, n in attention if not isinstance(op, MLA))]),
                len(stage_layers(model, parallel)[index]),
                TokenTable(kernels, skipped, _FIRST_TOKENS, parallel.dp) if keys else None,
                TokenTable(kernels, keys, _FIRST_TOKENS, parallel.dp) if keys else None,
            )
        )
    return tuple(stages)


def check_options(options: CostOptions, model: ModelArchitecture, parallel: Parallel) -> None:
    """Raises ModelError for options that this model or layout cannot take."""
    if options.is_plain:
        return
    if options.expert_imbalance > 1.0 and model.experts is None:
        raise ModelError(f"model '{model.name}' has no experts: expert_imbalance must be 1")
    if model.mla is not None and (options.changes_decode_attention or options.prefill_layer_fraction < 1.0):
        raise ModelError(f"model '{model.name}': its latent attention (MLA) takes no options for the cache, attention or skipped layers")
    if any(model.linear_layers) and options.prefill_layer_fraction < 1.0:
        raise ModelError(f"model '{model.name}': linear-attention layers cannot be skipped in prefill (prefill_layer_fraction)")
    if model.attention_layers < model.num_layers and options.prefill_layer_fraction < 1.0:
        raise ModelError(f"model '{model.name}': layers without attention cannot be skipped in prefill (prefill_layer_fraction)")
    if options.kv_representation == "layer-input" and parallel.tp > 1:
        raise ModelError(f"kv_representation layer-input is modelled for tp 1 only, found tp {parallel.tp}")
    if options.task_table is not None:
        if model.mla is not None:
            raise ModelError(
                f"model '{model.name}': task_table deals tiles of grouped-query attention; latent attention (MLA) goes without it"
            )
        if parallel.dp > 1:
            raise ModelError(f"task_table is modelled for one attention replica, found dp {parallel.dp}")


def _early_layers(model: ModelArchitecture, parallel: Parallel, index: int, kernels: KernelChoice) -> Iterator[tuple[int, int, int]]:
    """(first layer, how many, how many of them run over prompts) of each kind of layer in a stage."""
    limit = kernels.options.early_layers(model)
    for layer, count in layer_groups(model, parallel, index):
        alike = (i for i in stage_layers(model, parallel)[index] if model.layer_kind(i) == model.layer_kind(layer))
        yield layer, count, sum(i < limit for i in alike)


def _key_projections(operators: tuple[Operator, ...]) -> list[Operator]:
    """What a skipped layer still runs for a prompt: its key and value columns of the fused projection (SwiftKV, arXiv 2410.03960)."""
    (attention,) = (op for op in operators if isinstance(op, Attention))
    columns = 2 * attention.kv_heads * attention.head_dim
    return [Gemm("attn_kv_proj", columns, op.k, op.dtype, 0) for op in operators if isinstance(op, Gemm) and op.name == "attn_pre_proj"]


def _stage_transfer(model: ModelArchitecture, parallel: Parallel, kernels: KernelChoice) -> list[float]:
    """Seconds at zero and one token of the straight line through the transfer of 1 and of 1,024 tokens to the next stage."""
    per_token = stage_transfer_bytes_per_token(model, parallel)
    group = 2 if parallel.tp * parallel.pp <= kernels.profile.device.devices_per_node else kernels.profile.device.devices_per_node + 1
    few, many = kernels.communication("p2p", group, np.array([1.0, 1024.0]) * per_token, "bf16").tolist()
    slope = max(many - few, 0.0) / 1023.0
    return [few - slope, slope]
