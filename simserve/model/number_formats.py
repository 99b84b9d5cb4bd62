"""Weight formats from numbers: bits and kind of weights and activations, weights that share a scale."""

from __future__ import annotations

from simserve.errors import ModelError
from simserve.files.words import clipped
from simserve.model.weight_format import QuantMethod, WeightFormat

_WEIGHT_ONLY: dict[int, QuantMethod] = {2: "w2a16_int2", 3: "w3a16_int3", 4: "w4a16_int4", 8: "w8a16_int8"}
_SCALE_BYTES = 2


def weight_only(where: str, bits: int, group_size: int, symmetric: bool, row_bytes: int = 0) -> WeightFormat:
    """Integer weights with 16-bit activations: a 2-byte scale for each group (-1 or 0: a channel), and a zero point as wide as a weight
    where it is not symmetric. Raises ModelError for other widths than 2, 3, 4 and 8 bits."""
    if bits not in _WEIGHT_ONLY:
        raise ModelError(f"{where}: {bits}-bit integer weights are not supported, only 2, 3, 4 and 8 bits")
    stored = None if symmetric and bits != 8 else _SCALE_BYTES + (0 if symmetric else bits / 8)
    return WeightFormat(_WEIGHT_ONLY[bits], max(group_size, 0), stored, row_bytes)


def numbers(
    where: str, kind: str, bits: int, group_size: int, input_kind: str, input_bits: int, *, symmetric: bool = True, block: bool = False
) -> WeightFormat:
    """The format of `bits`-bit `kind` (int, float) weights multiplied with such activations (16 bits: unquantised).

    group_size  weights that share a scale, -1 or 0 = a channel or tensor; block: 128 x 128 do
    Raises ModelError for a combination that no engine has kernels for.
    """
    if kind == "int" and input_bits >= 16:
        return weight_only(where, bits, group_size, symmetric)
    if kind == "float" and bits == 4:
        fours: dict[tuple[int, bool], QuantMethod] = {
            (16, True): "w4a4_nvfp4",
            (16, False): "w4a16_nvfp4",
            (32, True): "w4a4_mxfp4",
            (32, False): "w4a16_mxfp4",
        }
        four = fours.get((group_size, input_bits == 4))
        if four is not None and input_bits in (4, 16):
            return WeightFormat(four)
    if kind == "float" and bits == 8 and input_bits in (8, 16):
        if block:
            return WeightFormat("fp8_block128")
        if group_size == 32:
            return WeightFormat("w8a8_mxfp8")
        return WeightFormat("fp8" if input_bits == 8 else "w8a16_fp8")
    known: dict[tuple[str, int, str, int], QuantMethod] = {
        ("int", 8, "int", 8): "w8a8_int8",
        ("int", 4, "int", 8): "w4a8_int4",
        ("int", 4, "int", 4): "w4a4_int4",
        ("int", 4, "float", 8): "w4a8_fp8",
    }
    method = known.get((kind, bits, input_kind, input_bits))
    if method is None:
        raise ModelError(
            f"{where}: {bits}-bit {clipped(kind)} weights (group {group_size}) with {input_bits}-bit activations are not supported"
        )
    return WeightFormat(method, max(group_size, 0))
