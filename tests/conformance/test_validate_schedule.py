"""`simserve validate schedule`: what it prints, its exit codes, and what it says of bad input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from simserve.cli import main
from simserve.validation.schedules import engines
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase, read_cases, write_cases
from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from tests.conformance.small import random_workload, recorded

EQUAL = [random_workload(seed, kind="tight") for seed in range(2)]
OTHER = random_workload(2, kind="slots")
FEWER = replace(OTHER, settings=replace(OTHER.settings, max_num_seqs=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("fixtures")
    write_cases(place / "tight.json.gz", [ScheduleCase(one, (recorded(one),)) for one in EQUAL], free_blocks=True)
    window = ScheduleCase(random_workload(3, kind="window"), not_driven=(NotDriven("vllm", "0.11.0", "kv_windows: no such rule"),))
    write_cases(place / "slots.json", [ScheduleCase(OTHER, (recorded(FEWER),)), window], free_blocks=True)
    return place


def run(*words):
    return main(["validate", "schedule", *map(str, words)])


def test_equal_schedules_exit_with_0(folder, capsys):
    assert run("--fixtures", folder / "tight.json.gz") == 0
    out, err = capsys.readouterr()
    assert "tight  vLLM 0.11.0  vllm-v1  2 of 2" in out and "2 of 2 schedules equal, step for step" in out
    assert "schedules compared" in err and "schedules compared" not in out


@pytest.mark.parametrize("width", [80, 140])
def test_a_difference_exits_with_1_and_is_shown(folder, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("--fixtures", folder) == 1
    out = capsys.readouterr().out
    tables = [line for line in out.splitlines() if "differs in step" not in line]
    assert max(map(len, tables)) <= width
    words = " ".join(out.split())
    assert "2 of 3 schedules equal, step for step" in words
    assert "which requests are admitted (request 3)" in words and "1 not driven: kv_windows: no such rule" in words
    for what in ("step starts", "tokens", "preempted", "admitted", "running", "waiting", "free blocks", "none, waits"):
        assert what in words


def test_the_same_twice(folder, capsys, tmp_path):
    shown = []
    for name in ("a.md", "b.md"):
        assert run("--fixtures", folder, "--markdown", tmp_path / name) == 1
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()


def test_the_summary_for_a_pull_request(folder, tmp_path, capsys):
    assert run("--fixtures", folder, "--markdown", tmp_path / "a.md") == 1
    assert f"wrote {tmp_path / 'a.md'}" in capsys.readouterr().err
    text = (tmp_path / "a.md").read_text()
    assert text.startswith("## Schedules: 2 of 3 equal, step for step\n")
    assert "| vLLM 0.11.0 | vllm-v1 | tight | 2 of 2 |  |" in text and "### vLLM 0.11.0, slots-2 differs in step " in text
    assert "| admitted | none | 3 |" in text
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1  # every row of a table has its columns


def test_json(folder, capsys):
    assert run("--fixtures", folder, "--json") == 1
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["tight"]["equal"], rows["slots"]["different"], rows["window"]["not_driven"]) == (2, 1, 1)
    assert rows["slots"]["first_difference"].startswith("slots-2 differs in step")
    assert rows["tight"]["first_difference"] is None


def test_kinds_and_engines_are_chosen(folder, capsys):
    assert run("--fixtures", folder, "--kinds", "tight", "--engine", "vllm") == 0
    assert "slots" not in capsys.readouterr().out


def test_a_profile_of_ones_own(folder, capsys):
    assert run("--fixtures", folder, "--kinds", "tight", "--profile", "vllm-v1-async") == 0
    assert "vllm-v1-async" in capsys.readouterr().out
    assert run("--fixtures", folder, "--kinds", "tight", "--profile", "sarathi-serve") in (1, 2)


def test_nothing_compared_is_no_pass(folder, capsys):
    assert run("--fixtures", folder, "--kinds", "window") == 2
    out, err = capsys.readouterr()
    assert "kv_windows: no such rule" in out and "no schedule was compared" in err


BAD = {
    "--engine is missing": [],
    "no such file": ["--fixtures", "/nowhere/at/all"],
    "engine 'vlm': its scheduler is not driven; did you mean 'vllm'?": ["--engine", "vlm"],
    "unknown engine 'vllm-v2'": ["--fixtures", "FOLDER", "--profile", "vllm-v2"],
    "kind 'tihgt': no such workload is recorded; did you mean 'tight'?": ["--fixtures", "FOLDER", "--kinds", "tihgt"],
    "engine 'sglang': nothing of it is recorded": ["--fixtures", "FOLDER", "--engine", "sglang"],
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input(said, folder, capsys):
    assert run(*(folder if word == "FOLDER" else word for word in BAD[said])) == 2
    out, err = capsys.readouterr()
    assert said in " ".join(err.split()) and "Traceback" not in err and not out


def test_a_summary_that_cannot_be_written(folder, capsys):
    assert run("--fixtures", folder, "--kinds", "tight", "--markdown", folder) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture
def engine(monkeypatch):
    """An engine that schedules as vllm-v1 does, and has no windows."""
    found = SimpleNamespace(version=lambda: "0.11.0", drive=recorded)

    def kinds_of(engine, kinds, count, seed):
        return [random_workload(seed + number, kind=(kinds or ["tight", "slots"])[number % 2]) for number in range(count)]

    known = ModuleType("simserve.validation.schedules.kinds")
    known.workloads = kinds_of
    monkeypatch.setitem(sys.modules, known.__name__, known)
    monkeypatch.setattr("simserve.validation.schedules.kinds", known, raising=False)
    monkeypatch.setitem(engines.DRIVERS, "vllm", "installed")
    monkeypatch.setitem(sys.modules, "simserve.validation.schedules.engines.installed", found)
    return found


def test_an_installed_engine_is_driven_and_recorded(engine, tmp_path, capsys):
    assert run("--engine", "vllm", "--workloads", 4, "--seed", 9, "--record", tmp_path / "kept.json.gz") == 0
    out, err = capsys.readouterr()
    assert "4 of 4 schedules equal" in out and "workloads given to the engine" in err
    kept = read_cases(tmp_path / "kept.json.gz")
    assert [case.workload.seed for case in kept] == [9, 10, 11, 12]
    assert run("--fixtures", tmp_path / "kept.json.gz") == 0


def test_an_engine_that_is_not_there_is_named(engine, capsys):
    def absent():
        raise EngineUnavailable("vllm: cannot be imported: No module named 'vllm'")

    engine.version = absent
    assert run("--engine", "vllm") == 2
    out, err = capsys.readouterr()
    assert "vllm: cannot be imported: No module named 'vllm'" in err and "Traceback" not in err and not out


def test_an_engine_that_has_changed_ends_it(engine, capsys):
    """Also when it shows in the middle: what was driven before is no result."""
    calls = []

    def changed(workload):
        calls.append(workload)
        if len(calls) == 3:
            raise EngineUnavailable("vllm 0.50.0: Scheduler.schedule has no num_scheduled_tokens")
        return recorded(workload)

    engine.drive = changed
    assert run("--engine", "vllm", "--workloads", 5) == 2
    assert "Scheduler.schedule has no num_scheduled_tokens" in capsys.readouterr().err


def test_a_kind_that_a_version_has_no_rule_for_is_listed(engine, capsys):
    def refuses(workload):
        if workload.kind == "slots":
            raise Unsupported("watermark", "since 0.24")
        return recorded(workload)

    engine.drive = refuses
    assert run("--engine", "vllm", "--workloads", 4) == 0
    assert "2 not driven: watermark: since 0.24" in " ".join(capsys.readouterr().out.split())


def test_a_policy_that_stops_is_a_difference(engine, capsys, monkeypatch):
    from simserve.errors import PolicyError
    from simserve.validation.schedules import compare

    def stops(workload, profile):
        raise PolicyError("policy 'x' plans no work at 3 s")

    monkeypatch.setattr(compare, "ours", stops)
    assert run("--engine", "vllm", "--workloads", 1) == 1
    assert "tight-0: simserve stops: policy 'x' plans no work at 3 s" in capsys.readouterr().out
