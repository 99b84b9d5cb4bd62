"""Which ways of cutting quantised matrices engines load: a rank's piece must be whole blocks, or whole groups that share a scale."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from simserve.model.architecture import ModelArchitecture
from simserve.model.matrices import LayerKind
from simserve.model.quantisation import LayerFormats
from simserve.model.weight_format import WeightFormat

_WHOLE_ONLY = ("w4a16_nf4", "llm_int8")
"""bitsandbytes checkpoints: their packed state belongs to whole matrices. vLLM and SGLang refuse tensor parallelism with them."""

_LEAST_EXPERT_GROUP = 32
"""Kernels for experts of 4-bit integers repeat a group's scale over smaller groups down to this size (vLLM, moe_wna16.py)."""


class _Piece(NamedTuple):
    """What one rank holds of a matrix: `width` columns (`rows`: input rows), cut `ways` ways."""

    what: str
    width: int
    ways: int
    stored: WeightFormat
    rows: bool = False
    experts: bool = False


@lru_cache(maxsize=1024)
def problem(model: ModelArchitecture, tp: int, moe_tp: int) -> str | None:
    """Why no engine loads the model with dense layers cut `tp` ways and each expert `moe_tp` ways; None when one does.

    128 x 128 blocks of fp8: columns and rows of every piece are multiples of 128 (vLLM `validate_fp8_block_shape` and its fused-experts
    method, SGLang alike). Formats with a scale for a group of input rows: rows are whole groups (AWQ, GPTQ, compressed-tensors: "input
    size per partition % group_size"; NVFP4: 16). gpt-oss pads its experts in mxfp4, so they can be cut anyhow.
    """
    if tp == 1 and moe_tp == 1:
        return None
    seen = dict.fromkeys((model.layer_kind(layer), model.quantisation.of_layer(layer)) for layer in range(model.num_layers))
    for kind, formats in seen:
        for piece in _pieces(model, kind, formats, tp, moe_tp):
            if piece.stored.method in _WHOLE_ONLY:
                return f"bitsandbytes weights ({piece.stored.method}) cannot be cut, only whole matrices are loaded"
            unit = _unit(piece)
            if unit and piece.width % unit:
                blocks = "blocks of 128 x 128" if piece.stored.method == "fp8_block128" else f"groups of {unit}"
                return (
                    f"{piece.what} is {piece.width} wide when cut {piece.ways} ways, which {blocks} ({piece.stored.method}) do not divide"
                )
    return None


def _unit(piece: _Piece) -> int:
    """What the width must be a multiple of, 0 = anything."""
    method, group = piece.stored.method, piece.stored.scaled_weights
    if method == "fp8_block128":
        return 128
    if not piece.rows or not group or (piece.experts and "mxfp4" in method):
        return 0
    return min(group, _LEAST_EXPERT_GROUP) if piece.experts else group


def _pieces(model: ModelArchitecture, kind: LayerKind, formats: LayerFormats, tp: int, moe_tp: int) -> Iterator[_Piece]:
    if tp > 1:
        yield from _mixer_pieces(model, kind, formats, tp)
        if kind.mlp_width:
            width = kind.mlp_width // tp
            for stored in (formats.gate, formats.up) if model.gated_mlp else (formats.up,):
                yield _Piece("intermediate_size", width, tp, stored)
            yield _Piece("intermediate_size", width, tp, formats.down, rows=True)
        if kind.moe and model.experts is not None and model.experts.shared_intermediate_size:
            width = model.experts.shared_intermediate_size // tp
            yield _Piece("shared_intermediate_size", width, tp, formats.shared_up)
            yield _Piece("shared_intermediate_size", width, tp, formats.shared_down, rows=True)
    if moe_tp > 1 and kind.moe and model.experts is not None:
        width = model.experts.intermediate_size // moe_tp
        yield _Piece("moe_intermediate_size", width, moe_tp, formats.experts_up, experts=True)
        yield _Piece("moe_intermediate_size", width, moe_tp, formats.experts_down, rows=True, experts=True)


def _mixer_pieces(model: ModelArchitecture, kind: LayerKind, formats: LayerFormats, tp: int) -> Iterator[_Piece]:
    heads = model.num_attention_heads // tp
    if kind.mixer == "mla":
        mla = model.mla
        assert mla is not None
        yield _Piece("the query projection", heads * mla.qk_head_dim, tp, formats.q)
        yield _Piece("kv_b_proj", heads * (mla.qk_nope_head_dim + mla.v_head_dim), tp, formats.kv_b)
        yield _Piece("the attention output", heads * mla.v_head_dim, tp, formats.o, rows=True)
    if kind.mixer in ("gqa", "gqa+linear"):
        keys = max(1, kind.kv_heads // tp) * model.head_dim
        yield _Piece("the query projection", heads * model.head_dim * (2 if model.attention_output_gate else 1), tp, formats.q)
        yield _Piece("the key projection", keys, tp, formats.k)
        yield _Piece("the value projection", keys, tp, formats.v)
        yield _Piece("the attention output", heads * model.head_dim, tp, formats.o, rows=True)
    if kind.mixer in ("linear", "gqa+linear") and model.linear_attention is not None:
        own = model.linear_attention.rank(tp)
        yield _Piece("the linear-attention input", own.num_key_heads * own.key_head_dim, tp, formats.linear_in)
        yield _Piece("the linear-attention input", own.values_width, tp, formats.linear_in)
        yield _Piece("the linear-attention output", own.values_width, tp, formats.linear_out, rows=True)
