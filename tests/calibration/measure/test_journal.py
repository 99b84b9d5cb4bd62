"""A journal survives whatever stops a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.calibration.measure.journal import Journal
from simserve.errors import ConfigError, OutputError

MACHINE = {"device": "cpu", "torch": "2"}


def test_a_cut_line_is_dropped_and_written_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path, MACHINE)
    journal.add("a", {"status": "ok"})
    journal.add("b", {"status": "ok"})
    journal.close()
    content = journal.path.read_bytes()
    for cut in range(1, len(content.splitlines(keepends=True)[-1])):  # wherever the crash came
        journal.path.write_bytes(content[:-cut])
        resumed = Journal(tmp_path, MACHINE)
        assert list(resumed.records) == ["a"]
        resumed.add("b", {"status": "ok"})
        resumed.close()
        assert journal.path.read_bytes() == content


def test_a_cut_first_line_is_an_empty_journal(tmp_path: Path) -> None:
    Journal(tmp_path, MACHINE).close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    Journal(tmp_path, MACHINE).close()
    assert Journal(tmp_path, MACHINE).records == {}


def test_another_machine_or_a_broken_file_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, MACHINE).close()
    with pytest.raises(ConfigError, match=r"measured with device 'cpu', this is 'NVIDIA H200'.*--out"):
        Journal(tmp_path, MACHINE | {"device": "NVIDIA H200"})
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"\x00garbage\n")
    with pytest.raises(ConfigError, match="line 2"):
        Journal(tmp_path, MACHINE)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "file" / "below", MACHINE)
