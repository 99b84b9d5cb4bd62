"""The batch that attention runs on, and what every implementation of it looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.random_data import TORCH_DTYPE


class Heads(NamedTuple):
    """A rank's head layout. window_tokens 0 = full attention."""

    q_heads: int
    kv_heads: int
    head_dim: int
    window_tokens: int = 0
    dtype: str = "bf16"


@dataclass(frozen=True)
class Batch:
    """Sequences of one step: `new_tokens[i]` computed now after `context_tokens[i]` that are cached. Decoding is new_tokens 1."""

    new_tokens: tuple[int, ...]
    context_tokens: tuple[int, ...]

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.new_tokens)

    @cached_property
    def totals(self) -> NDArray[np.int64]:
        """Tokens of each sequence after the step."""
        return np.array(self.new_tokens, dtype=np.int64) + np.array(self.context_tokens, dtype=np.int64)

    @property
    def tokens(self) -> int:
        """New tokens of the batch."""
        return sum(self.new_tokens)

    def block_tables(self, block_tokens: int, seed: int = 0) -> tuple[list[NDArray[np.int64]], int]:
        """Blocks of each sequence, scattered over the pool as after hours of serving, and the blocks in the pool."""
        counts = -(-self.totals // block_tokens)
        order = np.random.Generator(np.random.PCG64(seed)).permutation(int(counts.sum()))
        return np.split(order, np.cumsum(counts)[:-1]), len(order)

    def slots(self, block_tokens: int, tables: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Place in the flattened pool of every new token, in order."""
        out = []
        for table, total, new in zip(tables, self.totals, self.new_tokens, strict=True):
            position = np.arange(total - new, total)
            out.append(table[position // block_tokens] * block_tokens + position % block_tokens)
        return np.concatenate(out)


class AttentionPlan(ABC):
    """One implementation, prepared for one batch. `paged`: whether the cache is in blocks behind a table, as engines hold it."""

    paged = True
    label = ""

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        self.device, self.heads, self.batch = device, heads, batch

    @staticmethod
    @abstractmethod
    def can_run(device: TorchDevice) -> bool:
        """Whether the device and the installed libraries can."""

    @abstractmethod
    def cache_shape(self) -> tuple[int, ...]:
        """Shape of one layer's cache; element 0 of the first axis holds keys, element 1 values."""

    @abstractmethod
    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """q [tokens, q_heads, head_dim], k and v [tokens, kv_heads, head_dim] of the new tokens -> [tokens, q_heads, head_dim]."""

    def tensor(self, values: Any, dtype: str = "int32") -> Any:
        """Host integers as a tensor on the device."""
        kind = getattr(self.device.torch, dtype)
        return self.device.torch.as_tensor(np.ascontiguousarray(values), device=self.device.device).to(kind)

    @property
    def torch_dtype(self) -> Any:
        """Type of queries, keys and values."""
        return getattr(self.device.torch, TORCH_DTYPE[self.heads.dtype])


def cumulative(lengths: Any) -> NDArray[np.int64]:
    """0, a, a + b, ...: where each sequence begins in a packed batch."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
