"""Descriptions of what one rank executes. Token counts are not in them: a cost model adds those.

In all of them `dtype` is the kernel format (`bf16`, `fp16` or a quantisation method), `weight_bytes` what the operator's weights
take on this rank, and `*_bytes_per_token` is for one token of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Gemm:
    """y[m, n] = x[m, k] w[k, n]; m = tokens in the step (for `lm_head`: sequences that need logits)."""

    name: str
    n: int
    k: int
    dtype: str
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Causal attention of this rank's heads over a paged KV cache, the write of new keys and values included.

    window_tokens  0 = full. window_kind `chunked`: at most the tokens of the query's own aligned chunk.
    weight_bytes   of learned sinks, one a head (gpt-oss), else 0.
    """

    name: str
    q_heads: int
    kv_heads: int
    head_dim: int
    window_tokens: int
    window_kind: Literal["sliding", "chunked"]
    dtype: str
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MLA:
    """Multi-head latent attention of this rank's heads, its key/value up-projection (`kv_b`) included.

    Prefill up-projects the latent: a GEMM of n = q_heads * (qk_nope_head_dim + v_head_dim), k = kv_lora_rank over the context.
    Decode absorbs it: two batched GEMMs a head (nope -> latent, latent -> v) and attention over `kv_lora_rank + qk_rope_head_dim`.
    topk_tokens  cached tokens a query attends at most (sparse attention), 0 = all. gemm_dtype: format of the kv_b weights.
    """

    name: str
    q_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    topk_tokens: int
    dtype: str
    gemm_dtype: str
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class IndexerScores:
    """Scores of a sparse-attention indexer over all cached tokens, in fp8, and the top-k selection. Replicated on every rank."""

    name: str
    num_heads: int
    head_dim: int
    topk_tokens: int


@dataclass(frozen=True, slots=True)
class LinearAttentionCore:
    """Short convolution and recurrence (gated delta rule, or Mamba-2's state space) of this rank's heads; work per token does not depend
    on the context."""

    name: str
    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    state_bytes_per_sequence: int
    dtype: str
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class MoE:
    """Fused routed experts: top-k, permute, grouped gate+up and down GEMMs, weighted sum. The router's GEMM is an operator of its own.

    num_experts, intermediate_size   of the whole model; a rank holds num_experts / expert_parallel experts of width
    intermediate_size / tensor_parallel. Tokens are counted over the whole expert-parallel group. gated: three matrices an expert, else two.
    evenly_chosen   the router's bias was trained to keep all experts equally busy, instead of a term of the loss
    """

    name: str
    num_experts: int
    experts_per_token: int
    hidden_size: int
    intermediate_size: int
    tensor_parallel: int
    expert_parallel: int
    dtype: str
    weight_bytes: int
    gated: bool = True
    evenly_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Memory-bound work on `width` elements a token; `bytes_per_token` is what it reads and writes."""

    name: str
    width: int
    bytes_per_token: int
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum over `group` ranks of a buffer of `bytes_per_token` bytes a token on each rank."""

    name: str
    bytes_per_token: int
    group: int


@dataclass(frozen=True, slots=True)
class AllGather:
    """Gather over `group` ranks; `bytes_per_token` is the gathered (total) size for one row."""

    name: str
    bytes_per_token: int
    group: int


@dataclass(frozen=True, slots=True)
class ExpertExchange:
    """Tokens sent to the ranks of their experts (`moe_dispatch`) or back (`moe_combine`) between `group` data-parallel ranks' devices.

    bytes_per_token  one copy of one token's hidden state. It goes to the ranks of its experts: at most experts_per_token of the
    expert_parallel groups, each of group / expert_parallel ranks that share an expert (all ranks when expert_parallel is 1).
    tensor_parallel  ranks of a replica, which all hold its tokens: engines that let each send only its part need it
    eight_bit  the experts take 8-bit integers, so that an engine may quantise what it sends to them
    """

    name: Literal["moe_dispatch", "moe_combine"]
    bytes_per_token: int
    experts_per_token: int
    num_experts: int
    group: int
    expert_parallel: int
    tensor_parallel: int = 1
    eight_bit: bool = False


Operator = Gemm | Attention | MLA | IndexerScores | LinearAttentionCore | MoE | Elementwise | AllReduce | AllGather | ExpertExchange


def weight_bytes(operators: tuple[Operator, ...]) -> int:
    """Bytes of the weights that these operators own on one rank."""
    return sum(getattr(operator, "weight_bytes", 0) for operator in operators)
