"""Chooses the fitted numbers on serving runs: each by the models' mean absolute log error; and again without each model."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.ascend.rows import FITTED, cases, error, model_of, outcome, percent
from simserve.validation.case import Case
from simserve.validation.prediction_cache import cache_folder, code_digest

LEFT_OUT = Path(__file__).with_name("left_out.json")
SHIPPED = {"expert_bandwidth": 0.5, "kernel_launch_s": 1.1e-4}
"""The values in the profiles: tests hold them against these."""

MOST_TOKENS = 2e6
"""Output tokens of a run that teaches; longer ones are judged only. They are two of some seventy."""

Values = dict[str, float]


class Responses:
    """Log errors of rows under values, kept in a file so that an interrupted call goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[float | None]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def of(self, case: Case, values: Mapping[str, float]) -> tuple[float | None, float | None]:
        """(log error, signed error in percent) of a row."""
        key = json.dumps([case.description(), case.measured, sorted(values.items())], sort_keys=True, default=str)
        if key not in self._known:
            found = outcome(case, values)
            self._known[key] = [error(found), percent(found)]
            self._path.write_text(json.dumps(self._known), encoding="utf-8")
        log, signed = self._known[key]
        return log, signed


def fit() -> None:
    """Writes what was chosen with all models and without each, and the errors of the rows of the model left out."""
    judged = [case for case in cases() if not case.skip]
    rows = [case for case in judged if case.load.requests * case.load.output.mean <= MOST_TOKENS]
    responses = Responses(_work() / f"ascend-responses-{_digest()}.json")
    table: dict[str, dict[float, dict[str, float]]] = {}
    for name, tried in FITTED.items():
        table[name] = {}
        for value in tried:
            of_model: dict[str, list[float]] = defaultdict(list)
            for case in rows:
                log, _ = responses.of(case, {**SHIPPED, name: value})
                if log is not None:
                    of_model[model_of(case)].append(abs(log))
            table[name][value] = {model: float(np.mean(errors)) for model, errors in of_model.items()}
            print(f"{name} {value:g}: {np.mean(list(table[name][value].values())):.3f}", file=sys.stderr, flush=True)
    models = sorted({model_of(case) for case in judged})
    chosen = {"all": _chosen(table, "")} | {model: _chosen(table, model) for model in models}
    left_out: list[dict[str, object]] = []
    for case in sorted(judged, key=lambda one: one.load.requests * one.load.output.mean):  # the long ones last: what is known is written
        left_out.append(_judged(case, chosen[model_of(case)], responses))
        LEFT_OUT.write_text(json.dumps({"chosen": chosen, "rows": left_out}, indent=1) + "\n", encoding="utf-8")
    print(chosen["all"])


def _judged(case: Case, values: Values, responses: Responses) -> dict[str, object]:
    _, signed = responses.of(case, values)
    return {"dataset": case.dataset, "label": case.label, "model": model_of(case), "error_percent": signed}


def _chosen(table: Mapping[str, Mapping[float, Mapping[str, float]]], without: str) -> Values:
    """The value of each number with the smallest error over the models but one."""
    best = {}
    for name, by_value in table.items():
        errors = {value: np.mean([e for model, e in of_model.items() if model != without]) for value, of_model in by_value.items()}
        best[name] = min(errors, key=lambda value: float(errors[value]))
    return best


def _digest() -> str:
    """Of the simulator, and of the profiles whose numbers the rows stand on: responses of another one are not taken for its own."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256(code_digest().encode())
    for file in sorted([*root.glob("hardware_profiles/ascend*.yaml"), *root.glob("simserve/config/engines/*.yaml")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _work() -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
