"""What drafts on a model's hidden states: heads of one layer (EAGLE, EAGLE-3) and the model's own multi-token-prediction layers.

EAGLE (arXiv 2401.15077): one decoder layer; embedding and last hidden state are joined by a projection of 2 hidden sizes to one;
embedding and LM head are the model's.
EAGLE-3 (arXiv 2503.01840): hidden states of three layers are joined by a projection of 3 hidden sizes to one, for tokens that the model
has computed; attention reads embedding and hidden state side by side; the LM head is its own, over a smaller vocabulary.
MTP (DeepSeek-V3, arXiv 2412.19437, section 2.2): norms of embedding and hidden state, a projection of 2 hidden sizes to one, a whole
layer like the model's last; embedding and LM head are the model's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.blocks import ACTIVATION_BYTES, norm
from simserve.model.layout import head_operators, layer_operators, rank_weight_bytes
from simserve.model.operators import Gemm, Operator, weight_bytes
from simserve.model.parallel import Parallel

HeadKind = Literal["eagle", "eagle3", "mtp"]

EAGLE3_VOCABULARY = 32_000
"""Tokens that EAGLE-3 heads choose from: `draft_vocab_size` of those that SpecForge trains, whatever the model's vocabulary."""

_EAGLE_HEAD_DIM = 128
"""Heads' attention where the model's is latent: SpecForge's head of Kimi-K2 has plain heads of so many elements."""


@dataclass(frozen=True, slots=True)
class DraftHead:
    """What a forward pass of a head runs.

    architecture  its layer, the embedding and the LM head that it looks up and multiplies with, its own or the model's
    every_pass    run over all its tokens in every pass besides
    first_pass    run besides over tokens that the model has computed: in the first pass of a step, and over prompts
    weight_bytes  of one rank, that it does not share with the model
    """

    architecture: ModelArchitecture
    every_pass: tuple[Operator, ...]
    first_pass: tuple[Operator, ...]
    weight_bytes: int


def draft_head(
    model: ModelArchitecture, kind: HeadKind, parallel: Parallel, layer: ModelArchitecture | None = None, vocabulary: int | None = None
) -> DraftHead:
    """The head of `model` for a layout of its own (`parallel` without stages).

    layer       the head's own dimensions (its config.json), None: a layer like the model's. Not for "mtp"
    vocabulary  tokens of an EAGLE-3 head's LM head, None = EAGLE3_VOCABULARY
    Raises ModelError for a model without MTP layers, a head whose hidden size is another, or a layout that it cannot take.
    """
    if kind == "mtp":
        if not model.mtp_layers:
            raise ModelError(
                f"model '{model.name}' has no multi-token-prediction layers (num_nextn_predict_layers): it cannot draft for itself"
            )
        arch = _layer_alone(model)
    else:
        arch = layer or eagle_layer(model)
        if arch.hidden_size != model.hidden_size:
            raise ModelError(
                f"draft '{arch.name}' has hidden_size {arch.hidden_size}, the model '{model.name}' has {model.hidden_size}:"
                f" a head of method {kind} reads the model's hidden states, so they must be equal"
            )
        size = min(vocabulary or EAGLE3_VOCABULARY, model.vocab_size) if kind == "eagle3" else model.vocab_size
        arch = replace(arch, vocab_size=size, tie_word_embeddings=False)
    every, first = _joins(arch, kind, parallel)
    own = weight_bytes((*every, *first)) + rank_weight_bytes(arch, parallel)
    head = head_operators(arch, parallel)
    shared = weight_bytes(head.embedding) + (0 if kind == "eagle3" else weight_bytes(head.output))
    return DraftHead(arch, every, first, own - shared)


def eagle_layer(model: ModelArchitecture) -> ModelArchitecture:
    """The layer of an EAGLE head where its configuration is not given: attention and dense MLP like the model's, in its compute type.

    Experts become a dense MLP of the width that the configuration states for one, else of all that a token meets.
    """
    experts = model.experts
    width = model.intermediate_size
    if width < 1 and experts is not None:
        width = experts.experts_per_token * experts.intermediate_size + experts.shared_intermediate_size
    latent = model.mla is not None
    return ModelArchitecture(
        name=f"{model.name} head",
        family="eagle",
        num_layers=1,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        num_kv_heads=model.num_attention_heads if latent else model.num_kv_heads,
        head_dim=_EAGLE_HEAD_DIM if latent else model.head_dim,
        intermediate_size=width,
        vocab_size=model.vocab_size,
        max_position_embeddings=model.max_position_embeddings,
        layer_windows=(0,),
        moe_layers=(False,),
        linear_layers=(False,),
        dtype=model.dtype,
        assumptions=(f"the draft head of {model.name} has a layer like the model's",),
    )


def _layer_alone(model: ModelArchitecture) -> ModelArchitecture:
    """The model cut down to its last layer with attention: what MTP layers look like."""
    last = max(layer for layer in range(model.num_layers) if model.attends(layer))
    quantisation = model.quantisation
    if quantisation.formats:
        quantisation = replace(quantisation, formats=(quantisation.of_layer(last),), layer_formats=(0,))
    return replace(
        model,
        name=f"{model.name} MTP layer",
        num_layers=1,
        layer_windows=(model.layer_windows[last],),
        moe_layers=(model.moe_layers[last],),
        linear_layers=(False,),
        linear_attention=None,
        attending_layers=(),
        layer_kv_heads=(model.kv_heads(last),) if model.layer_kv_heads else (),
        layer_widths=(model.layer_widths[last],) if model.layer_widths else (),
        indexer_layers=(True,) if model.indexer_layers else (),
        experts=model.experts if model.moe_layers[last] else None,
        quantisation=quantisation,
        tie_word_embeddings=False,
    )


def _joins(arch: ModelArchitecture, kind: HeadKind, parallel: Parallel) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """How embedding and hidden states come together: in every pass, and for tokens that the model has computed. The projections are
    whole on every rank (vllm/model_executor/models/llama_eagle3.py, deepseek_mtp.py; sglang/srt/models likewise)."""
    h = arch.hidden_size
    if kind == "eagle3":
        reading = next(op for op in layer_operators(arch, parallel, 0) if isinstance(op, Gemm) and op.name == "attn_pre_proj")
        beside = Gemm("draft_pre_proj", reading.n, h, arch.dtype, reading.n * h * ACTIVATION_BYTES)
        return (norm(arch, "input_layernorm"), beside), (_join(3, arch),)
    every: tuple[Operator, ...] = (_join(2, arch),)
    return ((norm(arch, "input_layernorm"), norm(arch, "input_layernorm"), *every) if kind == "mtp" else every), ()


def _join(states: int, arch: ModelArchitecture) -> Gemm:
    h = arch.hidden_size
    return Gemm("draft_join", h, states * h, arch.dtype, states * h * h * ACTIVATION_BYTES)
