"""How a file says workloads and schedules in little room: requests as columns, steps relative to each other, defaults left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from simserve.errors import ConfigError
from simserve.validation.schedules.difference import TOLERANCE_S
from simserve.validation.schedules.schedule import DIGITS, RequestSchedule, Run, Schedule
from simserve.validation.schedules.workload import STEP_S, Outcome, ScheduleRequest, ScheduleSettings, ScheduleWorkload


class Entry(BaseModel):
    """A part of a file: no other keys than these."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Requests(Entry):
    arrival_s: list[float]
    prompt_tokens: list[int]
    output_tokens: list[int]
    max_tokens: list[int | None] = []
    priority: list[int] = []
    prefix_ids: list[tuple[int, ...]] = []
    abort_s: list[float | None] = []
    accepted: list[tuple[int, ...] | None] = []


class WorkloadEntry(Entry):
    """A workload: the settings that are not defaults, the columns of requests that say something."""

    kind: str
    seed: int
    step_s: float = Field(STEP_S, gt=0)
    settings: ScheduleSettings = ScheduleSettings()
    requests: _Requests


class ScheduleEntry(Entry):
    """What `engines` (name and version) did, all of them the same.

    steps, free_blocks   as in Schedule
    runs         by request: steps since the end of the run before (of the first: since step 0), steps, tokens in each; and so on
    admissions   by request: the run that begins with it (-1 - step where none does), cached tokens; and so on
    first_token  by request: whole steps from the beginning of its first run on, or seconds where they are a fraction
    finish       by request: whole steps from the last step of its last run on, or seconds
    ended, preemptions   by row, where not "finished", and where there were any
    """

    engines: list[tuple[str, str]]
    steps: list[tuple[float, float, int]] | None = None
    free_blocks: list[tuple[int, int]] | None = None
    first_token: list[int | float | None]
    finish: list[int | float | None]
    ended: dict[int, Outcome] = {}
    runs: list[list[int]] | None = None
    admissions: list[list[int]] | None = None
    preemptions: dict[int, tuple[int, ...]] | None = None


def workload_data(workload: ScheduleWorkload) -> dict[str, Any]:
    """A workload as a file has it."""
    columns: dict[str, Any] = {}
    for one in fields(ScheduleRequest):
        column = [getattr(request, one.name) for request in workload.requests]
        if one.name in ("arrival_s", "prompt_tokens", "output_tokens") or any(value != one.default for value in column):
            columns[one.name] = column
    step = {} if workload.step_s == STEP_S else {"step_s": workload.step_s}
    return {"kind": workload.kind, "seed": workload.seed, **step, "settings": workload.settings.stated(), "requests": columns}


def workload_of(entry: WorkloadEntry, where: str) -> ScheduleWorkload:
    """The workload of an entry. Raises ConfigError for columns of unequal length."""
    columns = {name: column for name, column in entry.requests if column}
    count = len(entry.requests.arrival_s)
    for name, column in columns.items():
        _length(column, count, f"{where}: workload.requests.{name}")
    requests = tuple(ScheduleRequest(**{name: column[row] for name, column in columns.items()}) for row in range(count))
    return ScheduleWorkload(entry.kind, entry.seed, entry.settings, requests, entry.step_s)


def schedule_data(schedule: Schedule, workload: ScheduleWorkload) -> dict[str, Any]:
    """A schedule as a file has it, without `engines`."""
    rows, ends = schedule.requests, [start + workload.step_s for start in schedule.step_starts()]
    found: dict[str, Any] = {"steps": schedule.steps, "free_blocks": schedule.free_blocks}
    found["first_token"] = [_from(row.first_token_s, row.runs[0][0] if row.runs else 0, ends) for row in rows]
    found["finish"] = [_from(row.finish_s, _end(row.runs) - 1, ends) for row in rows]
    found["ended"] = {number: row.ended for number, row in enumerate(rows) if row.ended != "finished"} or None
    found["runs"] = _all(None if row.runs is None else _gaps(row.runs) for row in rows)
    found["admissions"] = _all(None if row.admissions is None else _by_run(row.admissions, row.runs or ()) for row in rows)
    if all(row.preemptions is not None for row in rows):
        found["preemptions"] = {number: row.preemptions for number, row in enumerate(rows) if row.preemptions}
    return {name: value for name, value in found.items() if value is not None}


def schedules_of(entry: ScheduleEntry, workload: ScheduleWorkload, where: str) -> list[Schedule]:
    """The schedule of an entry, once for each of its engines. Raises ConfigError for columns of unequal length, and for steps that are not
    there."""
    count = len(workload.requests)
    for name in ("first_token", "finish", "runs", "admissions"):
        column = getattr(entry, name)
        if column is not None:
            _length(column, count, f"{where}: {name}")
    for name in ("ended", "preemptions"):
        if any(not 0 <= row < count for row in getattr(entry, name) or {}):
            raise ConfigError(f"{where}: {name}: a row that is no request; there are {count}")
    steps = None if entry.steps is None else tuple(entry.steps)
    bare = Schedule("", "", (), steps, None if entry.free_blocks is None else tuple(entry.free_blocks))
    ends = [start + workload.step_s for start in bare.step_starts()]
    requests = []
    for row in range(count):
        try:
            requests.append(_request(entry, row, ends))
        except (IndexError, ValueError):
            raise ConfigError(f"{where}: request {row}: names steps or runs that are not there; there are {len(ends)} steps") from None
    return [Schedule(engine, version, tuple(requests), bare.steps, bare.free_blocks) for engine, version in entry.engines]


def _request(entry: ScheduleEntry, row: int, ends: Sequence[float]) -> RequestSchedule:
    runs = None if entry.runs is None else _runs(entry.runs[row], len(ends))
    admissions = None if entry.admissions is None else _admissions(entry.admissions[row], runs or (), len(ends))
    return RequestSchedule(
        _seconds(entry.first_token[row], runs[0][0] if runs else 0, ends),
        _seconds(entry.finish[row], _end(runs) - 1, ends),
        entry.ended.get(row, "finished"),
        runs,
        admissions,
        None if entry.preemptions is None else tuple(_step(step, len(ends)) for step in entry.preemptions.get(row, ())),
    )


def _end(runs: Sequence[Run] | None) -> int:
    """The step after the last run."""
    return runs[-1][0] + runs[-1][1] if runs else 1


def _from(seconds: float | None, step: int, ends: Sequence[float]) -> int | float | None:
    """A time as steps from the end of a step on, where it is the end of one."""
    if seconds is None:
        return None
    for later in (0, 1, 2, 3):
        if 0 <= step + later < len(ends) and round(ends[step + later], DIGITS) == seconds:
            return later
    near = next((number for number, end in enumerate(ends) if abs(end - seconds) < TOLERANCE_S and round(end, DIGITS) == seconds), None)
    return seconds if near is None else near - step


def _seconds(value: int | float | None, step: int, ends: Sequence[float]) -> float | None:
    if not isinstance(value, int):
        return value
    return round(ends[_step(step + value, len(ends))], DIGITS)


def _step(step: int, steps: int) -> int:
    if not 0 <= step <= steps:
        raise IndexError(step)
    return step


def _gaps(runs: Sequence[Run]) -> list[int]:
    found, end = [], 0
    for first, steps, tokens in runs:
        found += [first - end, steps, tokens]
        end = first + steps
    return found


def _runs(flat: Sequence[int], steps: int) -> tuple[Run, ...]:
    found, end = [], 0
    for gap, count, tokens in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if gap < 0 or count < 1 or tokens < 1:
            raise ValueError(flat)
        found.append((end + gap, count, tokens))
        end = _step(end + gap + count, steps)
    return tuple(found)


def _by_run(admissions: Iterable[tuple[int, int]], runs: Sequence[Run]) -> list[int]:
    starts = {first: number for number, (first, _, _) in enumerate(runs)}
    return [value for step, cached in admissions for value in (starts.get(step, -1 - step), cached)]


def _admissions(flat: Sequence[int], runs: Sequence[Run], steps: int) -> tuple[tuple[int, int], ...]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple((_step(runs[at][0] if at >= 0 else -1 - at, steps), cached) for at, cached in pairs)


def _all(column: Iterable[list[int] | None]) -> list[list[int]] | None:
    """The column, if every request has an entry."""
    found = [one for one in column if one is not None]
    return found or None


def _length(column: Sequence[Any], count: int, where: str) -> None:
    if len(column) != count:
        raise ConfigError(f"{where}: {len(column)} entries; the workload has {count} requests")
