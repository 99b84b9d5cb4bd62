"""Damaged and odd trace files end in a figure or in one short message: never in a traceback, a library's warning or a wait."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from pathlib import Path

import pytest

from simserve.cli import main
from simserve.errors import SimserveError
from simserve.workload.trace import read_trace, write_trace
from tests.workload.mutants import mutant
from tests.workload.test_round_trips import assert_same


def info(path: Path) -> tuple[int, str]:
    """Exit code and stderr of `simserve trace info`, warnings of libraries as errors."""
    err = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error")
        return main(["trace", "info", str(path)]), err.getvalue()


def ends_well(folder: Path, numbers: range) -> None:
    wrong = []
    for number in numbers:
        name, content = mutant(number)
        path = folder / name
        path.write_bytes(content)
        begin = time.process_time()
        code, err = info(path)
        seconds = time.process_time() - begin
        said = err.replace(str(path), "F")
        fine = code == 0 or (code == 2 and said.startswith("error: ") and len(said) < 1000 and said.count("\n") == 1)
        if not fine or "bug in simserve" in said or "Warning" in said or seconds > 5:
            wrong.append((number, name, code, round(seconds, 1), said[:300]))
    assert wrong == []


def test_a_hundred_mutants_end_well(tmp_path):
    ends_well(tmp_path, range(110))


@pytest.mark.nightly
def test_three_thousand_mutants_end_well(tmp_path):
    ends_well(tmp_path, range(110, 3300))


@pytest.mark.nightly
def test_mutants_that_are_read_survive_being_written(tmp_path):
    read = 0
    for number in range(1100):
        name, content = mutant(number)
        path = tmp_path / name
        path.write_bytes(content)
        try:
            table = read_trace(path)
        except SimserveError:
            continue
        read += 1
        for ending in (".csv", ".jsonl", ".parquet"):
            if not any("\n" in n or "\r" in n for labels in (table.label_model, table.log_type) if labels for n in labels.names):
                assert_same(table, read_trace(write_trace(table, tmp_path / f"out{ending}", overwrite=True)))
    assert read > 200


def test_a_mutant_is_the_same_for_the_same_number():
    assert all(mutant(number) == mutant(number) for number in range(22))


def test_a_gzip_that_expands_without_limit_is_stopped(tmp_path, monkeypatch):
    import gzip

    from simserve.workload import source

    monkeypatch.setattr(source, "_LEAST_EXPANDED_BYTES", 2**20)
    line = b'{"timestamp": 0, "input_length": 5, "output_length": 5}\n'
    bomb = tmp_path / "t.jsonl.gz"
    bomb.write_bytes(gzip.compress(line * 400_000))  # 200 times as large when unpacked
    with pytest.raises(SimserveError, match="expands to more than"):
        read_trace(bomb)
    bomb.write_bytes(gzip.compress(line * 10_000))
    assert len(read_trace(bomb)) == 10_000
