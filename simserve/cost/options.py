"""Ways to serve a model that papers propose and that change what a step costs: formats of the cache, layers skipped, keys left out.

They act where the tables of a StepCost are made and where memory is counted, never in a step. All defaults together change nothing.
What they describe was not measured here: every result made with them lists it under `unvalidated`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.bounds import MOST_TOKENS
from simserve.cost.cores.options import LinearTiles, Padding, TaskTable
from simserve.model.architecture import ModelArchitecture
from simserve.model.operators import Attention

F64 = NDArray[np.float64]


class CostOptions(BaseModel):
    """What a paper's method changes in the cost of a step and in the memory of a sequence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kv_bits: float | None = Field(
        default=None, ge=0.01, le=16, description="Bits of one stored cache element, scales included (QServe's KV4 is 4.25). Default: 16."
    )
    kv_exact_tokens: int = Field(
        default=0, ge=0, le=MOST_TOKENS, description="16-bit tokens read besides: a recent window, codebooks (MILLION: 256 centroids)."
    )
    kv_representation: Literal["keys-and-values", "layer-input"] = Field(
        default="keys-and-values",
        description="`layer-input`: the input of each layer is cached; each step computes keys and values from it again (XQuant).",
    )
    a8_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Fraction of the depth of w4a4_int4 matrices that runs with 8-bit activations (COMET: 0.16)."
    )
    prefill_layer_fraction: float = Field(
        default=1,
        gt=0,
        le=1,
        description="Fraction of the layers that run over prompts; the rest only make keys and values (SwiftKV: 0.5).",
    )
    kv_layers_per_cache: int = Field(
        default=1, ge=1, le=10_000, description="Layers that share one cache, among those that prompts skip (SwiftKV: 2 or 4)."
    )
    streaming_head_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Fraction of the heads that attend first and recent tokens only (LServe: 0.5)."
    )
    streaming_prefill_tokens: int = Field(
        default=4224,
        ge=1,
        le=MOST_TOKENS,
        description="Tokens that a streaming head attends at most in prefill (LServe: 128 first and 4,096 recent).",
    )
    streaming_decode_tokens: int = Field(
        default=384,
        ge=1,
        le=MOST_TOKENS,
        description="Tokens that a streaming head attends at most in decode (LServe: 128 first and 256 recent).",
    )
    attention_budget_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOKENS,
        description="Tokens that the other heads attend at most in decode (LServe: 4,096). Default: all.",
    )
    selector_stride_tokens: float | None = Field(
        default=None,
        gt=0,
        le=MOST_TOKENS,
        description="Choosing them reads one token's worth of statistics for so many tokens of context: logical page x steps a choice is"
        " kept (LServe: 16 x 4). Default: choosing is free.",
    )
    attention_efficiency: float = Field(
        default=1.0,
        ge=1e-3,
        le=1e3,
        description="Speed of decode attention relative to our kernel reading as many bytes (MILLION's baseline: 0.72).",
    )
    attention_scalar_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Decode attention calculates on scalar cores, each query head for itself, and reaches this fraction of the device's "
        "fp32 peak (QServe). Default: tensor cores.",
    )

    expert_kernel: str | None = Field(
        default=None,
        min_length=1,
        max_length=60,
        description="Kernel of the routed experts whose measurements come first: part of its name (`marlin` where vLLM was started with"
        " VLLM_MXFP4_USE_MARLIN=1). `deepgemm-padded`: fp8 experts as vLLM 0.12 runs them on Hopper, unless split eight ways."
        " Default: as the engine chooses.",
    )

    expert_popularity: float = Field(
        default=0.7,
        ge=0,
        le=5,
        description="Exponent of Zipf's law by which a step's tokens prefer experts, for the time of expert layers: 0.7 over texts of"
        " people, about 1.3 over random tokens, as most benchmark clients send; 0: evenly. Models whose router has a bias choose evenly"
        " anyway.",
    )

    task_table: TaskTable | None = Field(
        default=None,
        description="Attention of a step as tiles dealt to the cores, which ends with the slowest core (XY-Serve). Default: prompts and"
        " decodes after each other, by kernel.",
    )
    padding: Padding = Field(
        default="none",
        description="Rows of linear operators up to whole tiles: `physical` copies them into padded tensors, `virtual` pads on chip only"
        " (XY-Serve's SmoothGEMM). `none`: whatever the kernel does.",
    )
    linear_tiles: LinearTiles = Field(default=LinearTiles(), description="Rows of their tiles, for padding.")

    micro_batches: int = Field(
        default=1,
        ge=1,
        le=2,
        description="2: the tokens of a step in two halves, one computing while the other is on its way to the experts or back"
        " (CloudMatrix-Infer).",
    )
    expert_imbalance: float = Field(
        default=1.0,
        ge=1,
        le=1e3,
        description="Load of the most loaded rank relative to the mean one: experts and their exchange wait for it. 1: perfectly balanced"
        " (EPLB).",
    )

    @model_validator(mode="after")
    def _reads_something(self) -> CostOptions:
        if self.kv_layers_per_cache > 1 and self.prefill_layer_fraction == 1.0:
            raise ValueError("kv_layers_per_cache shares caches among the layers that prompts skip; set prefill_layer_fraction below 1")
        if self.selector_stride_tokens is not None and self.attention_budget_tokens is None:
            raise ValueError("selector_stride_tokens needs attention_budget_tokens: without a budget nothing is chosen")
        if self.linear_tiles != LinearTiles() and self.padding == "none":
            raise ValueError("linear_tiles are the tiles that padding fills up; set padding to physical or virtual")
        if self.task_table is not None and (self.changes_decode_attention or self.prefill_layer_fraction < 1.0):
            raise ValueError(
                "task_table deals tiles of the model's own attention over 16-bit keys and values; other attention options go without"
            )
        return self

    @property
    def changes_decode_attention(self) -> bool:
        """Whether decode attention is not simply the model's own over 16-bit keys and values."""
        attention = ("kv_bits", "kv_exact_tokens", "kv_representation", "streaming_head_fraction", "attention_budget_tokens")
        return any(getattr(self, key) != _PLAIN[key] for key in (*attention, "attention_efficiency", "attention_scalar_fraction"))

    @property
    def is_plain(self) -> bool:
        """Whether nothing is changed at all."""
        return self.changed() == {}

    def changed(self) -> dict[str, object]:
        """The options that differ from their defaults, for descriptions."""
        return self.model_dump(exclude_defaults=True)

    def early_layers(self, model: ModelArchitecture) -> int:
        """Layers that run over prompts."""
        return max(1, round(self.prefill_layer_fraction * model.num_layers))

    def cached_fraction(self, model: ModelArchitecture) -> float:
        """Bytes of a sequence's cache relative to 16-bit keys and values of every layer.

        XQuant (arXiv 2508.10395): the input of a layer is hidden_size elements, with grouped queries two latents of the width of the
        keys. SwiftKV (arXiv 2410.03960): of L layers l keep their own cache, the others one for each g: l/L + (1 - l/L) / g.
        """
        early = self.early_layers(model)
        caches = early + -(-(model.num_layers - early) // self.kv_layers_per_cache)
        elements = 1.0
        if self.kv_representation == "layer-input":
            elements = _input_fraction(model.num_attention_heads, model.num_kv_heads)
        return (self.kv_bits or 16.0) / 16.0 * elements * caches / model.num_layers

    def decode_tokens(self, layer: Attention, context: F64) -> tuple[F64, F64]:
        """Mean over the heads of a layer, of sequences with `context` tokens: tokens attended, and read (as 16-bit tokens)."""
        keys = np.minimum(context, layer.window_tokens) if layer.window_tokens else context
        chosen = np.minimum(keys, self.attention_budget_tokens) if self.attention_budget_tokens else keys
        stream = self.streaming_head_fraction
        attended = (1.0 - stream) * chosen + stream * np.minimum(keys, self.streaming_decode_tokens)
        elements = _input_fraction(layer.q_heads, layer.kv_heads) if self.kv_representation == "layer-input" else 1.0
        read = attended * elements * (self.kv_bits or 16.0) / 16.0 + self.kv_exact_tokens
        if self.selector_stride_tokens:
            read = read + (1.0 - stream) * keys / self.selector_stride_tokens
        return attended, read

    def recompute_flops(self, layer: Attention) -> float:
        """FLOPs that make one cached token's keys and values again in one layer at each step, 0 where they are cached themselves."""
        if self.kv_representation == "keys-and-values":
            return 0.0
        width = layer.kv_heads * layer.head_dim
        source = layer.q_heads * layer.head_dim if layer.q_heads == layer.kv_heads else width
        return 4.0 * source * width

    def prefill_pieces(self, layer: Attention) -> tuple[Attention, ...]:
        """The layer's heads by what they attend in prefill: all, and streaming ones with their window."""
        streaming = round(self.streaming_head_fraction * layer.kv_heads)
        if not streaming:
            return (layer,)
        group = layer.q_heads // layer.kv_heads
        window = min(layer.window_tokens or self.streaming_prefill_tokens, self.streaming_prefill_tokens)
        pieces = (
            replace(layer, q_heads=(layer.kv_heads - streaming) * group, kv_heads=layer.kv_heads - streaming),
            replace(layer, q_heads=streaming * group, kv_heads=streaming, window_tokens=window),
        )
        return tuple(piece for piece in pieces if piece.kv_heads)


def _input_fraction(q_heads: int, kv_heads: int) -> float:
    """Elements cached for a token relative to keys and values: the layer's input is half of them where every query head has its own."""
    return 0.5 if q_heads == kv_heads else 1.0


_PLAIN = {name: field.default for name, field in CostOptions.model_fields.items()}
