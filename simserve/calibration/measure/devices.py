"""The device that kernels run on: its events, its memory, its graphs. CUDA, Ascend NPU and CPU look alike from here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from simserve.calibration.measure.torch_library import load_optional, load_torch
from simserve.errors import ConfigError, nearest

KINDS = ("cuda", "npu", "cpu")
_GRAPHS = {"cuda": "CUDAGraph", "npu": "NPUGraph"}
_CPU_CACHE_BYTES = 8 << 20  # nominal: a CPU's cache size is not known to PyTorch, and cold weights matter on accelerators
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "invalid buffer size")
_ASCEND_L2_BYTES = 192 << 20  # Ascend 910B; torch_npu does not report it


class TorchDevice:
    """One device through PyTorch.

    l2_bytes, memory_bytes, sms   as the driver reports them. has_graphs: kernels can be captured and replayed (CUDA graphs; NPU graphs
    where torch_npu has them, 2.6 and newer).
    """

    def __init__(self, kind: str, index: int = 0) -> None:
        self.torch = load_torch()
        self.kind = kind
        self.index = index
        self._module: Any = None if kind == "cpu" else _accelerator(self.torch, kind)
        self.has_graphs = kind in _GRAPHS and hasattr(self._module, _GRAPHS[kind])
        self.count = 1 if self._module is None else int(self._module.device_count())
        if self._module is None:
            self.device = self.torch.device("cpu")
            self.name, self.memory_bytes, self.sms = "cpu", _host_memory_bytes(), int(self.torch.get_num_threads())
            self.l2_bytes = _CPU_CACHE_BYTES
            return
        if not 0 <= index < self.count:
            raise ConfigError(f"--device {kind}:{index}: there are {self.count} such devices, numbered from 0")
        self.device = self.torch.device(kind, index)
        self._module.set_device(index)
        facts = self._module.get_device_properties(index)
        self.name = str(facts.name)
        self.memory_bytes = int(facts.total_memory)
        self.sms = int(getattr(facts, "multi_processor_count", 0) or getattr(facts, "cube_core_num", 1))
        self.l2_bytes = int(getattr(facts, "L2_cache_size", 0) or _ASCEND_L2_BYTES)

    # ---- time ----

    def synchronize(self) -> None:
        """Wait until everything submitted has finished; errors of earlier kernels surface here."""
        if self._module is not None:
            self._module.synchronize()

    def event(self) -> Any:
        """A recorded point in the device's stream (`.record()`); on the CPU a clock reading."""
        return _HostEvent() if self._module is None else self._module.Event(enable_timing=True)

    def elapsed_s(self, start: Any, end: Any) -> float:
        """Seconds between two recorded events; waits for the second."""
        if self._module is None:
            return float(end.at_s - start.at_s)
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def capture(self, work: Callable[[], object]) -> Callable[[], object]:
        """Capture `work` into a graph and return its replay. `work` must have run before (lazy initialisation is not captured)."""
        side = self._module.Stream()
        side.wait_stream(self._module.current_stream())
        with self._module.stream(side):
            work()
        self._module.current_stream().wait_stream(side)
        graph = getattr(self._module, _GRAPHS[self.kind])()
        with self._module.graph(graph):
            work()
        return lambda: graph.replay()

    # ---- memory and health ----

    def free_bytes(self) -> int:
        """Memory that can still be allocated, what PyTorch caches included."""
        if self._module is None:
            return self.memory_bytes // 2
        free, _ = self._module.mem_get_info()
        return int(free) + int(self._module.memory_reserved() - self._module.memory_allocated())

    def release(self) -> None:
        """Give cached memory back to the driver."""
        if self._module is not None:
            self._module.empty_cache()

    def is_out_of_memory(self, problem: BaseException) -> bool:
        """Whether an exception says that memory ran out."""
        if isinstance(problem, MemoryError | self.torch.OutOfMemoryError):
            return True
        text = str(problem).lower()
        return isinstance(problem, RuntimeError) and any(words in text for words in _NO_MEMORY)

    def healthy(self) -> bool:
        """Whether the device still computes: after a fault inside a kernel nothing on it works until the process ends."""
        try:
            value = float(self.torch.ones(8, device=self.device).sum().item())
            self.synchronize()
        except RuntimeError:
            return False
        return value == 8.0


class _HostEvent:
    """perf_counter behind the interface of a device event."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def record(self) -> None:
        self.at_s = time.perf_counter()


def open_device(text: str) -> TorchDevice:
    """`cuda`, `cuda:1`, `npu` or `cpu`. Raises ConfigError for another word, a device that is absent, and when PyTorch is absent."""
    kind, _, index = text.partition(":")
    if kind not in KINDS or (index and not index.isdigit()):
        raise ConfigError(f"--device {text}: unknown device{nearest(kind, KINDS)}")
    return TorchDevice(kind, int(index or 0))


def _accelerator(torch: Any, kind: str) -> Any:
    if kind == "npu" and load_optional("torch_npu") is None:
        raise ConfigError("--device npu: Ascend devices need the torch_npu package that matches your CANN and PyTorch")
    module = getattr(torch, kind, None)
    if module is None or not module.is_available():
        raise ConfigError(f"--device {kind}: PyTorch {torch.__version__} sees no such device; build, driver or device is missing")
    return module


def _host_memory_bytes() -> int:
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 << 30
