"""What a language model is made of: dimensions, parameters, weight bytes and KV-cache bytes. Text decoder only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from simserve.errors import ModelError
from simserve.model.matrices import LayerKind, layer_matrices
from simserve.model.parts import Experts, LatentAttention, LinearAttention, SparseIndexer, StateSpace
from simserve.model.quantisation import UNQUANTISED, ComputeDtype, Quantisation
from simserve.model.weight_format import PLAIN

_AT_LEAST_ONE = ("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "head_dim", "vocab_size", "max_position_embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """A decoder-only transformer, hashable. Vision and audio towers are excluded (see `notes`), multi-token-prediction layers counted.

    num_kv_heads     key/value heads of grouped-query attention (= num_attention_heads for MHA, 1 for MQA, unused by MLA).
    intermediate_size   width of a dense MLP layer; `gated_mlp` = gate and up projections (SwiGLU) instead of one.
    parallel_attention_mlp   attention and MLP read the same normalised input (Falcon, GPT-J, Phi-2): one all-reduce a layer.
    learned_positions   rows of a learned position table (OPT), 0 = rotary or ALiBi; `rotary` tells the last two apart.
    norm, norms_per_layer   layernorm has a bias (2 elements a channel), rmsnorm has not.
    attention_output_gate   the query projection also makes a gate of the same width (Qwen3.5).
    layer_windows    per layer, tokens that a query can attend to, 0 = all. `window_kind`: `sliding`, or `chunked` (Llama-4: tokens of
                     the same aligned chunk, half a chunk on average).
    moe_layers       per layer, whether its MLP is `experts`. linear_layers: whether it has a recurrent mixer, `linear_attention`.
    attending_layers per layer, whether it has attention; empty: all that have no recurrent mixer. Both: side by side (Falcon-H1), and
                     neither: an MLP alone (Nemotron-H) or a layer whose attention was taken out (Llama-Nemotron).
    layer_kv_heads, layer_widths   per layer, key/value heads and width of the dense MLP (0 = none); empty: the same in all.
    query_rank       queries are made through a normalised vector of so many elements (Step-3), 0 = directly.
    norms_per_layer  of a layer with attention and MLP; a layer that lacks one of them has half.
    qk_norm          RMSNorm of each head's query and key; qk_norm_whole: of all heads together (OLMo).
    assumptions      what the configuration does not say and was taken to be so; listed with every result.
    indexer_layers   per layer, whether it scores with an `indexer` of its own; the others attend to what the one before chose (GLM-5.2).
                     Empty: all of them, if there is an indexer.
    taken            what a name that is not this model's was taken for, a sentence; '' = the name is its own.
    mtp_layers       multi-token-prediction layers of the checkpoint, none of them among the `num_layers` nor in parameters and bytes: they
                     draft where speculation asks for them.
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
    qk_norm_whole: bool = False
    query_rank: int = 0
    attention_output_gate: bool = False
    attention_sinks: bool = False
    mla: LatentAttention | None = None
    indexer: SparseIndexer | None = None
    indexer_layers: tuple[bool, ...] = ()
    linear_attention: LinearAttention | StateSpace | None = None
    attending_layers: tuple[bool, ...] = ()
    layer_kv_heads: tuple[int, ...] = ()
    layer_widths: tuple[int, ...] = ()
    experts: Experts | None = None
    mtp_layers: int = 0
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    taken: str = field(default="", repr=False)

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
        for column in ("indexer_layers", "attending_layers", "layer_kv_heads", "layer_widths"):
            if getattr(self, column) and len(getattr(self, column)) != self.num_layers:
                raise ModelError(f"model '{self.name}': {column} has {len(getattr(self, column))} entries for {self.num_layers} layers")
        for heads in set(self.layer_kv_heads):
            if heads < 1 or self.num_attention_heads % heads:
                raise ModelError(f"model '{self.name}': {heads} key/value heads of a layer do not divide num_attention_heads")
        if any(self.linear_layers) and self.linear_attention is None:
            raise ModelError(f"model '{self.name}': layers are marked as recurrent but their mixer is not described")
        if self.attention_layers < 1:
            raise ModelError(f"model '{self.name}': no layer has attention; models without a KV cache are not supported")
        if any(self.moe_layers) and self.experts is None:
            raise ModelError(f"model '{self.name}': layers are marked as mixture of experts but the experts are not described")
        if self.experts is not None and not 1 <= self.experts.experts_per_token <= self.experts.num_experts:
            raise ModelError(
                f"model '{self.name}': a token cannot use {self.experts.experts_per_token} of {self.experts.num_experts} experts"
            )
        if not all(self.moe_layers) and self.intermediate_size < 1 and not self.layer_widths:
            raise ModelError(f"model '{self.name}': intermediate_size is {self.intermediate_size} but some layers have a dense MLP")

    # ---- layers ----

    def layer_kind(self, layer: int) -> LayerKind:
        """The kind of layer `layer` (0-based)."""
        linear, attends, moe = self.linear_layers[layer], self.attends(layer), self.moe_layers[layer]
        width = 0 if moe else self.layer_widths[layer] if self.layer_widths else self.intermediate_size
        formats = self.quantisation.layer_formats[layer] if self.quantisation.formats else 0
        if not attends:
            return LayerKind("linear" if linear else "none", 0, moe, mlp_width=width, formats=formats)
        own_indexer = self.indexer is not None and (not self.indexer_layers or self.indexer_layers[layer])
        mixer: Literal["gqa", "mla", "gqa+linear"] = "gqa+linear" if linear else "gqa" if self.mla is None else "mla"
        return LayerKind(mixer, self.layer_windows[layer], moe, own_indexer, self.kv_heads(layer), width, formats)

    def attends(self, layer: int) -> bool:
        """Whether the layer has attention, and so a KV cache."""
        return self.attending_layers[layer] if self.attending_layers else not self.linear_layers[layer]

    def kv_heads(self, layer: int) -> int:
        """Key/value heads of the layer's grouped-query attention."""
        return self.layer_kv_heads[layer] if self.layer_kv_heads else self.num_kv_heads

    @property
    def attention_layers(self) -> int:
        """Layers with a KV cache."""
        return sum(self.attending_layers) if self.attending_layers else self.num_layers - sum(self.linear_layers)

    @property
    def recurrent_layers(self) -> int:
        """Layers with a recurrent state for each sequence."""
        return sum(self.linear_layers)

    def norms_of(self, kind: LayerKind) -> int:
        """Norms of the residual stream in a layer of this kind."""
        if self.norms_per_layer == 1:
            return 1
        return self.norms_per_layer // 2 * ((kind.mixer != "none") + (kind.moe or kind.mlp_width > 0))

    # ---- parameters ----

    def layer_parameters(self, layer: int) -> Counter[str]:
        """Parameters of one layer by part: attention, indexer, linear_attention, mlp, experts, shared_experts, router, biases, norms.

        Convolutions count with the recurrent mixer, what is left of it (decays, steps) with the norms.
        """
        h, kind, parts = self.hidden_size, self.layer_kind(layer), Counter[str]()
        parts["norms"] = self.norms_of(kind) * (1 if self.norm == "rmsnorm" else 2) * h
        for matrix in layer_matrices(self, kind):
            parts[matrix.part] += matrix.copies * matrix.n * matrix.k
        if kind.mixer in ("linear", "gqa+linear"):
            linear = self.linear_attention
            assert linear is not None
            parts["linear_attention"] += linear.conv_channels * linear.conv_kernel
            parts["norms"] += linear.norm_elements
            parts["biases"] += (linear.input_width() + h) * (isinstance(linear, StateSpace) and linear.projection_bias)
        if kind.mixer == "mla":
            assert self.mla is not None
            parts["norms"] += (self.mla.q_lora_rank or 0) + self.mla.kv_lora_rank
            if self.indexer is not None and kind.indexer:
                parts["norms"] += 2 * self.indexer.head_dim
        if kind.mixer in ("gqa", "gqa+linear"):
            q, kv = self.num_attention_heads * self.head_dim, kind.kv_heads * self.head_dim
            columns = q * (2 if self.attention_output_gate else 1) + 2 * kv
            parts["biases"] += columns * self.qkv_bias + h * self.output_bias + self.num_attention_heads * self.attention_sinks
            parts["norms"] += (q + kv if self.qk_norm_whole else 2 * self.head_dim) * self.qk_norm + self.query_rank
        if kind.moe:
            experts = self.experts
            assert experts is not None
            parts["router"] = h * experts.num_experts + h * experts.shared_gate
            parts["biases"] += experts.num_experts * (experts.biases_of_one(h) + experts.router_bias)
        elif kind.mlp_width:
            parts["biases"] += ((2 if self.gated_mlp else 1) * kind.mlp_width + h) * self.mlp_bias
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
        total = 2 * self.parameters()
        head = self.quantisation.lm_head
        if not self.tie_word_embeddings and head != PLAIN:
            elements = self.vocab_size * self.hidden_size
            total += head.bytes_of(elements, self.hidden_size) - 2 * elements
        kinds = Counter((self.layer_kind(layer), self.quantisation.of_layer(layer)) for layer in range(self.num_layers))
        for (kind, formats), layers in kinds.items():
            for matrix in layer_matrices(self, kind):
                elements = matrix.n * matrix.k
                stored = getattr(formats, matrix.field).bytes_of(elements, matrix.k)
                total += layers * matrix.copies * (stored - 2 * elements)
        return total

    def kv_bytes_per_token_layer(self, kv_dtype_bytes: float = 2, tp: int = 1, layer: int | None = None) -> float:
        """Bytes that one token adds to the KV cache of one attention layer (the usual one, or `layer`) on one tensor-parallel rank.

        Key/value heads are split over ranks and replicated when there are more ranks than heads; the MLA latent (and the
        index keys of sparse attention) is held whole by every rank. Where only some layers keep index keys, it is the average layer.
        """
        if self.mla is not None:
            fraction = sum(self.indexer_layers) / self.num_layers if self.indexer_layers else 1
            return self.mla.cached_dim * kv_dtype_bytes + (fraction * self.indexer.cached_bytes if self.indexer else 0)
        heads = self.num_kv_heads if layer is None else self.kv_heads(layer)
        return 2 * max(1, heads // tp) * self.head_dim * kv_dtype_bytes

    def kv_bytes_per_token(self, kv_dtype_bytes: float = 2) -> float:
        """Bytes that one token adds to the KV cache of the whole model (one copy), windows not yet full."""
        return self.kv_bytes_of_layers(range(self.num_layers), kv_dtype_bytes)

    def kv_bytes_of_layers(self, layers: Iterable[int], kv_dtype_bytes: float = 2, tp: int = 1) -> float:
        """Bytes that one token adds to the KV cache of these layers on one tensor-parallel rank, windows not yet full."""
        attending = [layer for layer in layers if self.attends(layer)]
        if not self.layer_kv_heads:
            return len(attending) * self.kv_bytes_per_token_layer(kv_dtype_bytes, tp)
        return sum((self.kv_bytes_per_token_layer(kv_dtype_bytes, tp, layer) for layer in attending), 0.0)

    def recurrent_state_bytes(self, tp: int = 1) -> int:
        """Bytes of recurrent and convolution state of one sequence over all layers, whatever its length, on one tensor-parallel rank."""
        if self.linear_attention is None:
            return 0
        return self.recurrent_layers * self.linear_attention.rank(tp).state_bytes()

    def kv_bytes_of_sequence(self, context_tokens: int, kv_dtype_bytes: float = 2) -> float:
        """Bytes of one sequence's cache when layers with a window keep only their window, plus the state of recurrent layers.

        An engine that pages all layers alike keeps `context_tokens * kv_bytes_per_token()` instead.
        """
        total = 0.0
        for layer in range(self.num_layers):
            if self.linear_layers[layer]:
                assert self.linear_attention is not None
                total += self.linear_attention.state_bytes()
            if self.attends(layer):
                window = self.layer_windows[layer]
                kept = min(context_tokens, window) if window else context_tokens
                total += self.kv_bytes_per_token_layer(kv_dtype_bytes, layer=layer) * kept
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
