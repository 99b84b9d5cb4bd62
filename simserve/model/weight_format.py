"""One way to store a weight matrix: bits of a weight, scales and zero points of a group, and what a matrix needs besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

QuantMethod = Literal[
    "none",
    "fp8",
    "fp8_block128",
    "w8a8_int8",
    "w8a16_int8",
    "w4a16_int4",
    "w4a16_mxfp4",
    "w4a8_int4",
    "w4a4_int4",
    "bf16_2of4",
    "w4a4_nvfp4",
    "w4a16_nvfp4",
    "w4a4_mxfp4",
    "w4a8_mxfp4",
    "w8a8_mxfp8",
    "w4a8_fp8",
    "w8a16_fp8",
    "w4a16_nf4",
    "llm_int8",
    "w3a16_int3",
    "w2a16_int2",
]
ComputeDtype = Literal["bf16", "fp16"]

QUANT_METHODS: tuple[QuantMethod, ...] = get_args(QuantMethod)

_WEIGHT_BITS: dict[str, int] = {
    "bf16": 16,
    "fp16": 16,
    "none": 16,
    "fp8": 8,
    "fp8_block128": 8,
    "w8a8_int8": 8,
    "w8a16_int8": 8,
    "w4a16_int4": 4,
    "w4a16_mxfp4": 4,
    "w4a8_int4": 4,
    "w4a4_int4": 4,
    "bf16_2of4": 9,
    "w4a4_nvfp4": 4,
    "w4a16_nvfp4": 4,
    "w4a4_mxfp4": 4,
    "w4a8_mxfp4": 4,
    "w8a8_mxfp8": 8,
    "w4a8_fp8": 4,
    "w8a16_fp8": 8,
    "w4a16_nf4": 4,
    "llm_int8": 8,
    "w3a16_int3": 3,
    "w2a16_int2": 2,
}


class _Group(NamedTuple):
    """Weights that share a scale, where the format fixes that (0: the checkpoint says), and bytes of scales and zero points a group."""

    weights: int
    stored_bytes: float


_GROUPS: dict[str, _Group] = {
    "fp8_block128": _Group(128 * 128, 4),
    "w4a16_mxfp4": _Group(32, 1),
    "w4a4_mxfp4": _Group(32, 1),
    "w4a8_mxfp4": _Group(32, 1),
    "w8a8_mxfp8": _Group(32, 1),
    "w4a4_nvfp4": _Group(16, 1),
    "w4a16_nvfp4": _Group(16, 1),
    "w4a16_nf4": _Group(64, 4),
    "w4a16_int4": _Group(0, 2),
    "w4a8_int4": _Group(0, 2),
    "w4a4_int4": _Group(0, 2),
    "w4a8_fp8": _Group(0, 2),
    "w3a16_int3": _Group(0, 2),
    "w2a16_int2": _Group(0, 2),
}


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How one matrix is stored, hashable.

    group_size    weights along a row that share a scale, 0 = a whole output channel or tensor (its scales, below 0.1 %, are left out).
                  The OCP and NVIDIA 4-bit formats, bitsandbytes and 128x128 blocks fix their own.
    group_bytes   bytes of scale and zero point of one group; None = as the format has it:
                  int4 of GPTQ and compressed-tensors: a 2-byte scale; int4 with 8- or 4-bit activations: a 1-byte scale and a 1-byte zero
                  point (QServe, arXiv 2405.04532); fp8_block128: 4 bytes for 128 x 128; MXFP4, MXFP8: 1-byte exponent for 32 (OCP
                  Microscaling Formats v1.0); NVFP4: 1-byte fp8 scale for 16; nf4: a 4-byte scale for 64 (QLoRA, arXiv 2305.14314).
    row_bytes     bytes for each input row of the matrix (GPTQ's `g_idx` with `desc_act`: 4).
    """

    method: QuantMethod = "none"
    group_size: int = 128
    group_bytes: float | None = None
    row_bytes: int = 0

    def __post_init__(self) -> None:
        """Formats that are stored alike are equal: a group size that the format does not have is the default."""
        if not self.takes_group_size:
            object.__setattr__(self, "group_size", 128)

    @property
    def takes_group_size(self) -> bool:
        """Whether the checkpoint says how many weights share a scale."""
        fixed = _GROUPS.get(self.method)
        return self.group_bytes is not None if fixed is None else not fixed.weights

    @property
    def scaled_weights(self) -> int:
        """Weights that share one scale, 0 = a channel or a tensor."""
        if self.takes_group_size:
            return self.group_size
        return _GROUPS.get(self.method, _Group(0, 0)).weights

    def bytes_of(self, weights: int, rows: int = 0) -> int:
        """Bytes of `weights` matrix elements over `rows` input rows, scales included (2 bytes an element for `none`)."""
        scales = 0.0
        if self.scaled_weights:
            stored = self.group_bytes
            if stored is None:
                stored = _GROUPS[self.method].stored_bytes
            scales = stored / self.scaled_weights
        return round(weights * (_WEIGHT_BITS[self.method] / 8 + scales)) + rows * self.row_bytes


PLAIN = WeightFormat()
