"""What one rank runs in one layer. Shapes are those of vLLM: fused QKV and gate+up, column then row parallel,
one all-reduce after attention and one after the MLP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from simserve.model.architecture import ModelArchitecture
from simserve.model.blocks import ACTIVATION_BYTES, add, all_reduce, fused, gemm, kernel_format, norm, plain
from simserve.model.matrices import LayerKind
from simserve.model.operators import (
    MLA,
    Attention,
    Elementwise,
    ExpertExchange,
    Gemm,
    IndexerScores,
    LinearAttentionCore,
    MoE,
    Operator,
)
from simserve.model.parallel import Parallel, check
from simserve.model.parts import LinearAttention, StateSpace
from simserve.model.quantisation import LayerFormats
from simserve.model.weight_format import WeightFormat


@lru_cache(maxsize=1024)
def layer_operators(model: ModelArchitecture, parallel: Parallel, layer: int) -> tuple[Operator, ...]:
    """What one rank runs in layer `layer` (0-based), in order. Raises ModelError for a layout that `check` refuses."""
    check(model, parallel)
    kind, formats = model.layer_kind(layer), model.quantisation.of_layer(layer)
    more_norms = model.norms_per_layer // 2 - 1  # Gemma and GLM-4 normalise what attention and MLP return, too
    operators: list[Operator] = []
    if kind.mixer != "none":
        operators += [norm(model, "input_layernorm"), *_mixer(model, parallel, kind, formats)]
        if parallel.tp > 1 and not model.parallel_attention_mlp:
            operators.append(all_reduce(model, "attn_all_reduce", parallel.tp))
        if model.norm == "layernorm" and not model.parallel_attention_mlp:
            operators.append(add(model))  # RMSNorm kernels add the residual themselves, LayerNorm ones do not
        operators += [norm(model, "post_attention_layernorm")] * more_norms
    if kind.moe or kind.mlp_width:
        if model.norms_per_layer > 1 or kind.mixer == "none":
            operators.append(norm(model, "post_attention_layernorm"))
        operators += _experts(model, parallel, formats) if kind.moe else _dense_mlp(model, parallel, kind.mlp_width, formats)
        operators += [norm(model, "post_attention_layernorm")] * more_norms
        if model.norm == "layernorm":
            operators.append(add(model))
    return tuple(operators)


def _mixer(model: ModelArchitecture, parallel: Parallel, kind: LayerKind, formats: LayerFormats) -> Iterator[Operator]:
    if kind.mixer in ("gqa", "gqa+linear"):
        yield from _gqa(model, parallel, kind, formats)
    if kind.mixer == "mla":
        yield from _mla(model, parallel, kind, formats)
    if kind.mixer in ("linear", "gqa+linear"):
        yield from _linear(model, parallel, formats)
    if kind.mixer == "gqa+linear":
        yield add(model)  # the two read the same input, and their outputs are added


def _gqa(model: ModelArchitecture, parallel: Parallel, kind: LayerKind, formats: LayerFormats) -> Iterator[Operator]:
    q_heads = model.num_attention_heads // parallel.tp
    kv_heads = max(1, kind.kv_heads // parallel.tp)
    d, h, bias = model.head_dim, model.hidden_size, model.qkv_bias
    keys = [(kv_heads * d, formats.k), (kv_heads * d, formats.v)]
    if model.query_rank:
        # Step-3: the projection to the query vector and the one key/value head are replicated on every rank (vLLM, step3_text.py).
        yield from fused(model, "attn_pre_proj", h, [(model.query_rank, formats.q), *keys], bias)
        yield plain("q_norm", model.query_rank, 2, model.query_rank)
        yield gemm(model, "attn_q_proj", q_heads * d, model.query_rank, formats.q)
    else:
        queries = q_heads * (2 if model.attention_output_gate else 1) * d
        yield from fused(model, "attn_pre_proj", h, [(queries, formats.q), *keys], bias)
    if model.qk_norm:
        own = (q_heads + kv_heads) * d if model.qk_norm_whole else 2 * d
        yield Elementwise("qk_norm", (q_heads + kv_heads) * d, 2 * (q_heads + kv_heads) * d * ACTIVATION_BYTES, own * ACTIVATION_BYTES)
    if model.rotary:
        yield Elementwise("attn_rope", (q_heads + kv_heads) * d, 2 * (q_heads + kv_heads) * d * ACTIVATION_BYTES)
    sinks = q_heads * ACTIVATION_BYTES * model.attention_sinks
    yield Attention("attn", q_heads, kv_heads, d, kind.window_tokens, model.window_kind, model.dtype, sinks)
    if model.attention_output_gate:
        yield Elementwise("attn_gate", q_heads * d, 3 * q_heads * d * ACTIVATION_BYTES)
    yield gemm(model, "attn_post_proj", h, q_heads * d, formats.o, model.output_bias)


def _mla(model: ModelArchitecture, parallel: Parallel, kind: LayerKind, formats: LayerFormats) -> Iterator[Operator]:
    mla, h = model.mla, model.hidden_size
    assert mla is not None
    heads = model.num_attention_heads // parallel.tp
    query_columns = heads * mla.qk_head_dim
    # The down-projections to the latents are replicated on every rank, the up-projections are split by head.
    if mla.q_lora_rank is None:
        yield gemm(model, "attn_q_proj", query_columns, h, formats.q)
        yield gemm(model, "attn_kv_a_proj", mla.cached_dim, h, formats.k)
    else:
        yield from fused(model, "attn_qkv_a_proj", h, [(mla.q_lora_rank, formats.q), (mla.cached_dim, formats.k)])
        yield plain("q_a_layernorm", mla.q_lora_rank, 2, mla.q_lora_rank)
        yield gemm(model, "attn_q_b_proj", query_columns, mla.q_lora_rank, formats.q)
    yield plain("kv_a_layernorm", mla.kv_lora_rank, 2, mla.kv_lora_rank)
    yield plain("attn_rope", (heads + 1) * mla.qk_rope_head_dim, 2)
    topk = 0
    if model.indexer is not None:
        topk = model.indexer.topk_tokens
    if model.indexer is not None and kind.indexer:
        index = model.indexer
        yield gemm(model, "indexer_q_proj", index.num_heads * index.head_dim, mla.q_lora_rank or h, formats.q)
        yield gemm(model, "indexer_k_proj", index.head_dim + index.num_heads, h, formats.k)
        yield plain("indexer_k_norm", index.head_dim, 2, 2 * index.head_dim)
        yield IndexerScores("indexer_scores", index.num_heads, index.head_dim, topk)
    kv_b = formats.kv_b.bytes_of(mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank)
    gemm_dtype = kernel_format(model, formats.kv_b)
    dims = (mla.kv_lora_rank, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim)
    yield MLA("mla", heads, *dims, topk, model.dtype, gemm_dtype, kv_b)
    yield gemm(model, "attn_post_proj", h, heads * mla.v_head_dim, formats.o)


def _linear(model: ModelArchitecture, parallel: Parallel, formats: LayerFormats) -> Iterator[Operator]:
    assert model.linear_attention is not None
    lin = model.linear_attention.rank(parallel.tp)
    values, bias = lin.values_width, isinstance(lin, StateSpace) and lin.projection_bias
    yield gemm(model, "linear_attn_in_proj", lin.input_width(), model.hidden_size, formats.linear_in, bias)
    gated = not isinstance(lin, StateSpace) or lin.gated_norm
    outside = lin.value_head_dim if isinstance(lin, LinearAttention) else lin.values_width * gated
    own = ACTIVATION_BYTES * (lin.conv_channels * lin.conv_kernel + lin.norm_elements - outside)
    heads = (lin.num_key_heads, lin.num_value_heads, lin.key_head_dim, lin.value_head_dim)
    yield LinearAttentionCore("linear_attn", *heads, lin.conv_kernel, lin.state_bytes(), model.dtype, own)
    if gated:
        yield plain("linear_attn_gated_norm", values, 3, outside)
    yield gemm(model, "linear_attn_out_proj", model.hidden_size, values, formats.linear_out, bias)


def _dense_mlp(model: ModelArchitecture, parallel: Parallel, width: int, formats: LayerFormats) -> Iterator[Operator]:
    names = ("mlp_up_proj", "mlp_act", "mlp_down_proj")
    ups = (formats.gate, formats.up) if model.gated_mlp else (formats.up,)
    yield from _mlp(model, parallel, width, ups, formats.down, names)
    if parallel.tp > 1:
        yield all_reduce(model, "mlp_all_reduce", parallel.tp)


def _experts(model: ModelArchitecture, parallel: Parallel, formats: LayerFormats) -> Iterator[Operator]:
    experts, h = model.experts, model.hidden_size
    assert experts is not None
    router_bytes = ACTIVATION_BYTES * experts.num_experts * (h + experts.router_bias)
    yield Gemm("moe_router", experts.num_experts, h, model.dtype, router_bytes)
    ups = experts.matrices - 1
    if experts.shared_intermediate_size:
        names = ("shared_up_proj", "shared_act", "shared_down_proj")
        yield from _mlp(model, parallel, experts.shared_intermediate_size, (formats.shared_up,) * ups, formats.shared_down, names)
        if experts.shared_gate:
            yield Gemm("shared_gate", 1, h, model.dtype, ACTIVATION_BYTES * h)
    if parallel.dp > 1:
        yield _exchange(model, "moe_dispatch", parallel, formats)
    held = -(-experts.num_experts // parallel.ep)  # the fullest rank, when experts do not divide evenly
    weights = held * experts.weights_of_one(h) // parallel.moe_tp
    if formats.experts_up == formats.experts_down:
        own = formats.experts_up.bytes_of(weights, held * (h + experts.intermediate_size // parallel.moe_tp))
    else:
        down = weights // experts.matrices
        own = formats.experts_up.bytes_of(weights - down, held * h)
        own += formats.experts_down.bytes_of(down, held * experts.intermediate_size // parallel.moe_tp)
    if experts.expert_bias:
        own += held * ACTIVATION_BYTES * (2 * experts.intermediate_size // parallel.moe_tp + h)
    split = (parallel.moe_tp, parallel.ep, kernel_format(model, formats.experts_up), own, experts.gated, experts.evenly_chosen)
    yield MoE("moe", experts.num_experts, experts.experts_per_token, h, experts.intermediate_size, *split)
    if parallel.dp > 1:
        yield _exchange(model, "moe_combine", parallel, formats)
    if parallel.tp > 1:
        yield all_reduce(model, "mlp_all_reduce", parallel.tp)


def _mlp(
    model: ModelArchitecture,
    parallel: Parallel,
    width: int,
    ups: tuple[WeightFormat, ...],
    down: WeightFormat,
    names: tuple[str, str, str],
) -> Iterator[Operator]:
    """An MLP of this width: `ups` are the formats of gate and up, or of up alone."""
    own = width // parallel.tp
    yield from fused(model, names[0], model.hidden_size, [(own, stored) for stored in ups], model.mlp_bias)
    yield Elementwise(names[1], own, (len(ups) * own + own) * ACTIVATION_BYTES)
    yield gemm(model, names[2], model.hidden_size, own, down, model.mlp_bias)


def _exchange(
    model: ModelArchitecture, name: Literal["moe_dispatch", "moe_combine"], parallel: Parallel, formats: LayerFormats
) -> ExpertExchange:
    experts = model.experts
    assert experts is not None
    # fp8 activations travel as one byte to the experts; results come back at the activation type (DeepEP).
    element_bytes = 1 if name == "moe_dispatch" and formats.experts_up.method.startswith("fp8") else ACTIVATION_BYTES
    routing = (experts.experts_per_token, experts.num_experts)
    eight_bit = name == "moe_dispatch" and formats.experts_up.method.startswith(("w8a8", "w4a8"))
    ranks = parallel.tp * parallel.dp
    return ExpertExchange(name, model.hidden_size * element_bytes, *routing, ranks, parallel.ep, parallel.tp, eight_bit)
