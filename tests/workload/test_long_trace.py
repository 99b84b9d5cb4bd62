"""A trace read in parts gives the requests that it gives read whole, to the last bit; what is wrong in it has its line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simserve.errors import SimserveError, TraceError
from simserve.workload import chunks, long_trace
from simserve.workload.columns import Labels
from simserve.workload.config import WorkloadConfig, build_workload
from simserve.workload.drawn import whole
from simserve.workload.replayed import replayed
from simserve.workload.requests import RequestTable
from tests.workload.mutants import mutant

ROWS = 400
SEED = 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 37)


def columns(disorder: float = 0.0) -> dict[str, Any]:
    """Times to the tenth of a second, many equal, that go back by up to `disorder` seconds."""
    rng = np.random.default_rng(3)
    arrival = 100.0 + np.sort(np.round(rng.uniform(0, 60, ROWS), 1))
    arrival = np.round(arrival - rng.uniform(0, disorder, ROWS), 1)
    prompt, output, model = (rng.integers(low, high, ROWS) for low, high in ((1, 900), (0, 90), (0, 4)))
    return {"arrival": arrival, "prompt": prompt, "output": output, "model": model}


def burstgpt(path: Path, disorder: float = 0.0, **_: Any) -> None:
    c = columns(disorder)
    names = np.array(["ChatGPT", "GPT-4", "a", "b"])[c["model"]]
    frame = {"Timestamp": c["arrival"], "Model": names, "Request tokens": c["prompt"], "Response tokens": c["output"]}
    pd.DataFrame({**frame, "Total tokens": c["prompt"] + c["output"], "Log Type": "API log"}).to_csv(path, index=False)


def azure(path: Path, disorder: float = 0.0, zone: str = "") -> None:
    c = columns(disorder)
    times = pd.Timestamp("2024-05-10 23:59:20") + pd.to_timedelta(c["arrival"], unit="s")
    frame = {"TIMESTAMP": times.astype(str) + zone, "ContextTokens": c["prompt"], "GeneratedTokens": c["output"]}
    pd.DataFrame(frame).to_csv(path, index=False)


def vidur(path: Path, disorder: float = 0.0, **_: Any) -> None:
    c = columns()
    pd.DataFrame({"num_prefill_tokens": c["prompt"], "num_decode_tokens": c["output"]}).to_csv(path, index=False)


def own(path: Path, disorder: float = 0.0, **_: Any) -> None:
    """With columns that a few rows in the middle state."""
    c = columns(disorder)
    rows = np.arange(ROWS)
    frame = pd.DataFrame({"arrival_s": c["arrival"], "prompt_tokens": c["prompt"], "output_tokens": c["output"]})
    frame["slo_class"] = np.where(rows < 300, "chat", "batch")
    frame["patience_s"] = np.where(rows == 200, 3.0, np.nan)
    frame["priority"] = rows % 3
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


FILES = {
    "burstgpt": ("a.csv", burstgpt, {}),
    "gzip": ("a.csv.gz", burstgpt, {}),
    "dates": ("a.csv", azure, {}),
    "dates with a zone": ("a.csv", azure, {"zone": "+00:00"}),
    "simserve": ("a.csv", own, {}),
    "parquet": ("a.parquet", own, {}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a window": {"start_s": 10.0, "duration_s": 20.0, "rate_scale": 3.0},
    "limits": {"drop": {"total_tokens": 600}, "clip": {"output_tokens": 20, "total_tokens": 300}},
    "the first": {"limit": 211},
}
BESIDE: dict[str, dict[str, Any]] = {
    "alone": {},
    "classes and limits": {
        "slo_classes": [{"name": "fast", "fraction": 0.3, "priority": 2}],
        "patience_s": 30.0,
        "max_output_tokens": 50,
        "priority": 1,
    },
    "other times": {"arrivals": {"kind": "gamma", "rate_per_s": 4.0, "cv": 2.0}},
}


def both(path: Path, trace: dict[str, Any], most: int = 0, **beside: Any) -> tuple[RequestTable, RequestTable, list[RequestTable]]:
    config = WorkloadConfig.model_validate({"trace": {"path": str(path), **trace}, **beside})
    workload = replayed(config, path.parent, SEED, most)
    assert workload is not None and workload.tables is not None and len(workload.requests) == 0
    tables = [*workload.tables(23)]
    assert len(workload) == sum(map(len, tables)) and max(map(len, tables)) <= 23
    return build_workload(config, path.parent, SEED).requests, whole(workload).requests, [workload.requests, *tables]


def same(one: RequestTable, other: RequestTable) -> None:
    assert list(one.others) == list(other.others)
    stated = [(column.name, values) for column, values in one.stated_columns()]
    assert [name for name, _ in stated] == [column.name for column, _ in other.stated_columns()]
    for name, values in stated:
        found = other.column(name)
        if isinstance(values, Labels):
            assert isinstance(found, Labels) and found.names == values.names
            values, found = values.codes, found.codes
        assert np.array_equal(values, found, equal_nan=values.dtype.kind == "f"), name  # type: ignore[arg-type]
    assert one.provenance == other.provenance


@pytest.mark.parametrize(
    ("disorder", "options", "beside"),
    [
        (0.0, "as it is", "alone"),
        (5.0, "a window", "classes and limits"),
        (100.0, "limits", "other times"),
        (5.0, "the first", "alone"),
        (0.0, "the first", "classes and limits"),
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_parts_are_the_whole(file: str, disorder: float, options: str, beside: str, tmp_path: Path) -> None:
    name, write, how = FILES[file]
    write(tmp_path / name, disorder, **how)
    one, other, tables = both(tmp_path / name, OPTIONS[options], **BESIDE[beside])
    same(one, other)
    assert len({(tuple(table.others), table.slo_class.names) for table in tables}) == 1  # those of the table without rows among them


def test_lengths_alone_at_times_of_a_process(tmp_path: Path) -> None:
    vidur(tmp_path / "a.csv")
    same(*both(tmp_path / "a.csv", {}, arrivals={"kind": "poisson", "rate_per_s": 3.0})[:2])


def test_rows_wait_for_those_before_them_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trace that is hardly out of order no table holds more than the rows of three parts."""
    burstgpt(tmp_path / "a.csv", 2.0)
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv")}})
    workload = replayed(config, tmp_path, SEED, 0)
    assert workload is not None and workload.tables is not None
    sizes = [len(table) for table in workload.tables(ROWS)]
    assert workload.requests.provenance["sorted_by_us"] and len(sizes) > 5 and max(sizes) < 3 * 60


@pytest.mark.parametrize("disorder", [0.0, 2.0, 20.0, 90.0])
def test_work_is_linear_however_rows_lie(disorder: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are joined and sorted again and again are three times those of the file at most."""
    burstgpt(tmp_path / "a.csv", disorder)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 200)  # some sixty parts
    join, done = long_trace.joined, []

    def counted(tables: list[RequestTable]) -> RequestTable:
        done.append(sum(map(len, tables)))
        return join(tables)

    monkeypatch.setattr(long_trace, "joined", counted)
    workload = replayed(WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv")}}), tmp_path, SEED, 0)
    assert workload is not None and workload.tables is not None
    assert sum(map(len, workload.tables(ROWS))) == ROWS and sum(done) <= 3 * ROWS


WRONG = {
    "no number": ("2.5,a,x,5,8,API log", "line 300: 'Request tokens' is 'x', not a number"),
    "a fraction": ("2.5,a,2.5,5,8,API log", "line 300: 'Request tokens' is '2.5', not a whole number"),
    "below 0": ("-1,a,3,5,8,API log", "line 300: 'Timestamp' is '-1', must not be negative"),
    "a field short": ("2.5,a,3,5,8", "line 300: 5 fields, the header has 6; is the file cut short?"),
    "a date": ("2024-01-31 00:00:05,a,3,5,8,API log", "line 2: 'Timestamp' is"),
    "binary": ("2.5,a\0,3,5,8,API log", "line 300 holds binary data"),
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_has_its_line(wrong: str, ends: str, tmp_path: Path) -> None:
    burstgpt(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    lines[299], said = WRONG[wrong]
    (tmp_path / "a.csv").write_bytes(ends.join([*lines, ""]).encode())
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv")}})
    for read in (lambda: replayed(config, tmp_path, SEED, 0), lambda: build_workload(config, tmp_path, SEED)):
        with pytest.raises(TraceError) as problem:
            read()
        assert said in str(problem.value)


def test_a_mistake_in_parquet_has_its_row(tmp_path: Path) -> None:
    own(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    frame.loc[250, "prompt_tokens"] = -4
    frame.to_parquet(tmp_path / "a.parquet")
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.parquet")}})
    for read in (lambda: replayed(config, tmp_path, SEED, 0), lambda: build_workload(config, tmp_path, SEED)):
        with pytest.raises(TraceError, match="row 250: 'prompt_tokens' is -4; at most"):
            read()


@pytest.mark.parametrize(
    ("trace", "said"),
    [({"filter": {"model": "GPT-5"}}, "'GPT-5' does not occur"), ({"start_s": 1e6}, "no request is left"), ({"limit": 1}, "")],
)
def test_options_are_refused_alike(trace: dict[str, Any], said: str, tmp_path: Path) -> None:
    burstgpt(tmp_path / "a.csv", 5.0)
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv"), **trace}})
    messages = []
    for read in (lambda: replayed(config, tmp_path, SEED, 0), lambda: build_workload(config, tmp_path, SEED)):
        try:
            read()
            messages.append("")
        except SimserveError as problem:
            messages.append(str(problem))
    assert messages[0] == messages[1] and said in messages[0]


def test_what_needs_the_whole_is_read_whole(tmp_path: Path) -> None:
    """Too few rows, requests that wait for others, sessions told by texts, another kind of file, other line ends, a damaged file."""
    burstgpt(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    waits = "arrival_s,prompt_tokens,output_tokens,after\n" + "".join(f"{i},5,5,{i - 1 if i % 3 else -1}\n" for i in range(ROWS))
    sessions = "\n".join(",".join([*row, "Session ID" if not i else f"s{i % 7}"]) for i, row in enumerate(rows))
    files = {
        "few": (text, ROWS + 1, {}),
        "waits": (waits, 0, {}),
        "sessions": (sessions, 0, {}),
        "json": ("\n".join(f'{{"input_length": 5, "output_length": 5, "timestamp": {i}}}' for i in range(ROWS)), 0, {}),
        "old": (text.replace("\n", "\r"), 0, {}),
        "strict": (text, 0, {"strict": True}),
        "resampled": (text, 0, {"resample": 30}),
    }
    for name, (content, most, trace) in files.items():
        (tmp_path / name).write_bytes(content.encode())
        config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / name), **trace}})
        found = replayed(config, tmp_path, SEED, most)
        assert (found is None) == (name != "strict"), name
        assert len(build_workload(config, tmp_path, SEED)) == (30 if name == "resampled" else ROWS)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text.encode())[:-20])
    assert replayed(WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "cut.gz")}}), tmp_path, SEED, 0) is None


def shifted(path: Path) -> None:
    """As many rows of as many bytes, at other times and of other lengths."""
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(line.replace("1", "4") for line in lines)]) + "\n")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "shorter": lambda path: path.write_text("".join(path.read_text().splitlines(True)[:200])),
    "longer": lambda path: path.write_text(path.read_text() + "".join(path.read_text().splitlines(True)[1:])),
    "other rows": shifted,
    "shorter names": lambda path: path.write_text(path.read_text().replace("ChatGPT", "c")),  # the same rows, in fewer parts
    "another kind": lambda path: path.write_text('{"arrival_s": 1}\n' * ROWS),
    "binary": lambda path: path.write_bytes(b"\0" * 9000),
    "empty": lambda path: path.write_text(""),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("parts_before", [0, 2])
def test_a_file_that_changes_meanwhile_is_told(change: str, parts_before: int, tmp_path: Path) -> None:
    """Whatever it has become: rows of two files are never mixed, nor is a result made of a file that it does not name."""
    burstgpt(tmp_path / "a.csv")
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv")}})
    workload = replayed(config, tmp_path, SEED, 0)
    assert workload is not None and workload.tables is not None
    tables = workload.tables(ROWS)
    for _ in range(parts_before):
        next(tables)
    CHANGES[change](tmp_path / "a.csv")
    with pytest.raises(TraceError, match="was changed while it was read"):
        list(tables)


def test_a_file_that_is_written_again_as_it_was_is_no_other(tmp_path: Path) -> None:
    burstgpt(tmp_path / "a.csv")
    config = WorkloadConfig.model_validate({"trace": {"path": str(tmp_path / "a.csv")}})
    workload = replayed(config, tmp_path, SEED, 0)
    assert workload is not None and workload.tables is not None
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    (tmp_path / "b.csv").replace(tmp_path / "a.csv")
    assert sum(map(len, workload.tables(50))) == ROWS


def differ(folder: Path, numbers: range, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Damaged and odd files that parts and the whole do not both refuse, or not both read alike. Their errors may differ: a part knows not
    what follows."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 1)
    found = []
    for number in numbers:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", (110, 160, 240)[number % 3])
        name, content = mutant(number)
        (folder / name).write_bytes(content)
        config = WorkloadConfig.model_validate({"trace": {"path": str(folder / name)}, "arrivals": {"kind": "poisson", "rate_per_s": 1.0}})
        read: list[RequestTable | None] = []
        for how in (partial(replayed, most=0), build_workload):
            try:
                workload = how(config, folder, SEED)
                read.append(None if workload is None else whole(workload).requests)
                if workload is None:  # it needs the whole
                    break
            except SimserveError:
                read.append(None)
        if len(read) < 2 or read == [None, None]:
            continue
        try:
            same(*read)  # type: ignore[arg-type]
        except (AssertionError, AttributeError) as problem:
            found.append((number, name, str(problem)))
    return found


def test_a_hundred_mutants_are_read_or_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differ(tmp_path, range(130), monkeypatch) == []


@pytest.mark.nightly
def test_three_thousand_mutants_are_read_or_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differ(tmp_path, range(130, 3300), monkeypatch) == []
