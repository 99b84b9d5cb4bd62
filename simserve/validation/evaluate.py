"""Predicts many cases: in parallel, with a cache, with progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.errors import SimserveError
from simserve.validation.case import Case
from simserve.validation.machine import Overheads
from simserve.validation.predict import predict
from simserve.validation.prediction_cache import PredictionCache
from simserve.validation.sound import unsound

WORKERS = 2
_GROUP = 24
"""Cases of one model and device that a worker takes at a time: they share cost tables."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case with its prediction, or with the reason why there is none."""

    case: Case
    predicted: dict[str, float]
    skip: str = ""

    def errors_percent(self) -> dict[str, float]:
        """Signed error of every measured metric that was predicted."""
        return {
            name: 100.0 * (self.predicted[name] - value) / value
            for name, value in self.case.measured.items()
            if name in self.predicted and value
        }


def predict_one(case: Case, overheads: Overheads | None = None) -> Outcome:
    """The outcome of one case; what the user can fix becomes a reason."""
    skip = case.skip or unsound(case)
    if skip:
        return Outcome(case, {}, skip)
    try:
        return Outcome(case, predict(case, overheads))
    except SimserveError as problem:
        return Outcome(case, {}, _short(str(problem)))


def evaluate(
    cases: Sequence[Case],
    *,
    cache: Path | None = None,
    overheads: Sequence[Overheads | None] | None = None,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Outcomes in the order of the cases.

    cache      directory of predictions, see `prediction_cache`. None = no cache
    overheads  of each case, in the place of its engine profile's
    progress   called with (cases done, cases in all)
    """
    outcomes: list[Outcome | None] = [None] * len(cases)
    own = [None] * len(cases) if overheads is None else overheads
    store = PredictionCache(cache)
    todo: list[int] = []
    for i, case in enumerate(cases):
        known = {} if case.skip else store.get(case, own[i])
        if case.skip or known is None:
            if case.skip:
                outcomes[i] = Outcome(case, {}, case.skip)
            else:
                todo.append(i)
        else:
            outcomes[i] = Outcome(case, known.get("predicted", {}), known.get("skip", ""))
    done = len(cases) - len(todo)
    if progress:
        progress(done, len(cases))
    for indices, found in _run(_groups(cases, todo), cases, own, workers):
        for i, outcome in zip(indices, found, strict=True):
            outcomes[i] = outcome
            store.put(outcome.case, outcome.predicted, outcome.skip, own[i])
        done += len(indices)
        if progress:
            progress(done, len(cases))
    return [outcome for outcome in outcomes if outcome is not None]


def _groups(cases: Sequence[Case], todo: Iterable[int]) -> list[list[int]]:
    """Indices with equal cost tables together, in small portions."""
    keyed: dict[tuple[Any, ...], list[int]] = {}
    for i in todo:
        case = cases[i]
        keyed.setdefault((case.gpu, case.model, case.quantisation or "", case.tp, case.pp, case.dp, case.ep, case.profile), []).append(i)
    return [members[k : k + _GROUP] for _, members in sorted(keyed.items()) for k in range(0, len(members), _GROUP)]


def _run(
    groups: list[list[int]], cases: Sequence[Case], overheads: Sequence[Overheads | None], workers: int
) -> Iterable[tuple[list[int], list[Outcome]]]:
    jobs = [[(cases[i], overheads[i]) for i in group] for group in groups]
    if workers <= 1 or len(groups) <= 1:
        yield from zip(groups, map(_predict_group, jobs), strict=True)
        return
    from joblib import delayed

    from simserve.workers import uninterrupted_workers

    predicted = uninterrupted_workers((delayed(_predict_group)(job) for job in jobs), n_jobs=workers, return_as="generator")
    yield from zip(groups, predicted, strict=True)


def _predict_group(jobs: list[tuple[Case, Overheads | None]]) -> list[Outcome]:
    return [predict_one(case, overheads) for case, overheads in jobs]


def _short(message: str) -> str:
    """A reason that rows share: the message without what follows the first colon or semicolon once it is long."""
    head = message.split(";")[0]
    return head if len(head) <= 160 else head[:157] + "..."
