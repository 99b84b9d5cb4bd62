"""`simserve validate serving`: from a directory of measured runs to errors, plots and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from simserve.errors import ConfigError, nearest
from simserve.model import load_model
from simserve.uncertainty.belief import LEVEL
from simserve.validation import groups
from simserve.validation.believed import judged
from simserve.validation.case import Case
from simserve.validation.evaluate import Outcome, evaluate
from simserve.validation.readers import TableReader, read_measurements
from simserve.validation.split import is_check

Part = Literal["all", "fit", "check"]


@dataclass(frozen=True, slots=True)
class ServingValidation:
    """Outcomes of a validation, with their summaries; `unreadable` are the files that could not be read, with the reason."""

    outcomes: tuple[Outcome, ...]
    unreadable: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "groups": groups.error_groups(self.outcomes),
            "models_taken": self.models_taken(),
            "skipped_reasons": groups.skipped_reasons(self.outcomes),
            "unreadable_files": self.unreadable,
            "intervals": self.intervals(),
        }

    def intervals(self) -> dict[str, Any]:
        """How many measurements lie in the 80 % interval of their prediction, by label and in all, and each row's."""
        rows: list[dict[str, Any]] = []
        counts: dict[str, tuple[int, int]] = {}
        for outcome in self.outcomes:
            label, found = judged(outcome)
            for one in found:
                rows.append(
                    {"dataset": outcome.case.dataset, "label": outcome.case.label, "belief": label, **one._asdict(), "inside": one.inside}
                )
                for key in (label, "all"):
                    inside, of = counts.get(key, (0, 0))
                    counts[key] = inside + one.inside, of + 1
        return {"level": LEVEL, "inside": {key: {"inside": inside, "of": of} for key, (inside, of) in sorted(counts.items())}, "rows": rows}

    def models_taken(self) -> list[str]:
        """What names that are not those of bundled models were taken for, of the runs that were simulated."""
        simulated = dict.fromkeys(o.case.model for o in self.outcomes if not o.skip)
        return [taken for name in simulated if (taken := load_model(name).taken)]

    def table(self) -> list[dict[str, Any]]:
        """One line for each data set and metric."""
        return groups.dataset_table(self.outcomes)

    def worst(self, count: int = 10) -> list[groups.Worst]:
        """The rows furthest off."""
        return groups.worst_rows(self.outcomes, count)

    def write(self, folder: Path) -> list[Path]:
        """Writes predictions of every row (CSV), the grouped errors (JSON) and the plots. Returns the files."""
        from simserve.validation.plots import write_plots

        folder.mkdir(parents=True, exist_ok=True)
        rows, errors = folder / "predictions.csv", folder / "errors.json"
        with rows.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(
                [
                    "dataset",
                    "label",
                    "engine",
                    "version",
                    "gpu",
                    "model",
                    "part",
                    "metric",
                    "measured",
                    "predicted",
                    "error_percent",
                    "skipped",
                    "belief",
                    "low",
                    "high",
                    "inside",
                ]
            )
            for outcome in self.outcomes:
                writer.writerows(_lines(outcome))
        errors.write_text(json.dumps(self.document(), indent=1), encoding="utf-8")
        return [rows, errors, *write_plots(self.outcomes, folder)]


def validate_serving(
    place: Path,
    *,
    dataset: str | None = None,
    part: Part = "all",
    readers: Sequence[TableReader] = (),
    cache: Path | None = None,
    prepare: Callable[[list[Case]], list[Case]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ServingValidation:
    """Predicts every measured run in a directory or file.

    dataset  only the file of that name (without suffix)
    part     "fit" or "check" keeps the runs that overheads may be learned from, or those kept for judging
    readers  of Parquet tables, one for each schema; results of load generators need none
    cache    directory of earlier predictions
    prepare  a last change to the cases, such as a device that the files do not name

    A file that no reader knows is left out and told in `unreadable`. Raises ConfigError for a place without a measurement that can be read.
    """
    found = read_measurements(place, dataset, readers=readers)
    cases = found.cases
    if part != "all":
        cases = [case for case in cases if is_check(case) == (part == "check")]
    if prepare is not None:
        cases = prepare(cases)
    return ServingValidation(tuple(evaluate(cases, cache=cache, progress=progress)), found.unreadable)


def chosen_part(word: str) -> Part:
    """The part of that name. Raises ConfigError for another word."""
    for part in get_args(Part):
        if part == word:
            return part  # type: ignore[no-any-return]
    raise ConfigError(f"unknown part '{word}'{nearest(word, get_args(Part))}")


def _lines(outcome: Outcome) -> Sequence[list[Any]]:
    case, errors = outcome.case, outcome.errors_percent()
    head = [case.dataset, case.label, case.engine, case.version, case.gpu, case.model, "check" if is_check(case) else "fit"]
    label, found = judged(outcome)
    ends = {one.metric: [label, one.low, one.high, one.inside] for one in found}
    return [
        [*head, m, v, outcome.predicted.get(m, ""), errors.get(m, ""), outcome.skip, *ends.get(m, ["", "", "", ""])]
        for m, v in case.measured.items()
    ]
