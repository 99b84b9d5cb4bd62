"""Values that pass between stages do not change: which dataclasses and pydantic models of a package could."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass

from pydantic import BaseModel


def changeable(package: str) -> set[str]:
    """Names of the classes with declared fields, in a package or module and all below, whose objects may be changed once made."""
    return {each.__name__ for module in _modules(package) for each in vars(module).values() if _own(each, module.__name__) and _open(each)}


def _modules(package: str) -> Iterator[object]:
    top = importlib.import_module(package)
    yield top
    for found in pkgutil.walk_packages(getattr(top, "__path__", []), f"{package}."):
        yield importlib.import_module(found.name)


def _own(each: object, module: str) -> bool:
    return inspect.isclass(each) and each.__module__ == module


def _open(each: type) -> bool:
    if is_dataclass(each):
        return not each.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return issubclass(each, BaseModel) and not each.model_config.get("frozen", False)
