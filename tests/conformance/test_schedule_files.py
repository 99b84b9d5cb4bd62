"""Files of recorded schedules: they come back as they were written, and what is wrong with one is said in a sentence."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import ConfigError
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase, chosen, read_cases, read_place, write_cases
from simserve.validation.schedules.schedule import RequestSchedule, Schedule
from simserve.validation.schedules.workload import ScheduleRequest
from tests.conformance.small import as_engine, random_workload, recorded, workload


@pytest.fixture(scope="module")
def cases():
    found = []
    for seed in range(3):
        asked = random_workload(seed, prefix_caching=seed == 2)
        one = recorded(asked)
        found.append(ScheduleCase(asked, (one, replace(one, version="0.8.5")), (NotDriven("vllm", "0.33.0", "window: no such rule"),)))
    return found


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_what_is_written_comes_back(cases, name, tmp_path):
    write_cases(tmp_path / name, cases, free_blocks=True)
    assert read_cases(tmp_path / name) == cases
    write_cases(tmp_path / name, cases)
    assert [[one.free_blocks for one in case.schedules] for case in read_cases(tmp_path / name)] == [[None, None]] * 3


def test_the_same_cases_are_the_same_bytes(cases, tmp_path):
    for name in ("a.json.gz", "b.json.gz"):
        write_cases(tmp_path / name, cases)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_versions_that_did_the_same_share_an_entry(cases, tmp_path):
    write_cases(tmp_path / "a.json", cases)
    data = json.loads((tmp_path / "a.json").read_text())
    assert [one["engines"] for one in data["cases"][0]["schedules"]] == [[["vllm", "0.11.0"], ["vllm", "0.8.5"]]]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 99)), min_size=1, max_size=4), st.integers(0, 9)),
        min_size=1,
        max_size=5,
    )
)
def test_any_schedule_comes_back(tmp_path_factory, requests):
    """Runs with gaps, admissions that begin no run, times at no step's end."""
    rows = []
    for gaps, other in requests:
        runs, end = [], 0
        for gap, steps, tokens in gaps:
            runs.append((end + gap, steps, tokens))
            end += gap + steps
        admissions = ((runs[0][0], 0), (max(other - 3, 0), 16))
        rows.append(RequestSchedule(0.01 * (other + 1), 3.3333, "finished", tuple(runs), admissions, (other,)))
    steps = max(one.runs[-1][0] + one.runs[-1][1] for one in rows if one.runs)
    schedule = Schedule("sglang", "0.5.23", tuple(rows), ((0.0, 0.01, max(steps, 12)),))
    case = ScheduleCase(workload(*[(0.0, 1, 1)] * len(rows)), (schedule,))
    path = tmp_path_factory.mktemp("any") / "a.json"
    write_cases(path, [case])
    assert read_cases(path) == [case]


def test_times_alone_come_back(tmp_path):
    """As of a recording that has no steps."""
    case = ScheduleCase(
        workload((0.0, 1, 1), (0.5, 2, 2)),
        (Schedule("vllm", "0.11.0", (RequestSchedule(0.01, 0.02), RequestSchedule(None, None, "refused"))),),
    )
    write_cases(tmp_path / "a.json", [case])
    assert read_cases(tmp_path / "a.json") == [case]


def changed(cases, tmp_path, change):
    write_cases(tmp_path / "a.json", cases[:1])
    data = json.loads((tmp_path / "a.json").read_text())
    change(data, data["cases"][0], data["cases"][0]["schedules"][0])
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError) as caught:
        read_cases(tmp_path / "a.json")
    return str(caught.value)


WRONG = {
    "another schema": (
        lambda data, case, one: data.update(schema="simserve-schedule/9"),
        "its schema is \"simserve-schedule/9\"; this version reads 'simserve-schedule/1'",
    ),
    "no schema": (lambda data, case, one: data.pop("schema"), "no schema is stated"),
    "unknown engine": (
        lambda data, case, one: one.update(engines=[["vlm", "0.11.0"]]),
        "case 0: unknown engine 'vlm'; did you mean 'vllm'?",
    ),
    "unknown engine not driven": (lambda data, case, one: case.update(not_driven=[["orca", "1", "x"]]), "unknown engine 'orca'"),
    "unknown setting": (
        lambda data, case, one: case["workload"]["settings"].update(max_num_seq=4),
        "cases.0.workload.settings.max_num_seq",
    ),
    "a short column": (lambda data, case, one: one["runs"].pop(), "case 0: runs: 23 entries; the workload has 24 requests"),
    "a short column of requests": (
        lambda data, case, one: case["workload"]["requests"]["priority"].pop(),
        "workload.requests.priority: 23 entries",
    ),
    "a row that is none": (lambda data, case, one: one.update(ended={"99": "aborted"}), "ended: a row that is no request; there are 24"),
    "a step that is none": (
        lambda data, case, one: one["runs"][3].__setitem__(0, 10**6),
        "request 3: names steps or runs that are not there",
    ),
    "a run cut short": (lambda data, case, one: one["runs"][3].pop(), "request 3: names steps or runs that are not there"),
    "an admission by no run": (
        lambda data, case, one: one["admissions"].__setitem__(2, [99, 0]),
        "request 2: names steps or runs that are not there",
    ),
    "an end of its own": (lambda data, case, one: one.update(ended={"3": "vanished"}), "cases.0.schedules.0.ended"),
    "text for a number": (lambda data, case, one: one["first_token"].__setitem__(0, "soon"), "cases.0.schedules.0.first_token.0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(cases, tmp_path, what):
    change, said = WRONG[what]
    message = changed(cases, tmp_path, change)
    assert said in message and "a.json" in message
    assert len(message) < 700


def test_broken_files(cases, tmp_path):
    whole = tmp_path / "a.json.gz"
    write_cases(whole, cases)
    raw = whole.read_bytes()
    for name, content, said in (
        ("cut.json.gz", raw[: len(raw) // 2], "damaged or cut short"),
        ("bent.json.gz", raw[:200] + b"\0\0\0\0" + raw[204:], "damaged or cut short"),
        ("plain.json.gz", b"{}", "not a gzip file"),
        ("inside.json.gz", gzip.compress(b"{]"), "not valid JSON"),
        ("list.json", b"[]", "no schema is stated"),
        ("binary.json", b"\xff\xfe\x00", "not a text file"),
        ("empty.json", b"", "not valid JSON"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=said) as caught:
            read_cases(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        read_cases(tmp_path / "absent.json")


def test_a_folder_is_read_in_order_of_names(cases, tmp_path):
    with pytest.raises(ConfigError, match="no file of recorded schedules"):
        read_place(tmp_path)
    write_cases(tmp_path / "b.json.gz", cases[:1])
    write_cases(tmp_path / "a.json", cases[1:])
    (tmp_path / "README.md").write_text("not read")
    assert [case.workload.seed for case in read_place(tmp_path)] == [1, 2, 0]


def test_choosing(cases):
    other = ScheduleCase(workload((0.0, 1, 1)), (as_engine(cases[0].schedules[0], "0.5.23", "sglang"),))
    both = [*cases, other]
    assert chosen(both) == both
    assert chosen(both, kinds=["small"]) == [other]
    assert [len(case.schedules) for case in chosen(both, "vllm")] == [2, 2, 2, 0]
    with pytest.raises(ConfigError, match="kind 'tigth': no such workload is recorded; did you mean 'tight'"):
        chosen(both, kinds=["tigth"])
    with pytest.raises(ConfigError, match="engine 'sgland': nothing of it is recorded; did you mean 'sglang'"):
        chosen(both, "sgland")


def test_a_request_without_a_limit_may_be_told_its_length():
    assert ScheduleRequest(0.0, 1, 7).most_output_tokens == 7
    assert ScheduleRequest(0.0, 1, 7, max_tokens=40).most_output_tokens == 40
