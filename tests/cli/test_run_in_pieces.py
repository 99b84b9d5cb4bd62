"""`simserve run` of more requests than are recorded whole: files as of any run; of an interrupted one the requests written until then."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import simserve
from benchmarks.counted_work import case
from simserve.cli import main
from simserve.cli.signals import TerminatedError
from simserve.report.streamed.spool import RequestSpool


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("simserve.engine.pieces.PIECE_REQUESTS", 20)
    path = tmp_path / "many.yaml"
    path.write_text(json.dumps({**case(1, 200), "stream_above": 100}))
    return path


def test_its_files_are_those_of_any_run(experiment: Path) -> None:
    out = experiment.parent / "out"
    for force in ([], ["--force"]):
        assert main(["run", str(experiment), "--out", str(out), "--quiet", "--no-plots", *force]) == 0
        assert {path.name for path in out.iterdir()} == {"experiment.resolved.yaml", "report.html", "requests.parquet", "summary.json"}
    assert json.loads((out / "summary.json").read_text())["streamed"] == {"quantiles_relative_error": 2.0**-11, "plotted_every": 1}
    assert pq.read_metadata(out / "requests.parquet").num_rows == 200
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml", "out"}


def test_an_interrupted_run_keeps_the_requests_written_until_then(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add, calls = RequestSpool.add, []

    def interrupted(spool: RequestSpool, table: Any) -> None:
        calls.append(len(table))
        if len(calls) == 4:
            raise KeyboardInterrupt
        add(spool, table)

    monkeypatch.setattr(RequestSpool, "add", interrupted)
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--out", str(out), "--quiet"]) == 130
    kept = experiment.parent / "out.interrupted.parquet"
    said = capsys.readouterr().err
    assert str(kept) in said and "no result was written" in said and not out.exists()
    assert pq.read_table(kept).column("request").to_pylist() == list(range(sum(calls[:3])))
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml", kept.name}


@pytest.mark.parametrize("groups", [0, 2])
def test_a_full_disk_leaves_no_file_that_nothing_reads(
    groups: int, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simserve.report.streamed.spool._GROUP_ROWS", 20)
    write, calls = pq.ParquetWriter.write_table, []

    def full(writer: Any, table: Any, **how: Any) -> None:
        calls.append(table)
        if len(calls) > groups:
            raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
        write(writer, table, **how)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--out", str(out), "--quiet"]) == 2
    said = f"error: {out / 'requests.parquet'}: cannot be written: No space left on device; nothing was kept\n"
    assert capsys.readouterr().err == said
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml"}


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_file_without_its_footer_is_not_kept(problem: BaseException, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(writer: Any) -> None:
        raise problem

    monkeypatch.setattr(pq.ParquetWriter, "close", close)
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--out", str(out), "--quiet"]) == (130 if isinstance(problem, KeyboardInterrupt) else 2)
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml"}


def test_requests_are_kept_once_when_a_signal_comes_out_of_the_writer(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs a signal's handler when the C++ that writes a row group has returned: the rows are in the file by then."""
    monkeypatch.setattr("simserve.report.streamed.spool._GROUP_ROWS", 20)
    write, calls = pq.ParquetWriter.write_table, []

    def interrupted(writer: Any, table: Any, **how: Any) -> None:
        calls.append(len(table))
        write(writer, table, **how)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", interrupted)
    assert main(["run", str(experiment), "--out", str(experiment.parent / "out"), "--quiet"]) == 130
    kept = pq.read_table(experiment.parent / "out.interrupted.parquet").column("request").to_pylist()
    assert len(calls) == 3 and kept == list(range(sum(calls)))


ALL_BUT_PLOTS = {"experiment.resolved.yaml", "requests.parquet", "summary.json"}


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: "),
        (TerminatedError(143), 143, "terminated: "),
        (OSError(errno.ENOSPC, "full"), 2, "error: the disk is full: cannot write; "),
    ],
)
def test_what_comes_while_plots_are_drawn_leaves_the_result(
    problem: BaseException, code: int, said: str, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise problem

    monkeypatch.setattr("simserve.report.page.pictures", interrupted)
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--out", str(out), "--quiet"]) == code
    assert capsys.readouterr().err == f"{said}the result is in {out}, without plots and report\n"
    assert {path.name for path in out.iterdir()} == ALL_BUT_PLOTS
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml", "out"}
    monkeypatch.undo()
    assert main(["report", str(out), "--quiet"]) == 0
    assert pq.read_metadata(out / "requests.parquet").num_rows == 200


def test_requests_are_kept_when_a_signal_comes_after_they_were_moved(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simserve.report.files.write_json", interrupted)
    assert main(["run", str(experiment), "--out", str(experiment.parent / "out"), "--quiet"]) == 130
    assert {path.name for path in experiment.parent.iterdir()} == {"many.yaml", "out.interrupted.parquet"}
    assert pq.read_metadata(experiment.parent / "out.interrupted.parquet").num_rows == 200


def test_a_report_of_stored_files_says_of_which_requests_its_plots_are(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of the run, and those drawn anew from as many requests of the file, in memory of these alone."""
    monkeypatch.setattr("simserve.report.streamed.spool._SAMPLE_ROWS", 30)
    out = experiment.parent / "out"
    assert main(["run", str(experiment), "--out", str(out), "--quiet"]) == 0
    stored = simserve.Result.read(out)
    assert stored.plot.requests["request"].tolist() == list(range(0, 200, 8))
    note = "Drawn from every 8th request. Plots of steps and single tokens need a run that is recorded whole (stream_above)."
    for _ in range(2):
        assert main(["report", str(out), "--quiet"]) == 0
        assert note in (out / "report.html").read_text()
        shutil.rmtree(out / "plots", ignore_errors=True)
