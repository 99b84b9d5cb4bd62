"""`python -m benchmarks.measured_runs fit`: learns the overheads of the bundled engine profiles, and again without each group of runs."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measured_runs.lessons import ENGINES, LESSONS, PARAMETERS, SERVED, cases_to_learn
from benchmarks.measured_runs.runs import all_cases
from simserve.config import engine_profile
from simserve.config.engine_profile import load_engine
from simserve.validation import physical, warm_up
from simserve.validation.case import Case
from simserve.validation.engine_file import with_overheads
from simserve.validation.leave_out import best_pooling, values_without
from simserve.validation.machine import Overheads, overheads_of
from simserve.validation.overhead_values import rounded, value, with_values
from simserve.validation.pooled import PooledFit, Values
from simserve.validation.prediction_cache import cache_folder
from simserve.validation.responses import Response, responses
from simserve.validation.split import GROUPINGS

LEFT_OUT = Path(__file__).parent / "left_out.yaml"
_ROUNDS = 2
"""The lines that responses follow are drawn at the overheads that the last round found: the second moves them by a few percent."""

LeftOut = dict[str, dict[str, Values]]
"""Grouping -> group -> overheads by profile and parameter, learned without that group."""


def fit() -> None:
    """Learns, and writes the profiles, the warm-up of runs, and what was learned without each group."""
    cases, _ = all_cases()
    chosen = cases_to_learn(cases)
    pooled = PooledFit(PARAMETERS, ENGINES)
    at = {profile: _start(profile) for profile in PARAMETERS}
    for number in range(_ROUNDS):
        _say(f"round {number + 1}: {len(chosen)} rows at {1 + max(len(names) for names in PARAMETERS.values())} points at most")
        answers = responses(chosen, at, PARAMETERS, cache=cache_folder(), progress=lambda done, of: _say(f"{done} of {of}"))
        pooling, errors = best_pooling(pooled, answers)
        values = pooled.values(answers, pooling)
        at = {profile: with_values(at[profile], values[profile]) for profile in PARAMETERS}
    for tried, error in errors.items():
        _say(f"versions {tried.between_versions:g}, engines {tried.between_engines:g}: {100 * error:.1f} % on groups left out")
    _say(f"taken: {pooling}")
    _write_profiles(values, answers)
    found: LeftOut = {}
    for grouping, group_of in GROUPINGS.items():
        without = values_without(pooled, answers, pooling, cases, grouping)
        found[grouping] = {group: _own(group_of, group, cases, learned) for group, learned in without.items()}
    _write_left_out(found, f"{pooling.between_versions:g} between versions, {pooling.between_engines:g} between engines")


def read_left_out() -> LeftOut:
    """What `fit` learned without each group."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: LeftOut = yaml.load(LEFT_OUT.read_text(encoding="utf-8"), Loader=loader)
    return found


def _start(profile: str) -> Overheads:
    """The profile's overheads, inside their ranges: where a parameter was 0, its usual value."""
    now = overheads_of(load_engine(profile))
    if profile in SERVED:
        now = replace(now, api_servers=max(1, now.api_servers))
    values = {name: physical.clipped(name, value(now, name) or physical.RANGES[name].typical_s) for name in PARAMETERS[profile]}
    return with_values(now, rounded(values))


def _own(group_of: Any, group: str, cases: Sequence[Case], learned: Values) -> Values:
    """Only of profiles that the group's runs are simulated with."""
    wanted = {case.profile for case in cases if not case.skip and group_of(case) == group}
    return {profile: learned[profile] for profile in sorted(wanted & set(learned))}


def _write_profiles(values: Values, answers: Sequence[Response]) -> None:
    waits = {}
    runs: dict[str, set[str]] = defaultdict(set)
    rows: Counter[str] = Counter()
    for answer in answers:
        runs[answer.case.profile].add(f"{answer.case.dataset}/{answer.case.run}")
        rows[answer.case.profile] += 1
    for lesson in LESSONS:
        learned, path = values[lesson.profile], engine_profile.find(lesson.profile)
        overheads = with_values(_start(lesson.profile), learned)
        ends = [f"{name} at its {end}" for name, seconds in learned.items() if (end := physical.at_bound(name, seconds))]
        told = f"{rows[lesson.profile]} values of {len(runs[lesson.profile])} runs" if rows[lesson.profile] else "no run - as its engine"
        note = f"partial pooling over versions and engines (docs/serving-validation.md), {told}" + (f"; {', '.join(ends)}" if ends else "")
        path.write_text(with_overheads(path.read_text(encoding="utf-8"), overheads, note), encoding="utf-8")
        if "first_request_s" in learned:
            waits[lesson.profile] = learned["first_request_s"]
    head = "# Seconds that the first request of each client waited in measured runs, by engine profile; written by\n"
    warm_up.FILE.write_text(head + "# python -m benchmarks.measured_runs fit\n" + yaml.safe_dump(waits), encoding="utf-8")


def _write_left_out(found: Mapping[str, Mapping[str, Values]], pooling: str) -> None:
    note = (
        "# Overheads learned without each model, device and engine version (seconds), written by python -m benchmarks.measured_runs fit;\n"
        f"# of the profiles that simulate the group's runs. Pooling: {pooling}.\n"
    )
    plain = {grouping: dict(groups) for grouping, groups in found.items()}
    LEFT_OUT.write_text(note + yaml.safe_dump(plain, default_flow_style=None, width=150), encoding="utf-8")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
