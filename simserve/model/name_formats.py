"""Weight formats as the names of checkpoints spell them: `FP8-dynamic`, `quantized.w4a16`, `GPTQ-Int8`, `w8a8` -> a weight format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from simserve.model.weight_format import QuantMethod

_COMPLETE: dict[str, QuantMethod] = {
    "bf16": "none",
    "bfloat16": "none",
    "fp16": "none",
    "float16": "none",
    "fp8": "fp8",
    "w8a8": "w8a8_int8",
    "w8a16": "w8a16_int8",
    "w4a16": "w4a16_int4",
    "w4a8": "w4a8_int4",
    "w4a4": "w4a4_int4",
    "w4afp8": "w4a8_fp8",
    "nvfp4": "w4a4_nvfp4",
    "nvfp4a16": "w4a16_nvfp4",
    "mxfp4": "w4a4_mxfp4",
    "mxfp8": "w8a8_mxfp8",
    "nf4": "w4a16_nf4",
}
"""Words that say what weights and activations are. w8a8 and w4a8 without fp8 are integers, as llm-compressor and ModelSlim have them."""

_BITS = {"int4": 4, "4bit": 4, "int8": 8, "8bit": 8, "int3": 3, "3bit": 3, "int2": 2, "2bit": 2}
_WEIGHT_ONLY: dict[int, QuantMethod] = {2: "w2a16_int2", 3: "w3a16_int3", 4: "w4a16_int4", 8: "w8a16_int8"}
_PACKERS = ("awq", "gptq", "autoround")
"""Methods whose weights are integers and activations 16 bits; 4 bits where the name says no other number, their tools' default."""

_FP8_WITH: dict[str, QuantMethod] = {"w8a8": "fp8", "w8a16": "w8a16_fp8", "w4a8": "w4a8_fp8"}
"""`W8A8-FP8` and the like: the bits of a complete word, in floating point."""

_DETAILS = ("dynamic", "static", "block", "pertensor", "tensor", "channel", "per")
"""How scales of an fp8 copy are made. Only `block` (128 x 128 weights share one) changes bytes or kernels here."""

_OTHER = ("gguf", "ggml", "exl2", "exl3", "mlx", "onnx", "openvino", "aqlm", "hqq", "quip", "eetq", "spqr", "ternary", "1bit")
_LLAMA_CPP = re.compile(r"i?q\d")  # Q4_K_M, IQ2_XS, q8_0
_ASCEND_MORE = re.compile(r"(w\da\d+)(sc|s|c8)")
_ASCEND_WORDS = {
    "sc": "its weights are also sparse and compressed, by how much the name does not say",
    "s": "its weights are also sparse, by how much the name does not say",
    "c8": "parts of its cache are in 8 bits, which parts the name does not say",
}
_GROUP = re.compile(r"g(\d+)|(\d+)g")


class NamedFormat(NamedTuple):
    """What a name says of the weights.

    method   the format; None = nothing is said, or `refused` is
    detail   '' or what is said of the scales: dynamic, static, block
    group    weights that share a scale
    refused  why these weights are not simulated, '' = they are
    """

    method: QuantMethod | None = None
    detail: str = ""
    group: int = 128
    refused: str = ""


def is_format(word: str, before: Sequence[str] = ()) -> bool:
    """Whether a lower-case word of a name belongs to its weight format; `before`: the words of a format that stand before it."""
    stated = word in _COMPLETE or word in _BITS or word in _PACKERS or word in ("bnb", "fp4", *_OTHER)
    if stated or _LLAMA_CPP.match(word) or _ASCEND_MORE.fullmatch(word):
        return True
    if not before:
        return False
    return word in _DETAILS or _GROUP.fullmatch(word) is not None or (len(word) <= 3 and bool(_LLAMA_CPP.match(before[0])))


def read_format(words: Sequence[str], vendor: str = "") -> NamedFormat:
    """What the words of a name that `is_format` knows mean; `vendor`: what stands before the slash, in lower case."""
    for word in words:
        if word in _OTHER or _LLAMA_CPP.match(word):
            return NamedFormat(refused=f"weights in {word.upper()} are not simulated")
        more = _ASCEND_MORE.fullmatch(word)
        if more:
            return NamedFormat(refused=f"weights in {word} are not simulated: {_ASCEND_WORDS[more[2]]}")
    found, unclear = _methods(words, vendor)
    if unclear:
        return NamedFormat(refused=unclear)
    if len(found) > 1:
        return NamedFormat(refused=f"its name states more than one weight format ({', '.join(words)})")
    detail = next((word for word in words if word in ("dynamic", "static", "block")), "")
    group = next((int(g[1] or g[2]) for g in map(_GROUP.fullmatch, words) if g), 128)
    method = found.pop() if found else None
    if method == "fp8" and detail == "block":
        method = "fp8_block128"
    return NamedFormat(method, detail, group)


def _methods(words: Sequence[str], vendor: str) -> tuple[set[QuantMethod], str]:
    """The formats that the words state, and why they cannot be told."""
    bits = {_BITS[word] for word in words if word in _BITS}
    if len(bits) > 1:
        return set(), f"its name states more than one number of bits ({', '.join(words)})"
    width = next(iter(bits), None)
    found: set[QuantMethod] = {_COMPLETE[word] for word in words if word in _COMPLETE}
    if "fp8" in words:
        told = [word for word in words if word in _FP8_WITH]
        found = (found - {"fp8"} - {_COMPLETE[word] for word in told}) | {_FP8_WITH[word] for word in told or ("w8a8",)}
    if "fp4" in words:  # NVIDIA's copies say FP4 for NVFP4, AMD's for MXFP4
        found.add("w4a4_mxfp4" if vendor == "amd" else "w4a4_nvfp4")
    if "bnb" in words and not found:
        if width not in (4, 8):
            return set(), "bitsandbytes stores 4 or 8 bits, which of them its name does not say"
        return {"w4a16_nf4" if width == 4 else "llm_int8"}, ""
    packed = any(word in _PACKERS for word in words)
    if (packed or width is not None) and (not found or "none" in found):
        integers = packed or any(word in ("int2", "int3", "int4") for word in words)
        if not integers and "int8" not in words:
            return set(), f"of which kind its {width}-bit weights are its name does not say"
        found.add(_WEIGHT_ONLY[width or 4] if integers else "w8a8_int8")  # int8 alone: weights and activations, as engines serve it
    return found, ""
