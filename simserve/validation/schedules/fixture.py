"""Recorded schedules in a file: workloads, and beside each what versions of engines did with it. JSON, gzipped where the name says so.

    {"schema": "simserve-schedule/1",
     "cases": [{"workload": {...}, "schedules": [{"engines": [["vllm", "0.11.0"]], ...}], "not_driven": []}]}

Versions that did the same share one entry; the rest of the layout is in `columns`. A hundred workloads are some hundred KiB.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from simserve.errors import ConfigError, nearest
from simserve.files.json_text import parse_json
from simserve.files.messages import checked
from simserve.files.text import MOST_TEXT_BYTES, decoded, gunzip, read_bytes
from simserve.files.words import clipped
from simserve.validation.schedules.columns import (
    Entry,
    ScheduleEntry,
    WorkloadEntry,
    schedule_data,
    schedules_of,
    workload_data,
    workload_of,
)
from simserve.validation.schedules.schedule import ENGINES, Schedule
from simserve.validation.schedules.workload import ScheduleWorkload

SCHEMA = "simserve-schedule/1"

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


class _Case(Entry):
    workload: WorkloadEntry
    schedules: list[ScheduleEntry] = Field(default_factory=list)
    not_driven: list[tuple[str, str, str]] = Field(default_factory=list)


class _File(Entry):
    schema_: str = Field(alias="schema")
    cases: list[_Case]


def read_cases(path: Path) -> list[ScheduleCase]:
    """The cases of a file. Raises ConfigError: missing, damaged, not JSON, another schema, an unknown engine, columns of unequal length."""
    raw = read_bytes(path, ConfigError, what=WHAT, most_bytes=MOST_TEXT_BYTES)
    if raw[:2] == b"\x1f\x8b":
        raw = gunzip(raw, path, ConfigError, most_bytes=MOST_TEXT_BYTES)
    elif path.suffix == ".gz":
        raise ConfigError(f"{path}: not a gzip file; {WHAT} that ends in .gz is one")
    text = decoded(raw, path, ConfigError, what=WHAT)
    data = parse_json(text, str(path), ConfigError)
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = "no schema is stated" if schema is None else f"its schema is {clipped(json.dumps(schema), 60)}"
        raise ConfigError(f"{path}: {found}; this version reads {SCHEMA!r}")
    try:
        entries = _File.model_validate_json(text, strict=True)
    except ValidationError:
        entries = checked(_File, data, str(path))  # says what is wrong, and takes ten times as long
    return [_case(one, f"{path}: case {number}") for number, one in enumerate(entries.cases)]


def read_place(place: Path) -> list[ScheduleCase]:
    """The cases of a file, or of all files of a folder (`*.json`, `*.json.gz`), in order of their names. Raises ConfigError as
    `read_cases`, and for a folder without such files."""
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
    engines = {one.engine for case in kept for one in case.schedules} | {one.engine for case in kept for one in case.not_driven}
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
    for engine, *_ in (*one.not_driven, *(each for entry in one.schedules for each in entry.engines)):
        if engine not in ENGINES:
            raise ConfigError(f"{where}: unknown engine '{clipped(engine, 60)}'{nearest(engine, ENGINES)}")
    workload = workload_of(one.workload, where)
    schedules = tuple(schedule for entry in one.schedules for schedule in schedules_of(entry, workload, where))
    return ScheduleCase(workload, schedules, tuple(NotDriven(*entry) for entry in one.not_driven))


def _case_data(case: ScheduleCase, free_blocks: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"workload": workload_data(case.workload)}
    found["schedules"] = [
        {"engines": [[one.engine, one.version] for one in same], **schedule_data(same[0], case.workload)}
        for same in _alike(case.schedules, free_blocks)
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
