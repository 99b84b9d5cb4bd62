"""Schedules of vLLM's own scheduler that were recorded elsewhere, with the times of requests alone: all are equal under their profile."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from simserve.validation.schedules.compare import compare_cases
from simserve.validation.schedules.fixture import ScheduleCase, read_cases, write_cases
from simserve.validation.schedules.report import headline
from simserve.validation.schedules.schedule import RequestSchedule, Schedule
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "cases" / "conformance"
FILES = sorted(FOLDER.glob("*.json"))

pytestmark = [pytest.mark.shared, pytest.mark.skipif(not FILES, reason="needs ../shared/cases/conformance")]


@functools.cache
def given(path: Path) -> ScheduleCase:
    """One file: its blocks count vLLM's null block; its priorities and prefix ids are as ours."""
    told = json.loads(path.read_text())
    rows = tuple(ScheduleRequest(s, p, o, priority=priority, prefix_ids=tuple(ids)) for s, p, o, priority, ids in told["trace"])
    settings = ScheduleSettings(
        max_num_seqs=told["max_num_seqs"],
        max_num_batched_tokens=told["max_num_batched_tokens"],
        block_tokens=told["block_tokens"],
        kv_blocks=told["blocks"] - 1,
        prefix_caching=any(row.prefix_ids for row in rows),
        order=told["policy"],
        long_prefill_token_threshold=told["long_prefill_token_threshold"],
    )
    workload = ScheduleWorkload(told["kind"], told["seed"], settings, rows, told["step_s"])
    return ScheduleCase(workload, tuple(_schedule(real) for real in told["real"]))


def _schedule(real: dict[str, Any]) -> Schedule:
    engine, version = real["engine"].split()
    times = zip(real["first_token_s"], real["finish_s"], strict=True)
    return Schedule(engine, version, tuple(RequestSchedule(first, last) for first, last in times))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.stem.rpartition('-')[2]}")
def test_it_is_equal_to_the_last_step(path):
    found = compare_cases([given(path)])
    assert {one.version for one in found} == {"0.11.0", "0.33.0"}
    assert [headline(one) for one in found if one.verdict != "equal"] == []


def test_there_are_36():
    assert sum(len(given(path).schedules) for path in FILES) == 36


def test_they_can_be_kept_as_fixtures(tmp_path):
    cases = [given(path) for path in FILES[:3]]
    write_cases(tmp_path / "kept.json.gz", cases)
    assert read_cases(tmp_path / "kept.json.gz") == cases
