"""Which points a sweep visits: all combinations, a list, or a sample of the space. Counted before anything is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simserve.errors import ConfigError, nearest
from simserve.files.words import shown
from simserve.study.base import LABEL, VARIANT
from simserve.study.sweep.axes import Axis, Range

Method = Literal["grid", "random", "latin-hypercube"]
METHODS: tuple[Method, ...] = ("grid", "random", "latin-hypercube")

Changes = dict[str, Any]
"""Values by dotted key: what a point changes in the experiment."""

DEFAULT_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Design:
    """The points of a sweep, in order. `points` are listed ones; otherwise `axes` are combined (grid) or sampled.

    sample    number of points of random and latin-hypercube; `sample_seed` decides which
    variants  of the experiment: each of them is run at every point
    labels    names of the listed points, where they have some; they are a key of the sweep, called `label`
    """

    axes: tuple[Axis, ...] = ()
    points: tuple[Changes, ...] = ()
    method: Method = "grid"
    sample: int | None = None
    sample_seed: int = 0
    variants: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that change, in order."""
        crossed = (VARIANT,) if self.variants else ()
        if self.points:
            named = (LABEL,) if self.labels else ()
            return (*crossed, *named, *dict.fromkeys(key for point in self.points for key in point))
        return (*crossed, *(axis.key for axis in self.axes))

    def count(self) -> int:
        """Points, without making them. Raises ConfigError for an axis that does not say how many values it has."""
        return self._count() * max(1, len(self.variants))

    def sizes(self) -> str:
        """How the count comes about: '10 x 5'."""
        crossed = [f"{len(self.variants):,}"] if self.variants else []
        sizes = [*crossed, *(f"{len(axis):,}" for axis in self.axes)]
        return " x ".join(sizes) if self.method == "grid" and len(sizes) > 1 else ""

    def __iter__(self) -> Iterator[Changes]:
        if not self.variants:
            yield from self._points()
        for variant in self.variants:  # outermost: neighbours share their machine, and a worker its cost tables
            for point in self._points():
                yield {VARIANT: variant, **point}

    def _count(self) -> int:
        if self.points:
            return len(self.points)
        if self.method == "grid":
            return math.prod(len(axis) for axis in self.axes)
        assert self.sample is not None
        return self.sample

    def _points(self) -> Iterator[Changes]:
        if self.points:
            labels = self.labels or (None,) * len(self.points)
            yield from ({**({} if label is None else {LABEL: label}), **point} for label, point in zip(labels, self.points, strict=True))
        elif self.method == "grid":
            for number in range(self._count()):
                yield self._combination(number)
        else:
            for row in self._fractions():
                yield {axis.key: axis.draw(fraction) for axis, fraction in zip(self.axes, row, strict=True)}

    def _combination(self, number: int) -> Changes:
        """Point `number` of the grid; the last axis changes fastest."""
        values = []
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis))
            values.append((axis.key, axis.at(index)))
        return dict(reversed(values))

    def _fractions(self) -> Any:
        """Points in the unit cube, shape (sample, axes)."""
        import numpy as np

        rng = np.random.Generator(np.random.PCG64(self.sample_seed))
        if self.method == "random":
            return rng.random((self._count(), len(self.axes))).tolist()
        from scipy.stats import qmc

        return qmc.LatinHypercube(len(self.axes), rng=rng).random(self._count()).tolist()


def design(
    axes: Sequence[Axis] = (),
    points: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None = None,
    method: str = "grid",
    sample: int | None = None,
    sample_seed: int = 0,
) -> Design:
    """A design, checked. Raises ConfigError: nothing to sweep, a key twice, an unknown method, a sample that is missing or useless."""
    if method not in METHODS:
        raise ConfigError(f"method: found '{method}'{nearest(method, METHODS)}")
    chosen: Method = next(name for name in METHODS if name == method)
    if points is not None:
        if axes:
            raise ConfigError("a sweep takes either 'over' (keys with values) or 'points' (a list of points), not both")
        if not points:
            raise ConfigError("points: an empty list; there is nothing to sweep")
        if not isinstance(points, Mapping):
            return Design(points=tuple(_point(str(number), point) for number, point in enumerate(points)))
        for name in points:
            if not isinstance(name, str) or not name.strip():
                raise ConfigError(f"points: found {shown(name)} as the name of a point, expected a text that is not empty")
        return Design(points=tuple(_point(name, point) for name, point in points.items()), labels=tuple(points))
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"over: '{key}' is given twice")
        if key == "seed":
            raise ConfigError("over: seeds are replicates of every point: use 'seeds' or 'replicates' (--seeds, --replicates)")
    if chosen == "grid":
        if sample is not None:
            raise ConfigError("'sample' draws points from the space: say how with method random or latin-hypercube")
    elif sample is None or sample < 1:
        raise ConfigError(f"method {chosen} needs 'sample', the number of points (at least 1)")
    elif not axes:
        raise ConfigError(f"method {chosen} needs keys to sample: 'over'")
    for axis in axes:
        if chosen == "grid" and isinstance(axis, Range):
            len(axis)  # says so when steps are missing
    return Design(tuple(axes), (), chosen, sample, sample_seed)


def _point(name: str, point: Any) -> Changes:
    if not isinstance(point, Mapping):
        raise ConfigError(f"points: {name}: found {shown(point)}, expected a mapping of keys to values")
    return dict(point)


def refuse_too_many(plan: Design, seeds: int, limit: int) -> None:
    """Raises ConfigError, before anything is made, when the design has more runs than the limit."""
    points = plan.count()
    runs = points * seeds
    if runs > limit:
        how = plan.sizes()
        shape = f"{points:,} points{f' ({how})' if how else ''}" + (f" with {seeds:,} seeds each: {runs:,} runs" if seeds > 1 else "")
        raise ConfigError(
            f"the sweep has {shape}, more than the limit of {limit:,}; take fewer values, sample the space "
            "(method latin-hypercube, sample 200), or raise the limit (--limit)"
        )
