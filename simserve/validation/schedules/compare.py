"""Workloads through both sides: what was equal, what was not and where it parted, and what could not be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from simserve.config.engine_profile import load_engine
from simserve.errors import ConfigError, ModelError, PolicyError
from simserve.validation.schedules.difference import Difference, first_difference
from simserve.validation.schedules.fixture import ScheduleCase
from simserve.validation.schedules.ours import ours
from simserve.validation.schedules.profiles import profile_for
from simserve.validation.schedules.refusals import Unsupported
from simserve.validation.schedules.schedule import ENGINES, Schedule
from simserve.validation.schedules.workload import ScheduleWorkload

_Simulated = Schedule | Unsupported | ConfigError | ModelError | PolicyError

Verdict = Literal["equal", "different", "not driven", "not simulated"]
"""`not driven`: the engine's version has no rule for what the workload asks. `not simulated`: simserve's profile has none."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One workload under one version of an engine and one profile. `why` is empty where it was compared and both sides ran to the end."""

    workload: ScheduleWorkload
    engine: str
    version: str
    profile: str
    verdict: Verdict
    difference: Difference | None = None
    why: str = ""


def compare(workload: ScheduleWorkload, theirs: Schedule, profile: str) -> Comparison:
    """What an engine did with a workload, held against simserve under a profile."""
    return _held(workload, theirs, profile, _simulated(workload, profile))


def _simulated(workload: ScheduleWorkload, profile: str) -> _Simulated:
    load_engine(profile)  # one that is not there is no workload's fault
    try:
        return ours(workload, profile)
    except (Unsupported, ConfigError, ModelError, PolicyError) as problem:
        return problem


def _held(workload: ScheduleWorkload, theirs: Schedule, profile: str, mine: _Simulated) -> Comparison:
    about = workload, theirs.engine, theirs.version, profile
    if isinstance(mine, PolicyError):
        return Comparison(*about, "different", why=f"simserve stops: {mine}")
    if not isinstance(mine, Schedule):
        return Comparison(*about, "not simulated", why=str(mine))
    found = first_difference(workload, theirs, mine)
    return Comparison(*about, "equal" if found is None else "different", found)


def compare_cases(
    cases: Sequence[ScheduleCase], *, profile: str | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Comparison]:
    """All that is recorded, held against simserve under `profile`, or under that of each version. Raises ConfigError for a version that no
    profile is for."""
    found: list[Comparison] = []
    profile_of = cache(profile_for)
    total = sum(len(case.schedules) + len(case.not_driven) for case in cases)
    for case in cases:
        asynchronous = case.workload.settings.async_scheduling
        simulated: dict[str, _Simulated] = {}
        for theirs in case.schedules:
            name = profile or profile_of(theirs.engine, theirs.version, asynchronous=asynchronous)
            if name not in simulated:
                simulated[name] = _simulated(case.workload, name)
            found.append(_held(case.workload, theirs, name, simulated[name]))
            if progress is not None:
                progress(len(found), total)
        for one in case.not_driven:
            name = profile or profile_of(one.engine, one.version, asynchronous=asynchronous)
            found.append(Comparison(case.workload, one.engine, one.version, name, "not driven", why=one.reason))
            if progress is not None:
                progress(len(found), total)
    return found


@dataclass(slots=True)
class Tally:
    """Workloads of one kind under one version and profile.

    first  the first that is different; `refusals` why others could not be compared, each sentence once
    """

    engine: str
    version: str
    profile: str
    kind: str
    equal: int = 0
    different: int = 0
    not_driven: int = 0
    not_simulated: int = 0
    first: Comparison | None = None
    refusals: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The engine, as it names itself, and its version."""
        return f"{ENGINES.get(self.engine, self.engine)} {self.version}"

    @property
    def compared(self) -> int:
        """Workloads that both sides ran."""
        return self.equal + self.different


def tallies(comparisons: Iterable[Comparison]) -> list[Tally]:
    """By version, profile and kind, in that order."""
    found: dict[tuple[str, str, str, str], Tally] = {}
    for one in comparisons:
        key = one.engine, one.version, one.profile, one.workload.kind
        tally = found.setdefault(key, Tally(*key))
        if one.verdict == "equal":
            tally.equal += 1
        elif one.verdict == "different":
            tally.different += 1
            tally.first = tally.first or one
        elif one.verdict == "not driven":
            tally.not_driven += 1
        else:
            tally.not_simulated += 1
        if one.verdict.startswith("not") and one.why not in tally.refusals:
            tally.refusals = (*tally.refusals, one.why)
    return list(found.values())
