"""What installed packages add: policies, cost models, metrics, trace formats, each found by an entry point and known by its package.

A package names what it adds in its pyproject.toml, under the group of its kind:

    [project.entry-points."simserve.routers"]
    mine = "my_package.my_module:MyRouter"

Names of simserve's own things cannot be taken over. A thing that cannot be loaded is an error for who uses it, and only then.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, NamedTuple

from simserve.errors import ConfigError

_MOST = 300
"""Characters of a third party's own message."""

KINDS = {
    "simserve.schedulers": "scheduling policy",
    "simserve.routers": "routing policy",
    "simserve.controllers": "controller",
    "simserve.orders": "queue discipline",
    "simserve.cost_models": "cost model",
    "simserve.metrics": "metric",
    "simserve.trace_formats": "trace format",
}
"""Entry-point groups, and what a thing of each is called."""


class Plugin(NamedTuple):
    """A thing by its entry point. `rival`: another package that has one of the same name."""

    point: EntryPoint
    rival: str = ""

    @property
    def name(self) -> str:
        """By which users know it."""
        return self.point.name

    @property
    def package(self) -> str:
        """'their-package 1.0'; "" of simserve's own things and where no package is known."""
        return _package(self.point)

    @property
    def words(self) -> str:
        """ "routing policy 'mine' of their-package 1.0": how errors call it."""
        kind = KINDS[self.point.group]
        return f"{kind} '{self.name}' of {self.package}" if self.package else f"{kind} '{self.name}'"

    def load(self) -> Any:
        """The thing itself. Raises ConfigError, which names the package, for whatever goes wrong."""
        if self.rival:
            raise ConfigError(f"{self.words}: {self.rival} has one of the same name; uninstall one of them")
        try:
            return self.point.load()
        except Exception as problem:  # a third party's module may fail in any way while it is imported
            what = str(problem) if len(str(problem)) <= _MOST else str(problem)[: _MOST - 3] + "..."
            raise ConfigError(f"{self.words} cannot be loaded from {self.point.value}: {type(problem).__name__}: {what}") from problem


def found(group: str) -> dict[str, Plugin]:
    """What installed packages add to a group of KINDS, by name, in the order of names. Nothing is imported."""
    assert group in KINDS
    return dict(_found(group, entry_points, _installed()))


def _installed() -> tuple[Any, ...]:
    """What changes when a package comes or goes: where Python looks for packages, how, and when these folders last changed."""
    finders = tuple(id(finder) for finder in sys.meta_path if hasattr(finder, "find_distributions"))
    folders = []
    for place in sys.path:
        try:
            folders.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            folders.append((place, 0))
    return os.getcwd() if "" in sys.path else "", finders, tuple(folders)


@functools.lru_cache(maxsize=2)
def _all(installed: tuple[Any, ...]) -> EntryPoints:
    """Of every group: finding those of one takes as long, because the files of all packages are read."""
    points: Any = metadata.entry_points()
    return points  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=2 * len(KINDS))
def _found(group: str, points_of: Callable[..., EntryPoints], installed: tuple[Any, ...]) -> dict[str, Plugin]:
    """`found`, while nothing is installed or removed: a study reads hundreds of experiments, each of which asks for every group."""
    plugins: dict[str, Plugin] = {}
    points = _all(installed).select(group=group) if points_of is metadata.entry_points else points_of(group=group)
    for point in sorted(points, key=lambda point: point.name):
        known = plugins.get(point.name)
        if known is None:
            plugins[point.name] = Plugin(point)
        elif known.point.value != point.value:  # the same package may be found twice on the path
            plugins[point.name] = known._replace(rival=_package(point) or point.value)
    return plugins


def own(group: str, things: dict[str, str]) -> dict[str, Plugin]:
    """simserve's own things of a group, from their place as entry points write it (`module:attribute`, or a module)."""
    return {name: Plugin(EntryPoint(name, value, group)) for name, value in things.items()}


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
