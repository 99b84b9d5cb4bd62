"""Which sizes are measured, coarse before fine: levels 0, 1 and 2 of every grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Levels = dict[int, int]
"""Size -> level at which it is first measured."""


class Layout(NamedTuple):
    """A head layout of one rank."""

    q_heads: int
    kv_heads: int
    head_dim: int
    window_tokens: int = 0


class Dimensions(NamedTuple):
    """Columns of the element-wise table. head_dim 0 = hidden_size / num_heads."""

    hidden_size: int
    mlp_hidden_size: int
    num_heads: int
    num_kv_heads: int
    tensor_parallel: int = 1
    model: str = ""
    head_dim: int = 0


class ExpertShape(NamedTuple):
    """Columns of the MoE table."""

    hidden_size: int
    inter_size: int
    topk: int
    num_experts: int
    tensor_parallel: int = 1
    expert_parallel: int = 1


@dataclass(frozen=True, slots=True)
class Scale:
    """How large kernels get on a kind of device."""

    max_tokens: int
    max_batch: int
    max_context: int
    max_kv_tokens: int
    max_bytes: int
    gemm: tuple[tuple[tuple[int, int], int], ...]
    layouts: tuple[tuple[Layout, int], ...]
    dimensions: tuple[tuple[Dimensions, int], ...]
    experts: tuple[tuple[ExpertShape, int], ...]


_GEMM_NK = (
    # (n, k) of Llama-like layers and heads first, then a lattice around them
    *(((6144, 4096), 0), ((4096, 4096), 0), ((28672, 4096), 0), ((4096, 14336), 0), ((10240, 8192), 0), ((8192, 8192), 0)),
    *(((57344, 8192), 1), ((8192, 28672), 1), ((3072, 8192), 1), ((8192, 2048), 1), ((2048, 2048), 1), ((128256, 4096), 1)),
    *(((n, k), 2) for n in (512, 1024, 1536, 2560, 5120, 7168, 16384, 22016) for k in (512, 1536, 3584, 5120, 7168, 11008)),
)
_LAYOUTS = (
    *((Layout(32, 8, 128), 0), (Layout(64, 8, 128), 0), (Layout(32, 32, 128), 0), (Layout(8, 1, 128), 0)),
    *((Layout(16, 2, 128), 1), (Layout(28, 4, 128), 1), (Layout(40, 40, 128), 1), (Layout(64, 8, 64), 1), (Layout(4, 4, 128), 1)),
    *((Layout(16, 16, 128), 2), (Layout(32, 4, 128), 2), (Layout(64, 8, 128, 4096), 2), (Layout(71, 1, 64), 2)),
)
_DIMENSIONS = ((Dimensions(4096, 14336, 32, 8), 0), (Dimensions(8192, 28672, 64, 8), 0), (Dimensions(5120, 13824, 40, 40), 1))
_EXPERTS = (
    *((ExpertShape(4096, 14336, 2, 8), 0), (ExpertShape(2048, 768, 8, 128), 0)),
    *((ExpertShape(4096, 14336, 2, 8, 2), 1), (ExpertShape(2048, 768, 8, 128, 1, 4), 1), (ExpertShape(2048, 1408, 6, 64), 1)),
    *((ExpertShape(7168, 2048, 8, 256, 1, 32), 2), (ExpertShape(6144, 16384, 2, 8, 8), 2)),
)
ACCELERATOR = Scale(16384, 512, 131072, 1 << 22, 1 << 30, _GEMM_NK, _LAYOUTS, _DIMENSIONS, _EXPERTS)
"""GPUs and NPUs. A point that does not fit the memory is counted and left out."""

CPU = Scale(
    256,
    16,
    1024,
    16384,
    1 << 22,
    (((256, 128), 0), ((128, 256), 0), ((192, 192), 0), ((512, 256), 1), ((256, 512), 1), ((384, 128), 1), ((320, 320), 2)),
    ((Layout(4, 4, 32), 0), (Layout(8, 2, 32), 0), (Layout(4, 1, 64), 1), (Layout(8, 2, 32, 64), 2)),
    ((Dimensions(256, 512, 8, 2), 0), (Dimensions(512, 1024, 8, 8), 1)),
    ((ExpertShape(64, 64, 2, 4), 0), (ExpertShape(128, 64, 2, 8, 1, 2), 1)),
)
"""A test of the harness, not a profile of a serving device."""


def scale_of(kind: str) -> Scale:
    """The scale of `cuda`, `npu` or `cpu`."""
    return CPU if kind == "cpu" else ACCELERATOR


def tokens(most: int) -> Levels:
    """Token counts: powers of two, then multiples of 8 and one beyond powers of two, then a finer comb. Small sizes are the densest."""
    out: Levels = {}
    for level, sizes in enumerate((_powers(1, most), _tile_edges(most), _comb(most))):
        for size in sizes:
            if 1 <= size <= most:
                out.setdefault(size, level)
    return out


def message_bytes(most: int) -> Levels:
    """Message and buffer sizes from 1 KiB: powers of four, then of two, then halfway between."""
    out: Levels = {}
    for level, (start, factor) in enumerate(((1 << 10, 4), (1 << 10, 2), (3 << 9, 2))):
        size = start
        while size <= most:
            out.setdefault(size, level)
            size *= factor
    return out


def _powers(first: int, most: int) -> Iterator[int]:
    while first <= most:
        yield first
        first *= 2


def _tile_edges(most: int) -> Iterator[int]:
    yield from range(8, min(most, 256) + 1, 16)
    yield from range(320, min(most, 1024) + 1, 64)
    for power in _powers(8, most):
        yield power + 1
        yield power + 8
        yield 3 * power // 2


def _comb(most: int) -> Iterator[int]:
    if most <= 512:  # a small device: its few sizes must still be enough to fit one kernel
        yield from range(4, most + 1, 4)
    yield from range(3, 16)
    yield from range(16, min(most, 512) + 1, 8)
    yield from range(512, min(most, 2048) + 1, 32)
    yield from range(2048, most + 1, 256)
