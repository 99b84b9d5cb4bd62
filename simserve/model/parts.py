"""The parts that only some architectures have: latent attention, its sparse indexer, linear attention, experts."""

from __future__ import annotations

from dataclasses import dataclass, replace


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

    def rank(self, tp: int) -> LinearAttention:
        """The heads of one of `tp` tensor-parallel ranks."""
        return replace(self, num_key_heads=self.num_key_heads // tp, num_value_heads=self.num_value_heads // tp)

    @property
    def values_width(self) -> int:
        """Elements of the layer's output before its last projection."""
        return self.num_value_heads * self.value_head_dim

    @property
    def norm_elements(self) -> int:
        """Elements that are neither matrices nor convolution: the norm of a head, and a bias and a decay a head."""
        return self.value_head_dim + 2 * self.num_value_heads

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
class StateSpace:
    """A Mamba-2 mixer (state-space duality, arXiv 2405.21060): a fixed state and a short convolution, no KV cache.

    Named as the linear attention it is a form of: a head's values are its channels, its keys and queries the B and C of its group.
    num_key_heads     groups that share B and C; key_head_dim: the state's size for one channel.
    num_value_heads   heads; value_head_dim: channels of a head.
    state_dtype_bytes bytes of an element of the recurrent state: as the configuration says, float32 where it does not.
    gated_norm        whether an RMSNorm with weights stands before the output projection.
    """

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    conv_bias: bool = True
    projection_bias: bool = False
    gated_norm: bool = True
    state_dtype_bytes: int = 4

    @property
    def conv_channels(self) -> int:
        """Channels of the short causal convolution: x, and B and C of every group."""
        return self.values_width + 2 * self.num_key_heads * self.key_head_dim

    def rank(self, tp: int) -> StateSpace:
        """The heads of one of `tp` tensor-parallel ranks; a group of all heads is held by each (vLLM, mamba_mixer2.py)."""
        return replace(self, num_key_heads=max(1, self.num_key_heads // tp), num_value_heads=self.num_value_heads // tp)

    @property
    def values_width(self) -> int:
        """Elements of the layer's output before its last projection (`d_inner`)."""
        return self.num_value_heads * self.value_head_dim

    @property
    def norm_elements(self) -> int:
        """Elements that are neither matrices nor convolution: A, D and the step bias a head, the convolution's bias, the gated norm."""
        return 3 * self.num_value_heads + self.conv_channels * self.conv_bias + self.values_width * self.gated_norm

    def input_width(self) -> int:
        """Columns of the input projection: gate, x, B and C, and a step size a head."""
        return self.values_width + self.conv_channels + self.num_value_heads

    def weights(self, hidden_size: int) -> int:
        """Matrix elements of one layer, convolution included."""
        return hidden_size * (self.input_width() + self.values_width) + self.conv_channels * self.conv_kernel

    def state_bytes(self, state_dtype_bytes: int | None = None, conv_dtype_bytes: int = 2) -> int:
        """Bytes of one sequence's state-space and convolution state in one layer, whatever its length."""
        recurrent = self.num_value_heads * self.key_head_dim * self.value_head_dim * (state_dtype_bytes or self.state_dtype_bytes)
        return recurrent + self.conv_channels * (self.conv_kernel - 1) * conv_dtype_bytes


FEW_EXPERTS = 16
"""Of the models with so few or fewer, none has experts narrower than a dense model's MLP."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture-of-experts MLP. `shared_intermediate_size` is the summed width of the experts every token uses (0 = none).

    gated   gate, up and down projections (SwiGLU); False: up and down only (Nemotron's squared ReLU), shared experts alike.
    """

    num_experts: int
    experts_per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    gated: bool = True

    @property
    def evenly_chosen(self) -> bool:
        """Whether a step's tokens choose all experts about equally often.

        A bias of the router keeps them equally busy (auxiliary-loss-free balancing, arXiv 2408.15664: DeepSeek-V3, Kimi-K2, GLM-4.5 and
        later, MiniMax-M2; the bias of gpt-oss, whose experts have biases too, is an ordinary one). And few, wide experts do not specialise:
        each of Mixtral's gets about an eighth of the tokens of any text (arXiv 2401.04088, section 5).
        """
        return (self.router_bias and not self.expert_bias) or self.num_experts <= FEW_EXPERTS

    @property
    def matrices(self) -> int:
        """Matrices of one expert: gate, up and down, or up and down."""
        return 3 if self.gated else 2

    def weights_of_one(self, hidden_size: int) -> int:
        """Matrix elements of one routed expert."""
        return self.matrices * hidden_size * self.intermediate_size

    def biases_of_one(self, hidden_size: int) -> int:
        """Bias elements of one routed expert (gpt-oss)."""
        return 2 * self.intermediate_size + hidden_size if self.expert_bias else 0
