"""What a language model is made of: dimensions, parameters, weight bytes and KV-cache bytes. Text decoder only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

from simserve.errors import ModelError
from simserve.model.parts import Experts, LatentAttention, LinearAttention, SparseIndexer
from simserve.model.quantisation import UNQUANTISED, ComputeDtype, Quantisation

_AT_LEAST_ONE = ("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "head_dim", "vocab_size", "max_position_embeddings")


class LayerKind(NamedTuple):
    """What tells two layers of one model apart: token mixer, attention window (0 = full), kind of MLP, and whether an indexer of its own
    chooses the tokens it attends to."""

    mixer: Literal["gqa", "mla", "linear"]
    window_tokens: int
    moe: bool
    indexer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """A decoder-only transformer, hashable. Vision and audio towers and multi-token-prediction layers are excluded (see `notes`).

    num_kv_heads     key/value heads of grouped-query attention (= num_attention_heads for MHA, 1 for MQA, unused by MLA).
    intermediate_size   width of a dense MLP layer; `gated_mlp` = gate and up projections (SwiGLU) instead of one.
    parallel_attention_mlp   attention and MLP read the same normalised input (Falcon, GPT-J, Phi-2): one all-reduce a layer.
    learned_positions   rows of a learned position table (OPT), 0 = rotary or ALiBi; `rotary` tells the last two apart.
    norm, norms_per_layer   layernorm has a bias (2 elements a channel), rmsnorm has not.
    attention_output_gate   the query projection also makes a gate of the same width (Qwen3.5).
    layer_windows    per layer, tokens that a query can attend to, 0 = all. `window_kind`: `sliding`, or `chunked` (Llama-4: tokens of
                     the same aligned chunk, half a chunk on average).
    moe_layers       per layer, whether its MLP is `experts`. linear_layers: whether its mixer is `linear_attention`.
    indexer_layers   per layer, whether it scores with an `indexer` of its own; the others attend to what the one before chose (GLM-5.2).
                     Empty: all of them, if there is an indexer.
    """

    name: str
    family: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_windows: tuple[int, ...]
    moe_layers: tuple[bool, ...]
    linear_layers: tuple[bool, ...]
    window_kind: Literal["sliding", "chunked"] = "sliding"
    dtype: ComputeDtype = "bf16"
    quantisation: Quantisation = UNQUANTISED
    gated_mlp: bool = True
    parallel_attention_mlp: bool = False
    tie_word_embeddings: bool = False
    learned_positions: int = 0
    rotary: bool = True
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norms_per_layer: int = 2
    embedding_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    qk_norm: bool = False
    attention_output_gate: bool = False
    attention_sinks: bool = False
    mla: LatentAttention | None = None
    indexer: SparseIndexer | None = None
    indexer_layers: tuple[bool, ...] = ()
    linear_attention: LinearAttention | None = None
    experts: Experts | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ModelError when a dimension is not positive or two of them contradict each other."""
        for key in _AT_LEAST_ONE:
            if getattr(self, key) < 1:
                raise ModelError(f"model '{self.name}': {key} is {getattr(self, key)}, it must be at least 1")
        if self.mla is None and self.num_attention_heads % self.num_kv_heads:
            raise ModelError(
                f"model '{self.name}': num_attention_heads {self.num_attention_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        for column in ("layer_windows", "moe_layers", "linear_layers"):
            if len(getattr(self, column)) != self.num_layers:
                raise ModelError(f"model '{self.name}': {column} has {len(getattr(self, column))} entries for {self.num_layers} layers")
        if self.indexer_layers and len(self.indexer_layers) != self.num_layers:
            raise ModelError(f"model '{self.name}': indexer_layers has {len(self.indexer_layers)} entries for {self.num_layers} layers")
        if any(self.moe_layers) and self.experts is None:
            raise ModelError(f"model '{self.name}': layers are marked as mixture of experts but the experts are not described")
        if self.experts is not None and not 1 <= self.experts.experts_per_token <= self.experts.num_experts:
            raise ModelError(
                f"model '{self.name}': a token cannot use {self.experts.experts_per_token} of {self.experts.num_experts} experts"
            )
        if not all(self.moe_layers) and self.intermediate_size < 1:
            raise ModelError(f"model '{self.name}': intermediate_size is {self.intermediate_size} but some layers have a dense MLP")

    # ---- layers ----

    def layer_kind(self, layer: int) -> LayerKind:
        """The kind of layer `layer` (0-based)."""
        if self.linear_layers[layer]:
            return LayerKind("linear", 0, self.moe_layers[layer])
        own_indexer = self.indexer is not None and (not self.indexer_layers or self.indexer_layers[layer])
        return LayerKind("gqa" if self.mla is None else "mla", self.layer_windows[layer], self.moe_layers[layer], own_indexer)

    @property
    def attention_layers(self) -> int:
        """Layers with a KV cache."""
        return self.num_layers - sum(self.linear_layers)

    # ---- parameters ----

    def layer_parameters(self, layer: int) -> Counter[str]:
        """Parameters of one layer by part: attention, indexer, linear_attention, mlp, experts, shared_experts, router, biases, norms."""
        h, kind, parts = self.hidden_size, self.layer_kind(layer), Counter[str]()
        norm_width = 1 if self.norm == "rmsnorm" else 2
        parts["norms"] = self.norms_per_layer * norm_width * h
        if kind.mixer == "linear":
            linear = self.linear_attention
            assert linear is not None
            parts["linear_attention"] = linear.weights(h)
            parts["norms"] += linear.value_head_dim + 2 * linear.num_value_heads
        elif self.mla is not None:
            parts["attention"] = self.mla.weights(h, self.num_attention_heads)
            parts["norms"] += (self.mla.q_lora_rank or 0) + self.mla.kv_lora_rank
            if self.indexer is not None and kind.indexer:
                parts["indexer"] = self.indexer.weights(h, self.mla.q_lora_rank or h)
                parts["norms"] += 2 * self.indexer.head_dim
        else:
            q, kv = self.num_attention_heads * self.head_dim, self.num_kv_heads * self.head_dim
            columns = q * (2 if self.attention_output_gate else 1) + 2 * kv
            parts["attention"] = h * columns + q * h
            parts["biases"] += columns * self.qkv_bias + h * self.output_bias + self.num_attention_heads * self.attention_sinks
            parts["norms"] += 2 * self.head_dim * self.qk_norm
        if kind.moe:
            experts = self.experts
            assert experts is not None
            parts["experts"] = experts.num_experts * experts.weights_of_one(h)
            parts["shared_experts"] = 3 * h * experts.shared_intermediate_size
            parts["router"] = h * experts.num_experts + h * experts.shared_gate
            parts["biases"] += experts.num_experts * (experts.biases_of_one(h) + experts.router_bias)
        else:
            up = (2 if self.gated_mlp else 1) * self.intermediate_size
            parts["mlp"] = h * (up + self.intermediate_size)
            parts["biases"] += (up + h) * self.mlp_bias
        return parts

    def parameter_parts(self) -> dict[str, int]:
        """All parameters by part; the parts of `layer_parameters` summed over layers, and embedding, positions, lm_head (0 when tied)."""
        norm_width = 1 if self.norm == "rmsnorm" else 2
        parts = Counter[str](
            embedding=self.vocab_size * self.hidden_size,
            positions=self.learned_positions * self.hidden_size,
            norms=(1 + self.embedding_norm) * norm_width * self.hidden_size,
            lm_head=0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size,
            biases=self.vocab_size * self.lm_head_bias,
        )
        for layer in range(self.num_layers):
            parts.update(self.layer_parameters(layer))
        return {part: count for part, count in parts.items() if count}

    def parameters(self) -> int:
        """Parameters in all (a tied embedding counts once)."""
        return sum(self.parameter_parts().values())

    def active_parameters(self) -> int:
        """Parameters that one token meets: all but the experts it is not routed to. The whole embedding table is counted."""
        if self.experts is None:
            return self.parameters()
        e = self.experts
        unused = (e.num_experts - e.experts_per_token) * (e.weights_of_one(self.hidden_size) + e.biases_of_one(self.hidden_size))
        return self.parameters() - sum(self.moe_layers) * unused

    # ---- bytes ----

    def weight_bytes(self) -> int:
        """Bytes of one copy of the weights in the formats of `quantisation`, scales included."""
        quantised = {part: getattr(self.quantisation, part) for part in ("attention", "mlp", "experts", "shared_experts")}
        quantised |= {"indexer": self.quantisation.attention, "linear_attention": self.quantisation.attention}
        return sum(self.quantisation.weight_bytes(quantised.get(part, "none"), count) for part, count in self.parameter_parts().items())

    def kv_bytes_per_token_layer(self, kv_dtype_bytes: float = 2, tp: int = 1) -> float:
        """Bytes that one token adds to the KV cache of one attention layer on one tensor-parallel rank.

        Key/value heads are split over ranks and replicated when there are more ranks than heads; the MLA latent (and the
        index keys of sparse attention) is held whole by every rank. Where only some layers keep index keys, it is the average layer.
        """
        if self.mla is not None:
            share = sum(self.indexer_layers) / self.num_layers if self.indexer_layers else 1
            return self.mla.cached_dim * kv_dtype_bytes + (share * self.indexer.cached_bytes if self.indexer else 0)
        return 2 * max(1, self.num_kv_heads // tp) * self.head_dim * kv_dtype_bytes

    def kv_bytes_per_token(self, kv_dtype_bytes: float = 2) -> float:
        """Bytes that one token adds to the KV cache of the whole model (one copy), windows not yet full."""
        return self.attention_layers * self.kv_bytes_per_token_layer(kv_dtype_bytes)

    def kv_bytes_of_sequence(self, context_tokens: int, kv_dtype_bytes: float = 2) -> float:
        """Bytes of one sequence's cache when layers with a window keep only their window, plus the state of linear layers.

        An engine that pages all layers alike keeps `context_tokens * kv_bytes_per_token()` instead.
        """
        per_layer = self.kv_bytes_per_token_layer(kv_dtype_bytes)
        total = 0.0
        for layer in range(self.num_layers):
            kind = self.layer_kind(layer)
            if kind.mixer == "linear":
                assert self.linear_attention is not None
                total += self.linear_attention.state_bytes()
            else:
                total += per_layer * (min(context_tokens, kind.window_tokens) if kind.window_tokens else context_tokens)
        return total

    # ---- FLOPs ----

    def flops_per_token(self, logits: bool = True) -> int:
        """Useful FLOPs of one token in the matrix multiplications: 2 for each active weight, LM head included when `logits`.

        Attention over the context comes on top (`attention_flops_per_pair`); a linear-attention layer's state update
        (4 multiply-adds for each state element) is included here since it does not grow with the context.
        """
        active = Counter[str]()
        for layer in range(self.num_layers):
            active.update(self.layer_parameters(layer))
        weights = sum(active[p] for p in ("attention", "indexer", "linear_attention", "mlp", "shared_experts", "router"))
        if self.experts is not None:
            weights += active["experts"] // self.experts.num_experts * self.experts.experts_per_token
        if self.linear_attention is not None:
            lin = self.linear_attention
            weights += 4 * sum(self.linear_layers) * lin.num_value_heads * lin.key_head_dim * lin.value_head_dim
        return 2 * (weights + (self.vocab_size * self.hidden_size if logits else 0))

    def attention_flops_per_pair(self) -> int:
        """Useful FLOPs of one (query, key) pair over all attention layers: scores and weighted values, 2 FLOPs a multiply-add.

        Layers with a window meet fewer pairs than the context has; sparse attention meets at most its top-k.
        """
        if self.mla is not None:
            per_layer = 2 * self.num_attention_heads * (self.mla.qk_head_dim + self.mla.v_head_dim)
        else:
            per_layer = 4 * self.num_attention_heads * self.head_dim
        return self.attention_layers * per_layer
