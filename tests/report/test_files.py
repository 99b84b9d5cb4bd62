"""What a result writes: complete, the same bytes each time, and light to write."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from simserve.errors import OutputError
from simserve.report import Result
from simserve.report.request_file import REQUEST_COLUMNS
from simserve.report.step_file import STEP_COLUMNS


def test_everything_asked_for_is_written_and_nothing_else(result, tmp_path):
    result.write(tmp_path / "a", timeline=True, steps=True)
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        "summary.json", "requests.parquet", "steps.parquet", "timeline.json", "report.html", "plots", "experiment.resolved.yaml",
    }  # fmt: skip
    assert len(list((tmp_path / "a" / "plots").glob("*.png"))) == 7
    result.write(tmp_path / "b", plots=False, report=False)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"summary.json", "requests.parquet", "experiment.resolved.yaml"}


def test_same_run_same_bytes(two_classes, result, tmp_path):
    again = Result(two_classes[0], result.experiment, result.slo, warmup_s=10.0, cooldown_s=5.0)
    for each, name in ((result, "a"), (again, "b")):
        each.write(tmp_path / name, timeline=True, steps=True)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_request_file_has_its_documented_schema_with_units(result, tmp_path):
    result.write(tmp_path / "a", plots=False, report=False)
    table = pq.read_table(tmp_path / "a" / "requests.parquet")
    assert [(f.name, f.metadata[b"unit"].decode()) for f in table.schema] == [(c.name, c.unit) for c in REQUEST_COLUMNS]
    assert table.num_rows == 400
    tpot = table["tpot_s"].to_pylist()
    assert [value is None for value in tpot] == np.isnan(result.measurement.requests.tpot_s).tolist()
    assert not any(value is not None and np.isnan(value) for value in tpot)
    failed = np.flatnonzero(result.records.table.output_tokens == 0)
    assert {table["status"][int(row)].as_py() for row in failed} == {"failed"}
    assert {table["reason"][int(row)].as_py() for row in failed} == {"failed at source"}
    judged = [value for value in table["slo_met"].to_pylist() if value is not None]
    assert len(judged) == 400 - len(failed) and sum(judged) == result.measurement.slo.met.sum()


def test_the_frame_is_the_file(result, tmp_path):
    result.write(tmp_path / "a", plots=False, report=False)
    stored = Result.read(tmp_path / "a")
    assert stored.requests.equals(result.requests)
    assert stored.summary.equals(result.summary)
    assert stored.summary_dict() == result.summary_dict()
    assert result.summary.loc["ttft_s"].shape == (3, 8)


def test_steps_are_the_spans_written_out(result, tmp_path):
    steps = result.steps
    lane = result.records.lanes[0]
    assert list(steps.columns) == [c.name for c in STEP_COLUMNS]
    assert len(steps) == lane.span_steps.sum()
    assert (steps.end_s > steps.start_s).all() and (steps.start_s[1:].values >= steps.end_s[:-1].values).all()
    result.write(tmp_path / "a", plots=False, report=False, steps=True)
    assert pq.read_table(tmp_path / "a" / "steps.parquet").to_pandas().equals(steps)


def test_context_grows_inside_a_span():
    from simserve.engine.records import LaneLog
    from simserve.report.step_file import step_columns

    def column(*values):
        return np.array(values, dtype=np.int64)

    none = column(0, 0)
    lane = LaneLog(
        0, 0, np.array([1.0, 2.0, 3.0, 9.0]), column(0, 3), column(3, 1), np.array([0.5, 8.0]), column(2, 1),
        column(10, 5), none, none, none,
        column(4, 0), column(1, 0),
    )  # fmt: skip
    steps = step_columns(lane)
    assert steps["context_tokens"].tolist() == [10, 12, 14, 5]
    assert steps["start_s"].tolist() == [0.5, 1.0, 2.0, 8.0]


def test_an_output_that_exists_is_kept(result, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        result.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file of that name"):
        result.write(tmp_path / "file")


def test_a_full_disk_leaves_nothing_that_looks_complete(result, tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if str(target).endswith("requests.parquet"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"requests\.parquet.*No space left"):
        result.write(tmp_path / "a", force=True)
    assert not (tmp_path / "a" / "summary.json").exists() and not list((tmp_path / "a").glob("*.part"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist|not the output"),
        ("{", "cannot be read"),
        ("[]", "not the summary"),
        ('{"latency":1,"throughput":1,"schema_version":99}', "version 99"),
    ],
)
def test_reading_what_is_not_a_result(tmp_path, content, message):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(OutputError, match=message):
        Result.read(tmp_path)


def test_a_run_without_plots_imports_no_heavy_library(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from synthetic import serve, poisson
from simserve.report import Result
light = [m for m in ("pandas", "matplotlib", "jinja2", "scipy", "pyarrow") if m in sys.modules]
Result(serve(*poisson(50, 5))[0], {{}}, {{"ttft_s": 1}}).write({str(tmp_path / "a")!r}, plots=False, report=False)
print(light, [m for m in ("pandas", "matplotlib", "jinja2", "scipy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_summary_is_strict_json(result, tmp_path):
    result.write(tmp_path / "a", plots=False, report=False)
    text = (tmp_path / "a" / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) == result.summary_dict()
