"""Small operators that layers and heads are built from, in the formats of one model."""

from __future__ import annotations

from simserve.model.architecture import ModelArchitecture
from simserve.model.operators import AllReduce, Elementwise, Gemm
from simserve.model.quantisation import QuantMethod, bytes_of_weights

ACTIVATION_BYTES = 2  # activations and residual stream are bf16 or fp16


def gemm(model: ModelArchitecture, name: str, n: int, k: int, method: QuantMethod, bias: bool = False) -> Gemm:
    return Gemm(name, n, k, kernel_format(model, method), stored_bytes(model, method, n * k) + bias * n * ACTIVATION_BYTES)


def stored_bytes(model: ModelArchitecture, method: QuantMethod, weights: int) -> int:
    return bytes_of_weights(kernel_format(model, method), weights, model.quantisation.group_size)


def kernel_format(model: ModelArchitecture, method: QuantMethod) -> str:
    return model.dtype if method == "none" else method


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
