"""What stands in for the parts of SGLang that need a device or a model, so that its scheduler imports and runs on a CPU.

Stubbed are modules, never lines of the scheduler: kernels and layers of SGLang (`INNER`), and packages that only these, the HTTP server or
model loading use (`PACKAGES`), where they are not installed. A stubbed module answers to every name with an object that does nothing.
What the scheduler decides with, its classes of requests, batches, policies, budgets, allocators and prefix trees, is the engine's own.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

INNER = (
    "sglang.jit_kernel",
    "sglang.kernels",
    "sglang.srt.layers",
    "sglang.srt.model_executor.model_runner",
    "sglang.srt.model_executor.runner",
    "sglang.srt.model_loader",
    "sglang.srt.models",
)
"""SGLang's own modules of kernels, layers and models."""

_PACKAGES = """
IPython PIL aiohttp anthropic av blobfile compressed_tensors cuda cutlass datasets dateutil decord deep_gemm distro easydict
einops fastapi flashinfer gguf huggingface_hub interegular jinja2 kernels llguidance
mistral_common modelscope multipart numba openai_harmony outlines pynvml quack safetensors scipy sentencepiece sgl_kernel
soundfile tiktoken tilelang timm torch_memory_saver torchaudio torchcodec torchvision triton triton_kernels tvm_ffi uvicorn uvloop
watchfiles xgrammar
"""

PACKAGES = frozenset(_PACKAGES.split())
"""Packages that a scheduler does not decide with; those that are installed are used."""


class _Kind(type):
    """Class attributes of a stand-in are stand-ins."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(cls, key: Any) -> Any:
        return cls


class Nothing(metaclass=_Kind):
    """Answers to every name and call with itself or another like it; used as a decorator it leaves what it decorates alone."""

    def __init__(self, *args: Any, **keywords: Any) -> None: ...

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not keywords else Nothing()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(self, key: Any) -> Any:
        return self

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return ()

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *raised: Any) -> None: ...

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __mod__ = __iadd__ = __or__

    def __lt__(self, other: Any) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __str__(self) -> str:
        return "stub"

    @classmethod
    def __get_pydantic_core_schema__(cls, *args: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


class _Module(ModuleType):
    __version__ = "99.0.0"
    __path__: list[str] = []  # noqa: RUF012 - as packages have it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = Nothing()
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that are stubbed, before any other finder."""

    def __init__(self) -> None:
        self.stubbed: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        inner = any(name == one or name.startswith(f"{one}.") for one in INNER)
        if not inner and not isinstance(sys.modules.get(parent), _Module):
            if parent or name not in PACKAGES:
                return None
            others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
            if any(finder.find_spec(name, path) for finder in others):
                return None
        self.stubbed.add(name.split(".")[0] if not inner else name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


_FINDER = _Finder()


def stub() -> None:
    """From now on what is listed above is stubbed. torch is imported before: what it can do depends on which packages there are."""
    if _FINDER in sys.meta_path:
        return
    for name in ("torch", "torch._dynamo", "torch.utils.flop_counter", "torch._inductor.compile_fx"):
        importlib.import_module(name)
    sys.meta_path.insert(0, _FINDER)
