"""A model laid out over devices: pipeline stages, work outside the layers, weights and KV cache of the fullest rank."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from simserve.model.architecture import ModelArchitecture
from simserve.model.blocks import ACTIVATION_BYTES, all_reduce, kernel_format, norm
from simserve.model.layer import layer_operators
from simserve.model.matrices import LayerKind
from simserve.model.operators import AllGather, Elementwise, Gemm, Operator, weight_bytes
from simserve.model.parallel import Parallel, check
from simserve.model.weight_format import PLAIN

__all__ = [
    "HeadOperators",
    "Parallel",
    "check",
    "head_operators",
    "layer_groups",
    "layer_operators",
    "rank_kv_bytes_per_token",
    "rank_weight_bytes",
    "stage_layers",
    "stage_transfer_bytes_per_token",
    "stage_weight_bytes",
]

_VOCAB_PADDING = 64  # vLLM pads the vocabulary to a multiple of 64 before it is split


class HeadOperators(NamedTuple):
    """Operators outside the layers: the first stage embeds tokens, the last makes logits (one row per sequence that samples)."""

    embedding: tuple[Operator, ...]
    output: tuple[Operator, ...]


def stage_layers(model: ModelArchitecture, parallel: Parallel) -> tuple[range, ...]:
    """The layers of each pipeline stage: equal parts; what is left goes to the stages before the last, which holds the LM head (vLLM)."""
    each, left = divmod(model.num_layers, parallel.pp)
    sizes = [each] * parallel.pp
    for i in range(left):
        sizes[-(i + 2)] += 1
    starts = [sum(sizes[:i]) for i in range(parallel.pp + 1)]
    return tuple(range(a, b) for a, b in pairwise(starts))


def layer_groups(model: ModelArchitecture, parallel: Parallel | None = None, stage: int = 0) -> tuple[tuple[int, int], ...]:
    """Layers of a stage that are alike, as (index of the first, how many). Without `parallel`, over the whole model."""
    first: dict[LayerKind, int] = {}
    count: dict[LayerKind, int] = {}
    for layer in stage_layers(model, parallel or Parallel())[stage]:
        kind = model.layer_kind(layer)
        first.setdefault(kind, layer)
        count[kind] = count.get(kind, 0) + 1
    return tuple((first[kind], count[kind]) for kind in first)


@lru_cache(maxsize=256)
def head_operators(model: ModelArchitecture, parallel: Parallel) -> HeadOperators:
    """Embedding (first stage), and final norm, LM head and sampling (last stage), of one rank; the vocabulary is split over tp."""
    check(model, parallel)
    h = model.hidden_size
    columns = -(-_padded_vocab(model) // parallel.tp)
    table_bytes = columns * h * ACTIVATION_BYTES
    embedding: list[Operator] = [Elementwise("emb", h, 2 * h * ACTIVATION_BYTES, table_bytes)]
    if parallel.tp > 1:
        embedding.append(all_reduce(model, "emb_all_reduce", parallel.tp))
    if model.learned_positions:
        position_bytes = model.learned_positions * h * ACTIVATION_BYTES
        embedding.append(Elementwise("position_emb", h, 3 * h * ACTIVATION_BYTES, position_bytes))
    if model.embedding_norm:
        embedding.append(norm(model, "emb_layernorm"))
    # A tied LM head reads the embedding's weights; it needs a copy of its own only when another stage holds them.
    stored = PLAIN if model.tie_word_embeddings else model.quantisation.lm_head
    owned = 0 if model.tie_word_embeddings and parallel.pp == 1 else stored.bytes_of(columns * h, h)
    owned += model.lm_head_bias * columns * ACTIVATION_BYTES
    output: list[Operator] = [norm(model, "final_layernorm"), Gemm("lm_head", columns, h, kernel_format(model, stored), owned)]
    if parallel.tp > 1:
        output.append(AllGather("logits_all_gather", _padded_vocab(model) * ACTIVATION_BYTES, parallel.tp))
    # Sampling casts logits to float32, scales and takes the softmax of them: about one read in 16 bit and three passes in 32 bit.
    output.append(Elementwise("sampler", model.vocab_size, model.vocab_size * (2 + 3 * 4)))
    return HeadOperators(tuple(embedding), tuple(output))


def stage_weight_bytes(model: ModelArchitecture, parallel: Parallel) -> tuple[int, ...]:
    """Bytes of weights on one rank of each pipeline stage."""
    head = head_operators(model, parallel)
    totals = []
    for stage in range(parallel.pp):
        total = sum(count * weight_bytes(layer_operators(model, parallel, layer)) for layer, count in layer_groups(model, parallel, stage))
        total += weight_bytes(head.embedding) if stage == 0 else 0
        total += weight_bytes(head.output) if stage == parallel.pp - 1 else 0
        totals.append(total)
    return tuple(totals)


def rank_weight_bytes(model: ModelArchitecture, parallel: Parallel) -> int:
    """Bytes of weights on the fullest rank (of the heaviest pipeline stage)."""
    return max(stage_weight_bytes(model, parallel))


def rank_kv_bytes_per_token(model: ModelArchitecture, parallel: Parallel, kv_dtype_bytes: float = 2) -> float:
    """Bytes that one cached token takes on the fullest rank: the stage with most attention layers, heads split over tp.

    With dp > 1 each data-parallel replica caches only its own sequences.
    """
    check(model, parallel)
    return max(model.kv_bytes_of_layers(stage, kv_dtype_bytes, parallel.tp) for stage in stage_layers(model, parallel))


def stage_transfer_bytes_per_token(model: ModelArchitecture, parallel: Parallel) -> int:
    """Bytes a token that one rank sends to the next pipeline stage: hidden state and, with RMSNorm models, the residual; each tp rank
    sends its part (vLLM gathers them on arrival)."""
    tensors = 2 if model.norm == "rmsnorm" else 1
    return tensors * model.hidden_size * ACTIVATION_BYTES // parallel.tp


def _padded_vocab(model: ModelArchitecture) -> int:
    return -(-model.vocab_size // _VOCAB_PADDING) * _VOCAB_PADDING
