"""Kinds of layers, and the weight matrices of one with their shapes: what a quantised checkpoint stores in a format of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

from simserve.model.parts import Experts, LatentAttention, LinearAttention, SparseIndexer, StateSpace


class LayerKind(NamedTuple):
    """What tells two layers of one model apart.

    mixer          attention (gqa, mla), `linear` (recurrent: delta rule or state space), both side by side, or none
    window_tokens  attention window, 0 = full
    indexer        whether an indexer of its own chooses the tokens it attends to
    kv_heads       key/value heads of grouped-query attention
    mlp_width      of the dense MLP, 0 = none (experts instead, or nothing)
    formats        how its matrices are stored: index into `quantisation.formats`
    """

    mixer: Literal["gqa", "mla", "linear", "gqa+linear", "none"]
    window_tokens: int
    moe: bool
    indexer: bool = False
    kv_heads: int = 0
    mlp_width: int = 0
    formats: int = 0


class Dimensions(Protocol):
    """What a model must tell for its matrices to be known; `ModelArchitecture` does."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def query_rank(self) -> int: ...
    @property
    def attention_output_gate(self) -> bool: ...
    @property
    def gated_mlp(self) -> bool: ...
    @property
    def mla(self) -> LatentAttention | None: ...
    @property
    def indexer(self) -> SparseIndexer | None: ...
    @property
    def linear_attention(self) -> LinearAttention | StateSpace | None: ...
    @property
    def experts(self) -> Experts | None: ...


class Matrix(NamedTuple):
    """`copies` matrices of n output columns and k input rows; `field` is the one of `LayerFormats` that says how they are stored."""

    part: str
    field: str
    n: int
    k: int
    copies: int = 1


def layer_matrices(model: Dimensions, kind: LayerKind) -> Iterator[Matrix]:
    """The matrices of a layer of this kind; router, convolution and biases are none."""
    h = model.hidden_size
    if kind.mixer in ("gqa", "gqa+linear"):
        yield from _grouped(model, kind, h)
    if kind.mixer == "mla":
        yield from _latent(model, kind, h)
    if kind.mixer in ("linear", "gqa+linear"):
        linear = model.linear_attention
        assert linear is not None
        yield Matrix("linear_attention", "linear_in", linear.input_width(), h)
        yield Matrix("linear_attention", "linear_out", h, linear.values_width)
    if kind.moe:
        experts = model.experts
        assert experts is not None
        ups, width, shared = experts.matrices - 1, experts.intermediate_size, experts.shared_intermediate_size
        yield Matrix("experts", "experts_up", ups * width, h, experts.num_experts)
        yield Matrix("experts", "experts_down", h, width, experts.num_experts)
        if shared:
            yield Matrix("shared_experts", "shared_up", ups * shared, h)
            yield Matrix("shared_experts", "shared_down", h, shared)
    elif kind.mlp_width:
        if model.gated_mlp:
            yield Matrix("mlp", "gate", kind.mlp_width, h)
        yield Matrix("mlp", "up", kind.mlp_width, h)
        yield Matrix("mlp", "down", h, kind.mlp_width)


def _grouped(model: Dimensions, kind: LayerKind, h: int) -> Iterator[Matrix]:
    q, kv = model.num_attention_heads * model.head_dim, kind.kv_heads * model.head_dim
    if model.query_rank:
        yield Matrix("attention", "q", model.query_rank, h)
        yield Matrix("attention", "q", q, model.query_rank)
    else:
        yield Matrix("attention", "q", q * (2 if model.attention_output_gate else 1), h)
    yield Matrix("attention", "k", kv, h)
    yield Matrix("attention", "v", kv, h)
    yield Matrix("attention", "o", h, q)


def _latent(model: Dimensions, kind: LayerKind, h: int) -> Iterator[Matrix]:
    mla, heads = model.mla, model.num_attention_heads
    assert mla is not None
    if mla.q_lora_rank is not None:
        yield Matrix("attention", "q", mla.q_lora_rank, h)
    yield Matrix("attention", "q", heads * mla.qk_head_dim, mla.q_lora_rank or h)
    yield Matrix("attention", "k", mla.cached_dim, h)
    yield Matrix("attention", "kv_b", heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank)
    yield Matrix("attention", "o", h, heads * mla.v_head_dim)
    if model.indexer is not None and kind.indexer:
        yield Matrix("indexer", "q", model.indexer.num_heads * model.indexer.head_dim, mla.q_lora_rank or h)
        yield Matrix("indexer", "k", model.indexer.head_dim + model.indexer.num_heads, h)
