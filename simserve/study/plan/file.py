"""A plan search read back from its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve.deploy.result import read_launch
from simserve.study import predicate
from simserve.study.folder import read_back
from simserve.study.plan.figures import Ends, Fate, Outcome, Verification
from simserve.study.plan.result import PLAN, SCHEMA_VERSION, PlanResult


def read_plan(directory: str | Path) -> PlanResult:
    """The search that lies in a directory. Raises OutputError when there is none, or one of another version."""
    return read_back(directory, PLAN, "plan search", SCHEMA_VERSION, _result)


def _result(about: Mapping[str, Any]) -> PlanResult:
    outcomes = tuple(_outcome(entry) for entry in about["plans"])
    runs, requests, whole = (int(about[key]) for key in ("runs", "requests", "requests_whole"))
    notes, test = tuple(str(note) for note in about["search_notes"]), predicate.parse(about["predicate"])
    launch = read_launch(about["deploy"]) if "deploy" in about else None
    return PlanResult(
        str(about["name"]), test, outcomes, runs, requests, whole, dict(about["prices"]), notes, launch, str(about.get("load", ""))
    )


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    figures = {str(key): _number(value) for key, value in entry["figures"].items()}
    pools = tuple({str(key): value for key, value in pool.items()} for pool in entry["pools"])
    verification = None if entry["verification"] is None else _verification(entry["verification"])
    return Outcome(
        str(entry["plan"]), str(entry["hardware"]), pools, int(entry["devices"]), _number(entry["usd_per_hour"]), Fate(entry["fate"]),
        str(entry["why"]), _number(entry["utilisation"]), figures, float(entry["requests_fraction"]), verification,
    )  # fmt: skip


def _verification(entry: Mapping[str, Any]) -> Verification:
    ends = {}
    for column, found in entry["figures"].items():
        low, high = (float(value) for value in found["chance"])
        model = None if found["with_model"] is None else (float(found["with_model"][0]), float(found["with_model"][1]))
        ends[str(column)] = Ends(float(found["mean"]), low, high, model)
    texts = {key: tuple(str(text) for text in entry[key]) for key in ("failures", "doubtful")}
    seeds = tuple(int(seed) for seed in entry["seeds"])
    return Verification(seeds, ends, texts["failures"], texts["doubtful"], str(entry["label"]), str(entry["reason"]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
