"""Errors on whole models, devices and engine versions that no overhead was learned from.

For each group of a grouping (`split.GROUPINGS`) the overheads of all profiles are learned again without any of its runs, and its runs are
simulated with those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from simserve.config.engine_profile import load_engine
from simserve.validation.case import Case
from simserve.validation.evaluate import WORKERS, Outcome, evaluate
from simserve.validation.machine import Overheads, overheads_of
from simserve.validation.overhead_values import with_values
from simserve.validation.pooled import F64, PooledFit, Pooling, Values
from simserve.validation.responses import Response
from simserve.validation.split import GROUPINGS

POOLINGS = tuple(Pooling(versions, engines) for versions in (0.3, 1.0, 3.0) for engines in (0.1, 0.3, 0.5, 1.0))
"""Standard deviations of logarithms that are tried: within 10 %, a third, two thirds, a factor of three of one another; 3 is no pooling."""


def best_pooling(fit: PooledFit, responses: Sequence[Response]) -> tuple[Pooling, dict[Pooling, float]]:
    """The pooling that predicts best what it has not seen, and for each the root mean square of log(predicted / measured) there.

    Each grouping counts alike, and within it each group; errors are cut at a factor of two, so that no group decides alone.
    """
    found = {}
    for pooling in POOLINGS:
        whole = fit.solution(responses, pooling)
        found[pooling] = float(np.mean([_unseen(fit, responses, pooling, grouping, whole) for grouping in GROUPINGS]))
    return min(found, key=lambda pooling: found[pooling]), found


def _unseen(fit: PooledFit, responses: Sequence[Response], pooling: Pooling, grouping: str, whole: F64) -> float:
    group_of = GROUPINGS[grouping]
    groups = [group_of(r.case) for r in responses]
    squares = []
    for group in sorted(set(groups)):
        values = fit.values([r for r, g in zip(responses, groups, strict=True) if g != group], pooling, whole)
        own = [r for r, g in zip(responses, groups, strict=True) if g == group]
        logs = [float(np.clip(np.log(r.predicted(values[r.case.profile]) / r.measured), -0.7, 0.7)) for r in own]
        squares.append(float(np.mean(np.square(logs))))
    return float(np.sqrt(np.mean(squares)))


def values_without(
    fit: PooledFit, responses: Sequence[Response], pooling: Pooling, cases: Sequence[Case], grouping: str
) -> dict[str, Values]:
    """For each group of the cases, the overheads learned without it."""
    group_of = GROUPINGS[grouping]
    seen = [group_of(r.case) for r in responses]
    whole = fit.solution(responses, pooling)
    found = {}
    for group in sorted({group_of(case) for case in cases if not case.skip}):
        kept = [r for r, g in zip(responses, seen, strict=True) if g != group]
        found[group] = fit.values(kept, pooling, whole)
    return found


def left_out(
    cases: Sequence[Case],
    values: Mapping[str, Values],
    grouping: str,
    *,
    cache: Path | None = None,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Each case, simulated with the overheads learned without its group.

    Profiles that nothing is learned for keep theirs, and so does a group that the fit has not met: it is left out as it is.
    """
    group_of = GROUPINGS[grouping]
    own: list[Overheads | None] = []
    for case in cases:
        learned = None if case.skip else values.get(group_of(case), {}).get(case.profile)
        own.append(None if learned is None else with_values(overheads_of(load_engine(case.profile)), learned))
    return evaluate(cases, overheads=own, cache=cache, workers=workers, progress=progress)
