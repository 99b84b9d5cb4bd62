"""How the weights of each part of a model are stored, and how many bytes a weight then takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from simserve.errors import ModelError, nearest

QuantMethod = Literal[
    "none", "fp8", "fp8_block128", "w8a8_int8", "w8a16_int8", "w4a16_int4", "w4a16_mxfp4", "w4a8_int4", "w4a4_int4", "bf16_2of4"
]
ComputeDtype = Literal["bf16", "fp16"]

QUANT_METHODS: tuple[QuantMethod, ...] = get_args(QuantMethod)

_WEIGHT_BITS = {
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp8_block128": 8,
    "w8a8_int8": 8,
    "w8a16_int8": 8,
    "w4a16_int4": 4,
    "w4a16_mxfp4": 4,
    "w4a8_int4": 4,
    "w4a4_int4": 4,
    "bf16_2of4": 9,
}


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The weight format of each part of the layers. Embeddings, norms, the router and the LM head stay at the compute type.

    Checkpoints differ by part: gpt-oss stores only its routed experts in mxfp4, Kimi-K2.5 only its routed experts in int4.
    group_size  weights that share one scale in the 4-bit formats (int4: 2-byte scale; mxfp4 is always 32 with a 1-byte scale).
    """

    attention: QuantMethod = "none"
    mlp: QuantMethod = "none"
    shared_experts: QuantMethod = "none"
    experts: QuantMethod = "none"
    group_size: int = 128

    @staticmethod
    def uniform(method: str, group_size: int = 128) -> Quantisation:
        """Every linear layer in one format. Raises ModelError for an unknown method."""
        for known in QUANT_METHODS:
            if known == method:
                return Quantisation(known, known, known, known, group_size)
        raise ModelError(f"unknown quantisation '{method}'{nearest(method, QUANT_METHODS)}")

    @property
    def name(self) -> str:
        """`none`, the one method used, or `method (parts)` when some parts stay unquantised."""
        parts = {"attention": self.attention, "mlp": self.mlp, "shared_experts": self.shared_experts, "experts": self.experts}
        used = sorted(set(parts.values()))
        if len(used) == 1:
            return used[0]
        return "; ".join(f"{m} ({', '.join(p for p, v in parts.items() if v == m)})" for m in used if m != "none")

    def weight_bytes(self, method: QuantMethod, weights: int) -> int:
        """Bytes of `weights` matrix elements stored by `method`, scales included (2 bytes an element for `none`)."""
        return bytes_of_weights("bf16" if method == "none" else method, weights, self.group_size)


UNQUANTISED = Quantisation()


def bytes_of_weights(dtype: str, weights: int, group_size: int = 128) -> int:
    """Bytes of a weight matrix with its scales.

    fp8_block128: one 4-byte scale for each 128 x 128 block. w4a16_int4: one 2-byte scale a group (symmetric, as GPTQ and
    compressed-tensors pack it). w4a8_int4, w4a4_int4: a 1-byte scale and a 1-byte zero point a group (QServe, arXiv 2405.04532).
    bf16_2of4: two of four weights are kept, with a 2-bit index each (2:4 sparsity, arXiv 2104.08378).
    w4a16_mxfp4: one shared 1-byte exponent for 32 weights (OCP Microscaling Formats v1.0).
    Per-tensor and per-channel scales are left out (below 0.1 %).
    """
    in_groups = dict.fromkeys(("w4a16_int4", "w4a8_int4", "w4a4_int4"), 2 / group_size)
    scale_bytes = {"fp8_block128": 4 / (128 * 128), "w4a16_mxfp4": 1 / 32, **in_groups}.get(dtype, 0.0)
    return round(weights * (_WEIGHT_BITS[dtype] / 8 + scale_bytes))
