"""Predicts many cases: in parallel, with a cache, with progress on stderr."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.errors import SimserveError
from simserve.validation.case import Case
from simserve.validation.machine import Overheads
from simserve.validation.predict import predict
from simserve.validation.sound import unsound

WORKERS = 2
_GROUP = 24
"""Cases of one model and device that a worker takes at a time: they share cost tables."""


_PACKAGES = ("engine", "cost", "policies", "model", "hardware")
_MODULES = ("arrivals", "batch_wait", "case", "devices", "disaggregated", "machine", "metrics", "predict", "sound", "workloads")
"""What a prediction goes through."""


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
    """The outcome of one case; what the user can mend becomes a reason."""
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
    overheads: Overheads | None = None,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Outcomes in the order of the cases.

    cache      directory of predictions by content: description, profiles, package version. None = no cache
    overheads  replaces those of every engine profile (cases are then not cached)
    progress   called with (cases done, cases in all)
    """
    outcomes: list[Outcome | None] = [None] * len(cases)
    store = _Store(cache if overheads is None else None)
    todo: list[int] = []
    for i, case in enumerate(cases):
        known = {} if case.skip else store.get(case)
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
    for indices, found in _run(_groups(cases, todo), cases, overheads, workers):
        for i, outcome in zip(indices, found, strict=True):
            outcomes[i] = outcome
            store.put(outcome)
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
    groups: list[list[int]], cases: Sequence[Case], overheads: Overheads | None, workers: int
) -> Iterable[tuple[list[int], list[Outcome]]]:
    jobs = [[cases[i] for i in group] for group in groups]
    if workers <= 1 or len(groups) <= 1:
        yield from zip(groups, (_predict_group(job, overheads) for job in jobs), strict=True)
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers, return_as="generator")
    yield from zip(groups, pool(delayed(_predict_group)(job, overheads) for job in jobs), strict=True)


def _predict_group(cases: list[Case], overheads: Overheads | None) -> list[Outcome]:
    return [predict_one(case, overheads) for case in cases]


class _Store:
    """Predictions on disk, one small JSON file each, named by what determines them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}

    def get(self, case: Case) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(self._path(case).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def put(self, outcome: Outcome) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._path(outcome.case)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps({"predicted": outcome.predicted, "skip": outcome.skip}), encoding="utf-8")
            part.replace(path)
        except OSError:
            self._folder = None  # a cache that cannot be written is no reason to stop

    def _path(self, case: Case) -> Path:
        assert self._folder is not None
        from simserve.config import engine_profile

        text = json.dumps(
            [self._code(), case.description(), self._sha(engine_profile.find(case.profile)), self._hardware(case.gpu)], sort_keys=True
        )
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def _sha(self, path: Path) -> str:
        key = str(path)
        if key not in self._files:
            self._files[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._files[key]

    def _hardware(self, name: str) -> str:
        from simserve.validation.devices import device_profile

        return self._sha(device_profile(name).path)  # it holds the sha256 of every coefficient file

    def _code(self) -> str:
        """The source of everything that a prediction goes through: a changed simulator does not answer from an old cache."""
        if "" not in self._files:
            package = Path(__file__).parents[1]
            parts = [f for name in _PACKAGES for f in sorted((package / name).rglob("*.py"))]
            parts += [package / "validation" / f"{name}.py" for name in _MODULES]
            self._files[""] = hashlib.sha256(b"".join(f.read_bytes() for f in parts)).hexdigest()
        return self._files[""]


def _short(message: str) -> str:
    """A reason that rows share: the message without what follows the first colon or semicolon once it is long."""
    head = message.split(";")[0]
    return head if len(head) <= 160 else head[:157] + "..."
