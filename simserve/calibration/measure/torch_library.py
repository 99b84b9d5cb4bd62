"""PyTorch, loaded when measuring begins and not before."""

from __future__ import annotations

import importlib
from typing import Any

from simserve.errors import ConfigError


def load_torch() -> Any:
    """The torch module. Raises ConfigError, saying what to install, when it is absent or broken."""
    try:
        return importlib.import_module("torch")
    except ImportError as problem:
        first = str(problem).splitlines()[0] if str(problem) else "ImportError"
        raise ConfigError(
            f"measuring runs real kernels through PyTorch, which cannot be imported ({first}): install the build for your device "
            "(https://pytorch.org), or for the CPU simserve's 'measure' extra"
        ) from None


def load_optional(name: str) -> Any | None:
    """A kernel library that is used when it is installed, else None. A broken install counts as absent."""
    try:
        return importlib.import_module(name)
    except Exception:  # libraries with compiled parts fail in many ways when they do not match torch
        return None
