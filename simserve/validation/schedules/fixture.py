"""Recorded schedules in a file: workloads, and beside each what versions of engines did with it. JSON, gzipped where the name says so.

    {"schema": "simserve-schedule/1",
     "cases": [{"workload": {...}, "schedules": [{"engines": [["vllm", "0.11.0"]], ...}], "not_driven": []}]}

Requests are columns, defaults are left out, and versions that did the same share one entry, so a hundred workloads are some hundred KiB.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from simserve.errors import ConfigError, nearest
from simserve.files.json_text import parse_json
from simserve.files.messages import checked
from simserve.files.text import MOST_TEXT_BYTES, decoded, gunzip, read_bytes
from simserve.files.words import clipped
from simserve.validation.schedules.schedule import RequestSchedule, Run, Schedule
from simserve.validation.schedules.workload import STEP_S, Outcome, ScheduleRequest, ScheduleSettings, ScheduleWorkload

SCHEMA = "simserve-schedule/1"

ENGINES = ("vllm", "vllm-ascend", "sglang", "lightllm", "nano-vllm", "mini-sglang")
"""Engines that a file may name."""

WHAT = "a file of recorded schedules"


@dataclass(frozen=True, slots=True)
class NotDriven:
    """A version that has no rule for what a workload asks, and why."""

    engine: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScheduleCase:
    """A workload, what versions did with it, and which versions could not be asked."""

    workload: ScheduleWorkload
    schedules: tuple[Schedule, ...] = ()
    not_driven: tuple[NotDriven, ...] = ()

    def of(self, engine: str, version: str) -> Schedule | None:
        """What a version did; None where it is not recorded."""
        return next((one for one in self.schedules if (one.engine, one.version) == (engine, version)), None)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Requests(_Strict):
    arrival_s: list[float]
    prompt_tokens: list[int]
    output_tokens: list[int]
    max_tokens: list[int | None] = []
    priority: list[int] = []
    prefix_ids: list[tuple[int, ...]] = []
    abort_s: list[float | None] = []
    accepted: list[tuple[int, ...] | None] = []


class _Workload(_Strict):
    kind: str
    seed: int
    step_s: float = Field(STEP_S, gt=0)
    settings: ScheduleSettings = ScheduleSettings()
    requests: _Requests


class _Schedule(_Strict):
    engines: list[tuple[str, str]]
    steps: list[tuple[float, float, int]] | None = None
    free_blocks: list[tuple[int, int]] | None = None
    first_token_s: list[float | None]
    finish_s: list[float | None]
    ended: dict[int, Outcome] = {}
    runs: list[tuple[Run, ...]] | None = None
    admissions: list[tuple[tuple[int, int], ...]] | None = None
    preemptions: dict[int, tuple[int, ...]] | None = None


class _Case(_Strict):
    workload: _Workload
    schedules: list[_Schedule] = []
    not_driven: list[tuple[str, str, str]] = []


class _File(_Strict):
    schema_: str = Field(alias="schema")
    cases: list[_Case]


def read_cases(path: Path) -> list[ScheduleCase]:
    """The cases of a file. Raises ConfigError: missing, damaged, not JSON, another schema, an unknown engine, columns of unequal length."""
    raw = read_bytes(path, ConfigError, what=WHAT, most_bytes=MOST_TEXT_BYTES)
    if raw[:2] == b"\x1f\x8b":
        raw = gunzip(raw, path, ConfigError, most_bytes=MOST_TEXT_BYTES)
    elif path.suffix == ".gz":
        raise ConfigError(f"{path}: not a gzip file; {WHAT} that ends in .gz is one")
    data = parse_json(decoded(raw, path, ConfigError, what=WHAT), str(path), ConfigError)
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = "no schema is stated" if schema is None else f"its schema is {clipped(json.dumps(schema), 60)}"
        raise ConfigError(f"{path}: {found}; this version reads {SCHEMA!r}")
    return [_case(one, f"{path}: case {number}") for number, one in enumerate(checked(_File, data, str(path)).cases)]


def read_place(place: Path) -> list[ScheduleCase]:
    """The cases of a file, or of all files of a folder (`*.json`, `*.json.gz`), in order of their names. Raises ConfigError as `read_cases`,
    and for a folder without such files."""
    if not place.is_dir():
        return read_cases(place)
    files = sorted(path for path in place.iterdir() if path.name.endswith((".json", ".json.gz")))
    if not files:
        raise ConfigError(f"{place}: no file of recorded schedules (*.json, *.json.gz) is in it")
    return [case for path in files for case in read_cases(path)]


def chosen(cases: Sequence[ScheduleCase], engine: str = "", kinds: Sequence[str] = ()) -> list[ScheduleCase]:
    """Those of some kinds, with what is recorded of one engine; "" and () leave everything. Raises ConfigError for an engine or a kind that
    nothing is recorded of."""
    there = {case.workload.kind for case in cases}
    for kind in kinds:
        if kind not in there:
            raise ConfigError(f"kind '{clipped(kind, 60)}': no such workload is recorded{nearest(kind, there)}")
    kept = [case for case in cases if not kinds or case.workload.kind in kinds]
    if not engine:
        return kept
    engines = {one.engine for case in kept for one in (*case.schedules, *case.not_driven)}
    if engine not in engines:
        raise ConfigError(f"engine '{clipped(engine, 60)}': nothing of it is recorded{nearest(engine, engines)}")
    return [
        replace(
            case,
            schedules=tuple(one for one in case.schedules if one.engine == engine),
            not_driven=tuple(one for one in case.not_driven if one.engine == engine),
        )
        for case in kept
    ]


def write_cases(path: Path, cases: Sequence[ScheduleCase], *, free_blocks: bool = False) -> None:
    """Writes a file, always the same bytes for the same cases; gzipped if its name ends in .gz. Free blocks are left out unless asked for:
    they say nothing that the rest does not, and take as much room."""
    data = {"schema": SCHEMA, "cases": [_case_data(case, free_blocks) for case in cases]}
    lines = json.dumps(data, separators=(",", ":")).replace('{"workload":', '\n{"workload":') + "\n"
    raw = lines.encode()
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
            stream.write(raw)
        raw = packed.getvalue()
    path.write_bytes(raw)


def _case(one: _Case, where: str) -> ScheduleCase:
    columns = {name: column for name, column in one.workload.requests if column}
    count = len(one.workload.requests.arrival_s)
    for name, column in columns.items():
        _length(column, count, f"{where}: workload.requests.{name}")
    requests = tuple(ScheduleRequest(**{name: column[row] for name, column in columns.items()}) for row in range(count))
    workload = ScheduleWorkload(one.workload.kind, one.workload.seed, one.workload.settings, requests, one.workload.step_s)
    schedules = tuple(schedule for entry in one.schedules for schedule in _schedules(entry, count, where))
    for engine, _, _ in one.not_driven:
        _known(engine, where)
    return ScheduleCase(workload, schedules, tuple(NotDriven(*entry) for entry in one.not_driven))


def _schedules(one: _Schedule, count: int, where: str) -> list[Schedule]:
    for name in ("first_token_s", "finish_s", "runs", "admissions"):
        column = getattr(one, name)
        if column is not None:
            _length(column, count, f"{where}: {name}")
    for name in ("ended", "preemptions"):
        if any(not 0 <= row < count for row in getattr(one, name) or {}):
            raise ConfigError(f"{where}: {name}: a row that is no request; there are {count}")
    requests = tuple(
        RequestSchedule(
            one.first_token_s[row],
            one.finish_s[row],
            one.ended.get(row, "finished"),
            None if one.runs is None else one.runs[row],
            None if one.admissions is None else one.admissions[row],
            None if one.preemptions is None else one.preemptions.get(row, ()),
        )
        for row in range(count)
    )
    steps = None if one.steps is None else tuple(one.steps)
    free = None if one.free_blocks is None else tuple(one.free_blocks)
    for engine, _ in one.engines:
        _known(engine, where)
    return [Schedule(engine, version, requests, steps, free) for engine, version in one.engines]


def _known(engine: str, where: str) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"{where}: unknown engine {clipped(engine, 60)!r}{nearest(engine, ENGINES)}")


def _length(column: Sequence[Any], count: int, where: str) -> None:
    if len(column) != count:
        raise ConfigError(f"{where}: {len(column)} entries; the workload has {count} requests")


def _case_data(case: ScheduleCase, free_blocks: bool) -> dict[str, Any]:
    workload = case.workload
    columns: dict[str, Any] = {}
    for one in fields(ScheduleRequest):
        column = [getattr(request, one.name) for request in workload.requests]
        if one.name in ("arrival_s", "prompt_tokens", "output_tokens") or any(value != one.default for value in column):
            columns[one.name] = column
    entry: dict[str, Any] = {"kind": workload.kind, "seed": workload.seed}
    if workload.step_s != STEP_S:
        entry["step_s"] = workload.step_s
    found: dict[str, Any] = {"workload": {**entry, "settings": workload.settings.stated(), "requests": columns}}
    found["schedules"] = [
        {"engines": [[one.engine, one.version] for one in same], **_schedule_data(same[0])} for same in _alike(case.schedules, free_blocks)
    ]
    if case.not_driven:
        found["not_driven"] = [[one.engine, one.version, one.reason] for one in case.not_driven]
    return found


def _alike(schedules: Iterable[Schedule], free_blocks: bool) -> list[list[Schedule]]:
    """Schedules grouped by what was done, in order of the first."""
    groups: dict[Schedule, list[Schedule]] = {}
    for one in schedules:
        kept = one if free_blocks else replace(one, free_blocks=None)
        groups.setdefault(replace(kept, engine="", version=""), []).append(kept)
    return list(groups.values())


def _schedule_data(schedule: Schedule) -> dict[str, Any]:
    rows = schedule.requests
    found: dict[str, Any] = {"steps": schedule.steps, "free_blocks": schedule.free_blocks}
    found["first_token_s"] = [row.first_token_s for row in rows]
    found["finish_s"] = [row.finish_s for row in rows]
    found["ended"] = {number: row.ended for number, row in enumerate(rows) if row.ended != "finished"} or None
    for name in ("runs", "admissions"):
        column = [getattr(row, name) for row in rows]
        found[name] = None if any(value is None for value in column) else column
    found["preemptions"] = (
        None if any(row.preemptions is None for row in rows) else {n: row.preemptions for n, row in enumerate(rows) if row.preemptions}
    )
    return {name: value for name, value in found.items() if value is not None}
