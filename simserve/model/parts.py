"""The parts that only some architectures have: latent attention, its sparse indexer, linear attention, experts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (MLA, DeepSeek-V2, arXiv 2405.04434 §2.1): keys and values are cached as one low-rank latent.

    q_lora_rank  rank of the query's down-projection, None = queries are projected directly (DeepSeek-V2-Lite).
    """

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    @property
    def cached_dim(self) -> int:
        """Elements cached per token and layer: the latent and the shared rotary key (no separate values)."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def qk_head_dim(self) -> int:
        """Elements of one head's query and key before absorption."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def weights(self, hidden_size: int, heads: int) -> int:
        """Matrix elements of all projections of one layer."""
        if self.q_lora_rank is None:
            query = hidden_size * heads * self.qk_head_dim
        else:
            query = self.q_lora_rank * (hidden_size + heads * self.qk_head_dim)
        latent = hidden_size * self.cached_dim + self.kv_lora_rank * heads * (self.qk_nope_head_dim + self.v_head_dim)
        return query + latent + heads * self.v_head_dim * hidden_size


@dataclass(frozen=True, slots=True)
class SparseIndexer:
    """The light attention that picks the `topk_tokens` cached tokens each query attends (DeepSeek sparse attention, DeepSeek-V3.2)."""

    num_heads: int
    head_dim: int
    topk_tokens: int

    def weights(self, hidden_size: int, q_lora_rank: int) -> int:
        """Matrix elements of one layer: index queries from the query latent, one index key, one weight a head."""
        return q_lora_rank * self.num_heads * self.head_dim + hidden_size * (self.head_dim + self.num_heads)

    @property
    def cached_bytes(self) -> int:
        """Bytes cached per token and layer: the index key in fp8 with one 4-byte scale per 128 elements (DeepSeek-V3.2, vLLM)."""
        return self.head_dim + 4 * -(-self.head_dim // 128)


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated delta-rule linear attention (Gated DeltaNet, arXiv 2412.06464) as in Qwen3-Next and Qwen3.5: a fixed state, no KV cache."""

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int

    @property
    def conv_channels(self) -> int:
        """Channels of the short causal convolution: queries, keys and values."""
        return 2 * self.num_key_heads * self.key_head_dim + self.num_value_heads * self.value_head_dim

    def input_width(self) -> int:
        """Columns of the input projections: q, k, v, the output gate, and two gates a value head."""
        return self.conv_channels + self.num_value_heads * (self.value_head_dim + 2)

    def weights(self, hidden_size: int) -> int:
        """Matrix elements of one layer, convolution included."""
        values = self.num_value_heads * self.value_head_dim
        return hidden_size * self.input_width() + values * hidden_size + self.conv_channels * self.conv_kernel

    def state_bytes(self, state_dtype_bytes: int = 4, conv_dtype_bytes: int = 2) -> int:
        """Bytes of one sequence's recurrent and convolution state in one layer, whatever its length (state in float32)."""
        recurrent = self.num_value_heads * self.key_head_dim * self.value_head_dim * state_dtype_bytes
        return recurrent + self.conv_channels * (self.conv_kernel - 1) * conv_dtype_bytes


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts MLP. `shared_intermediate_size` is the summed width of the experts every token uses (0 = none)."""

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False

    def weights_of_one(self, hidden_size: int) -> int:
        """Matrix elements of one routed expert (gate, up and down)."""
        return 3 * hidden_size * self.intermediate_size

    def biases_of_one(self, hidden_size: int) -> int:
        """Bias elements of one routed expert (gpt-oss)."""
        return 2 * self.intermediate_size + hidden_size if self.expert_bias else 0
