"""Compiled builds of the engine: what a class tells the compiler (mypyc), and whether this installation is one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

_T = TypeVar("_T")

PURE = "pure Python"

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**options: bool) -> Callable[[type[_T]], type[_T]]:
        """What mypyc reads of a class (`mypy_extensions.mypyc_attr`); nothing to the interpreter, which then needs no package for it."""
        return lambda kind: kind


def engine_build() -> str:
    """What runs the engine: "compiled (mypyc 1.18)" or "pure Python". Records are the same; it is in no result."""
    try:
        made = importlib.import_module(f"{__package__}._compiled")
    except ImportError:
        return PURE
    return f"compiled ({made.COMPILER})"
