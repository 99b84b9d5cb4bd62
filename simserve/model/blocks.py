"""Small operators that layers and heads are built from, in the formats of one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simserve.model.architecture import ModelArchitecture
from simserve.model.operators import AllReduce, Elementwise, Gemm
from simserve.model.weight_format import WeightFormat

ACTIVATION_BYTES = 2  # activations and residual stream are bf16 or fp16


def gemm(model: ModelArchitecture, name: str, n: int, k: int, stored: WeightFormat, bias: bool = False) -> Gemm:
    return Gemm(name, n, k, kernel_format(model, stored), stored.bytes_of(n * k, k) + bias * n * ACTIVATION_BYTES)


def fused(model: ModelArchitecture, name: str, k: int, pieces: Sequence[tuple[int, WeightFormat]], bias: bool = False) -> Iterator[Gemm]:
    """One multiplication for column blocks of one input; one for each format where the blocks are stored differently."""
    columns: dict[WeightFormat, int] = {}
    for n, stored in pieces:
        columns[stored] = columns.get(stored, 0) + n
    for stored, n in columns.items():
        yield gemm(model, name, n, k, stored, bias)


def kernel_format(model: ModelArchitecture, stored: WeightFormat) -> str:
    return model.dtype if stored.method == "none" else stored.method


def plain(name: str, width: int, passes: int, parameters: int = 0) -> Elementwise:
    return Elementwise(name, width, passes * width * ACTIVATION_BYTES, parameters * ACTIVATION_BYTES)


def norm(model: ModelArchitecture, name: str) -> Elementwise:
    # RMSNorm kernels are fused with the residual add: two tensors read, two written.
    fused = model.norm == "rmsnorm"
    return plain(name, model.hidden_size, 4 if fused else 2, model.hidden_size * (1 if fused else 2))


def add(model: ModelArchitecture) -> Elementwise:
    return plain("add", model.hidden_size, 3)


def all_reduce(model: ModelArchitecture, name: str, group: int) -> AllReduce:
    return AllReduce(name, model.hidden_size * ACTIVATION_BYTES, group)
