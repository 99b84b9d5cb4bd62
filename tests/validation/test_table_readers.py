"""Tables of measured runs are read by readers that the user brings: a module named on the command line, or readers given in Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import results
from builders import case

from simserve.cli import main
from simserve.errors import ConfigError
from simserve.validation.readers import TableReader, read_measurements, readers_of
from simserve.validation.validate import validate_serving
from tests.docs.blocks import ROOT, blocks

(EXAMPLE,) = [block.text for block in blocks(ROOT / "docs" / "serving-validation.md") if block.language == "python"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    pd.DataFrame({"users": [2, 4], "day": ["a", "b"], "prompt": 256, "answer": 16, "tpot_ms": [8.0, 9.0]}).to_parquet(
        folder / "mine.parquet"
    )
    return folder


def test_the_module_on_the_page_plugs_its_readers_in_from_the_working_directory(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_readers.py").write_text(EXAMPLE)
    monkeypatch.chdir(tmp_path)
    assert main(["validate", "serving", str(runs), "--readers", "my_readers", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(g["dataset"], g["metric"], g["rows"]) for g in groups] == [("mine", "tpot_mean", 2)]
    assert main(["fit-engine", str(runs), "--readers", "my_readers", "--engine", "vllm-v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2


def test_the_first_reader_whose_columns_are_there_reads(runs: Path) -> None:
    other = TableReader("another", frozenset({"users", "energy"}), lambda table, dataset: [case(label="another")])
    mine = TableReader("mine", frozenset({"users"}), lambda table, dataset: [case(label=dataset)])
    assert [c.label for c in read_measurements(runs, readers=[other, mine]).cases] == ["mine"]
    result = validate_serving(runs, readers=[mine])
    assert [o.case.label for o in result.outcomes] == ["mine"] and result.outcomes[0].predicted


def test_without_a_reader_the_message_says_where_readers_are(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "serving", str(runs)]) == 2
    said = capsys.readouterr().err
    assert "no reader for a table with the columns users, day, prompt" in said and "--readers benchmarks.measured_runs" in said
    assert main(["fit-engine", str(runs), "--engine", "vllm-v1"]) == 2
    assert "--readers benchmarks.measured_runs" in capsys.readouterr().err


def test_tables_beside_results_of_load_generators_are_told_and_the_results_judged(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "good.json").write_text(json.dumps(results.vllm()))
    assert main(["validate", "serving", str(runs), "--hardware", "h100-sxm-80gb", "--engine", "vllm-v1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert set(document["unreadable_files"]) == {"mine.parquet"} and sum(g["rows"] for g in document["groups"]) > 0


def test_an_installed_simserve_says_that_the_bundled_readers_are_in_a_checkout(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "benchmarks.measured_runs", raising=False)
    assert main(["validate", "serving", str(runs), "--readers", "benchmarks.measured_runs"]) == 2
    said = capsys.readouterr().err
    assert "cannot be imported" in said and "checkout" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise RuntimeError('not today')", "cannot be imported .RuntimeError: not today"),
        ("", "must list its readers as TABLES"),
        ("TABLES = []", "must list its readers as TABLES"),
        ("TABLES = ['per_request']", "must list its readers as TABLES"),
    ],
)
def test_a_module_that_lists_no_readers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    name = f"readers_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        readers_of(name)
    with pytest.raises(ConfigError, match="cannot be imported"):
        readers_of("no_such_module")


def test_a_reader_that_raises_is_named_with_the_file(runs: Path) -> None:
    def broken(table: pd.DataFrame, dataset: str) -> list:  # type: ignore[type-arg]
        return [table["price"]]

    with pytest.raises(ConfigError, match=r"mine.parquet: not a sound table .*\(prices: KeyError: 'price'\)"):
        read_measurements(runs, readers=[TableReader("prices", frozenset({"users"}), broken)])
