"""Random numbers on the device, cut into tensors without an allocation for each. Zeros run faster than data on real chips."""

from __future__ import annotations

from math import prod
from typing import Any

from simserve.calibration.measure.devices import TorchDevice

TORCH_DTYPE = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3fn", "w8a8_int8": "int8", "int8": "int8"}
_ALIGN = 512  # elements: every copy starts on a boundary that all kernels accept
_MAX_COPIES = 48
_COLD = 1.5  # copies together exceed the L2 cache by this factor
_FRACTION = 0.3  # of the free memory that a set of copies may take


class RandomData:
    """A pool of random elements per type; `one` and `copies` are views into it."""

    def __init__(self, device: TorchDevice, seed: int = 0) -> None:
        self._device = device
        self._generator = device.torch.Generator(device=device.device).manual_seed(seed)
        self._pools: dict[tuple[str, str], Any] = {}

    def one(self, shape: tuple[int, ...], dtype: str, role: str = "activations") -> Any:
        """One tensor of standard normal numbers (int8: uniform). Tensors of one role and type share their memory."""
        return self.copies(shape, dtype, 1, role)[0]

    def copies(self, shape: tuple[int, ...], dtype: str, count: int | None = None, role: str = "weights") -> list[Any]:
        """`count` tensors that share no element; by default as many as it takes for none to be in the L2 cache when its turn comes."""
        size = -(-prod(shape) // _ALIGN) * _ALIGN
        element = self._torch_dtype(dtype).itemsize
        if count is None:
            count = self.cold_copies(size * element)
        pool = self._pool(dtype, role, size * count)
        return [pool[i * size : i * size + prod(shape)].view(shape) for i in range(count)]

    def cold_copies(self, size_bytes: int) -> int:
        """Copies of something of this size that do not stay in the cache, fewer when memory is short."""
        wanted = min(_MAX_COPIES, int(_COLD * self._device.l2_bytes / max(size_bytes, 1)) + 2)
        fits = int(_FRACTION * self._device.free_bytes() / max(size_bytes, 1))
        return max(1, min(wanted, fits))

    def release(self) -> None:
        """Drop all pools."""
        self._pools.clear()
        self._device.release()

    def _torch_dtype(self, dtype: str) -> Any:
        return getattr(self._device.torch, TORCH_DTYPE[dtype])

    def _pool(self, dtype: str, role: str, elements: int) -> Any:
        pool = self._pools.get((dtype, role))
        if pool is None or pool.numel() < elements:
            self._pools.pop((dtype, role), None)
            pool = None  # the old pool is gone before the larger one is made
            self._pools[dtype, role] = pool = self._fill(dtype, elements)
        return pool

    def _fill(self, dtype: str, elements: int) -> Any:
        torch, kind = self._device.torch, self._torch_dtype(dtype)
        out = torch.empty(elements, dtype=kind, device=self._device.device)
        step = 1 << 26
        for start in range(0, elements, step):
            part = out[start : start + step]
            if dtype in ("bf16", "fp16", "fp32"):
                part.normal_(generator=self._generator)
            elif kind == torch.int8:
                part.random_(-64, 64, generator=self._generator)
            else:  # float8 has no generator of its own
                part.copy_(torch.empty(part.shape, dtype=torch.float32, device=self._device.device).normal_(generator=self._generator))
        return out
