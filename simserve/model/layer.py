"""What one rank runs in one layer. Shapes are those of vLLM: fused QKV and gate+up, column then row parallel,
one all-reduce after attention and one after the MLP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from simserve.model.architecture import LayerKind, ModelArchitecture
from simserve.model.blocks import ACTIVATION_BYTES, add, all_reduce, gemm, kernel_format, norm, plain, stored_bytes
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
from simserve.model.quantisation import QuantMethod


@lru_cache(maxsize=1024)
def layer_operators(model: ModelArchitecture, parallel: Parallel, layer: int) -> tuple[Operator, ...]:
    """What one rank runs in layer `layer` (0-based), in order. Raises ModelError for a layout that `check` refuses."""
    check(model, parallel)
    kind = model.layer_kind(layer)
    mixer = {"gqa": _gqa, "mla": _mla, "linear": _linear}[kind.mixer]
    operators = [norm(model, "input_layernorm"), *mixer(model, parallel, kind)]
    if parallel.tp > 1 and not model.parallel_attention_mlp:
        operators.append(all_reduce(model, "attn_all_reduce", parallel.tp))
    if model.norm == "layernorm" and not model.parallel_attention_mlp:
        operators.append(add(model))  # RMSNorm kernels add the residual themselves, LayerNorm ones do not
    if model.norms_per_layer > 1:
        operators.append(norm(model, "post_attention_layernorm"))
    operators += _experts(model, parallel) if kind.moe else _dense_mlp(model, parallel)
    if model.norm == "layernorm":
        operators.append(add(model))
    return tuple(operators)


def _gqa(model: ModelArchitecture, parallel: Parallel, kind: LayerKind) -> Iterator[Operator]:
    q_heads = model.num_attention_heads // parallel.tp
    kv_heads = max(1, model.num_kv_heads // parallel.tp)
    method, d = model.quantisation.attention, model.head_dim
    columns = (q_heads * (2 if model.attention_output_gate else 1) + 2 * kv_heads) * d
    yield gemm(model, "attn_pre_proj", columns, model.hidden_size, method, model.qkv_bias)
    if model.qk_norm:
        yield Elementwise("qk_norm", (q_heads + kv_heads) * d, 2 * (q_heads + kv_heads) * d * ACTIVATION_BYTES, 2 * d * ACTIVATION_BYTES)
    if model.rotary:
        yield Elementwise("attn_rope", (q_heads + kv_heads) * d, 2 * (q_heads + kv_heads) * d * ACTIVATION_BYTES)
    sinks = q_heads * ACTIVATION_BYTES * model.attention_sinks
    yield Attention("attn", q_heads, kv_heads, d, kind.window_tokens, model.window_kind, model.dtype, sinks)
    if model.attention_output_gate:
        yield Elementwise("attn_gate", q_heads * d, 3 * q_heads * d * ACTIVATION_BYTES)
    yield gemm(model, "attn_post_proj", model.hidden_size, q_heads * d, method, model.output_bias)


def _mla(model: ModelArchitecture, parallel: Parallel, kind: LayerKind) -> Iterator[Operator]:
    mla, h, method = model.mla, model.hidden_size, model.quantisation.attention
    assert mla is not None
    heads = model.num_attention_heads // parallel.tp
    query_columns = heads * mla.qk_head_dim
    # The down-projections to the latents are replicated on every rank, the up-projections are split by head.
    if mla.q_lora_rank is None:
        yield gemm(model, "attn_q_proj", query_columns, h, method)
        yield gemm(model, "attn_kv_a_proj", mla.cached_dim, h, method)
    else:
        yield gemm(model, "attn_qkv_a_proj", mla.q_lora_rank + mla.cached_dim, h, method)
        yield plain("q_a_layernorm", mla.q_lora_rank, 2, mla.q_lora_rank)
        yield gemm(model, "attn_q_b_proj", query_columns, mla.q_lora_rank, method)
    yield plain("kv_a_layernorm", mla.kv_lora_rank, 2, mla.kv_lora_rank)
    yield plain("attn_rope", (heads + 1) * mla.qk_rope_head_dim, 2)
    topk = 0
    if model.indexer is not None:
        topk = model.indexer.topk_tokens
    if model.indexer is not None and kind.indexer:
        index = model.indexer
        yield gemm(model, "indexer_q_proj", index.num_heads * index.head_dim, mla.q_lora_rank or h, method)
        yield gemm(model, "indexer_k_proj", index.head_dim + index.num_heads, h, method)
        yield plain("indexer_k_norm", index.head_dim, 2, 2 * index.head_dim)
        yield IndexerScores("indexer_scores", index.num_heads, index.head_dim, topk)
    kv_b = stored_bytes(model, method, mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim))
    gemm_dtype = kernel_format(model, method)
    dims = (mla.kv_lora_rank, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim)
    yield MLA("mla", heads, *dims, topk, model.dtype, gemm_dtype, kv_b)
    yield gemm(model, "attn_post_proj", h, heads * mla.v_head_dim, method)


def _linear(model: ModelArchitecture, parallel: Parallel, kind: LayerKind) -> Iterator[Operator]:
    lin, tp, method = model.linear_attention, parallel.tp, model.quantisation.attention
    assert lin is not None
    values = lin.num_value_heads // tp * lin.value_head_dim
    yield gemm(model, "linear_attn_in_proj", lin.input_width() // tp, model.hidden_size, method)
    own = ACTIVATION_BYTES * (lin.conv_channels // tp * lin.conv_kernel + 2 * lin.num_value_heads // tp)
    heads = (lin.num_key_heads // tp, lin.num_value_heads // tp, lin.key_head_dim, lin.value_head_dim)
    yield LinearAttentionCore("linear_attn", *heads, lin.conv_kernel, lin.state_bytes() // tp, model.dtype, own)
    yield plain("linear_attn_gated_norm", values, 3, lin.value_head_dim)
    yield gemm(model, "linear_attn_out_proj", model.hidden_size, values, method)


def _dense_mlp(model: ModelArchitecture, parallel: Parallel) -> Iterator[Operator]:
    names = ("mlp_up_proj", "mlp_act", "mlp_down_proj")
    yield from _mlp(model, parallel, model.intermediate_size, model.gated_mlp, model.quantisation.mlp, names)
    if parallel.tp > 1:
        yield all_reduce(model, "mlp_all_reduce", parallel.tp)


def _experts(model: ModelArchitecture, parallel: Parallel) -> Iterator[Operator]:
    experts, h = model.experts, model.hidden_size
    assert experts is not None
    router_bytes = ACTIVATION_BYTES * experts.num_experts * (h + experts.router_bias)
    yield Gemm("moe_router", experts.num_experts, h, model.dtype, router_bytes)
    if experts.shared_intermediate_size:
        names = ("shared_up_proj", "shared_act", "shared_down_proj")
        yield from _mlp(model, parallel, experts.shared_intermediate_size, True, model.quantisation.shared_experts, names)
        if experts.shared_gate:
            yield Gemm("shared_gate", 1, h, model.dtype, ACTIVATION_BYTES * h)
    if parallel.dp > 1:
        yield _exchange(model, "moe_dispatch", parallel)
    held = -(-experts.num_experts // parallel.ep)  # the fullest rank, when experts do not divide evenly
    method = model.quantisation.experts
    own = stored_bytes(model, method, held * experts.weights_of_one(h) // parallel.moe_tp)
    if experts.expert_bias:
        own += held * ACTIVATION_BYTES * (2 * experts.intermediate_size // parallel.moe_tp + h)
    split = (parallel.moe_tp, parallel.ep, kernel_format(model, method), own)
    yield MoE("moe", experts.num_experts, experts.experts_per_token, h, experts.intermediate_size, *split)
    if parallel.dp > 1:
        yield _exchange(model, "moe_combine", parallel)
    if parallel.tp > 1:
        yield all_reduce(model, "mlp_all_reduce", parallel.tp)


def _mlp(
    model: ModelArchitecture, parallel: Parallel, width: int, gated: bool, method: QuantMethod, names: tuple[str, str, str]
) -> Iterator[Operator]:
    own = width // parallel.tp
    up = (2 if gated else 1) * own
    yield gemm(model, names[0], up, model.hidden_size, method, model.mlp_bias)
    yield Elementwise(names[1], own, (up + own) * ACTIVATION_BYTES)
    yield gemm(model, names[2], model.hidden_size, own, method, model.mlp_bias)


def _exchange(model: ModelArchitecture, name: Literal["moe_dispatch", "moe_combine"], parallel: Parallel) -> ExpertExchange:
    experts = model.experts
    assert experts is not None
    # fp8 activations travel as one byte to the experts; results come back at the activation type (DeepEP).
    element_bytes = 1 if name == "moe_dispatch" and model.quantisation.experts.startswith("fp8") else ACTIVATION_BYTES
    routing = (experts.experts_per_token, experts.num_experts)
    return ExpertExchange(name, model.hidden_size * element_bytes, *routing, parallel.tp * parallel.dp, parallel.ep)
