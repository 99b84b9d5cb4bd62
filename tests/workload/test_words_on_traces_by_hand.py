"""What `simserve trace info` says of a table of a few requests: every line, and how numbers are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.errors import OutputError
from simserve.workload.report import _duration, _facts, _number, print_statistics
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable
from simserve.workload.statistics import trace_statistics
from simserve.workload.trace import read_trace, write_trace


def facts(table: RequestTable, **provenance: Any) -> dict[str, str]:
    return dict(_facts(trace_statistics(table), provenance))


def a_table(arrival_s: list[float], prompt: list[int], output: list[int], **columns: Any) -> RequestTable:
    return RequestTable.build(np.array(arrival_s), np.array(prompt), np.array(output), **columns)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"), (1.5, "1.5 s"), (119.0, "119 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h"), (172_799.0, "48 h"),
        (172_800.0, "2 d"), (864_000.0, "10 d"),
    ],
)  # fmt: skip
def test_a_unit_is_used_from_two_of_it_on(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3.0, "3"), (-4.0, "-4"), (1234.0, "1,234"), (9_999_999.0, "9,999,999"), (1e7, "10,000,000"), (999.94, "999.9"),
        (1000.4, "1,000"), (-1234.6, "-1,235"), (10.04, "10.0"), (9.996, "10"), (0.12345, "0.123"), (-12.34, "-12.3"),
    ],
)  # fmt: skip
def test_numbers_keep_what_matters(value: float, text: str) -> None:
    assert _number(value) == text


def test_the_lines_of_a_small_trace() -> None:
    table = a_table(
        [0.0, 1.0, 4.0, 9.0], [10, 20, 30, 40], [4, 3, 2, 0], session=np.array([1, 1, 2, -1]), log_type=Labels.of(["a", "b", "a", "a"]),
        prefix=PrefixBlocks(np.array([0, 1, 3, 6, 6]), np.array([1, 1, 2, 1, 2, 3]), 10),
    )  # fmt: skip
    found = facts(table, file="t.csv", read_as={"summary": "csv", "told_by": ["x", "y"]}, columns_not_used=["p", "q"], notes=["a note"])
    assert found == {
        "file": "t.csv",
        "read as": "csv",
        "told by": "x; y",
        "requests": "4, 1 failed (25.00 %)",
        "arrivals": "0.3333/s on average over 9 s; busiest minute 4 requests",
        "gap CV": f"{np.std([1, 3, 5]) / 3:.3g} (Poisson: 1)",
        "log types": "a 3, b 1",
        "prompt-output correlation": "-1.00",
        "sessions": "2 with 3 requests; 50 % of one turn",
        "prefix reuse": "50.0 % of 6 blocks of 10 tokens (50.0 % of prompt tokens) with an infinite cache",
        "not used": "p, q",
        "note": "a note",
    }


def test_what_is_not_there_has_no_line() -> None:
    found = facts(a_table([0.0], [10], [4]))
    assert found == {
        "file": "-", "read as": "-", "requests": "1, 0 failed (0.00 %)", "arrivals": "- over 0 s; busiest minute 1 requests",
    }  # fmt: skip
    waiting = facts(a_table([0.0, 7.0], [10, 10], [4, 4], session=np.array([1, 1]), after=np.array([-1, 0])))
    assert waiting["wait for another"] == "1" and waiting["sessions"] == "1 with 2 requests; 0 % of one turn"
    alone = facts(a_table([0.0, 1.0], [10, 10], [4, 4], session=np.array([3, 7])))
    assert alone["sessions"] == "2 with 2 requests; 100 % of one turn"
    lengths = a_table([0.0, 0.0], [10, 20], [4, 4], provenance={"has_arrivals": False})
    assert facts(lengths)["arrivals"] == "none (lengths only)"
    assert facts(a_table([], [], []))["requests"] == "0, 0 failed (0.00 %)"
    classes = a_table([0.0], [1], [1], slo_class=Labels.of(["chat"]), label_model=Labels.of(["GPT-4"]))
    assert facts(classes)["SLO classes"] == "chat 1" and facts(classes)["models"] == "GPT-4 1"


def test_dispersion_at_the_scales_that_are_known() -> None:
    clumped = a_table(np.repeat(np.arange(0.0, 110.0, 10.0), 5).tolist(), [1] * 55, [1] * 55)
    assert facts(clumped)["dispersion"] == "4.5 at 1 s, 0 at 10 s (Poisson: 1)"


def test_the_table_of_lengths(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = a_table([0.0, 1.0, 4.0], [10, 20, 60], [4, 3, 2], session=np.array([1, 1, 2]))
    print_statistics(trace_statistics(table), {"file": "[t].csv"}, as_json=False)
    shown = capsys.readouterr().out
    assert "[t].csv" in shown, "names are text, not markup"
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip() and not line.startswith(" ")}
    assert rows["mean"] == ["30", "3", "2", "1.5", "1", "10"] and rows["max"] == ["60", "4", "3", "2", "1", "10"]
    assert rows["p50"] == ["20", "3", "2", "1.5", "1", "10"] and set(rows) >= {"sd", "min", "p5", "p25", "p75", "p90", "p95", "p99"}
    (head,) = (line.split("  ") for line in shown.splitlines() if "prompt tokens" in line and "arrival gap" in line)
    titles = [word.strip() for word in head if word.strip()]
    assert titles == ["prompt tokens", "output tokens", "arrival gap, s", "turns", "turn gap, s", "prompt growth"]
    waiting = a_table([0.0, 7.0], [10, 10], [4, 4], session=np.array([1, 1]), after=np.array([-1, 0]))
    print_statistics(trace_statistics(waiting), {}, as_json=False)
    assert "think time, s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "schema", "written"),
    [
        ("a.csv", "simserve", True), ("a.csv.gz", "simserve", True), ("a.b.jsonl", "simserve", True), ("a.jsonl.gz", "simserve", True),
        ("a.parquet", "simserve", True), ("a.csv", "burstgpt", True), ("a.csv.gz", "burstgpt", True), ("a.jsonl", "burstgpt", False),
        ("a.parquet", "burstgpt", False), ("a.parquet.gz", "simserve", False), ("a.gz", "simserve", False), ("a", "simserve", False),
        ("a.txt", "simserve", False), ("a.csv.zip", "simserve", False),
    ],
)  # fmt: skip
def test_endings_that_a_trace_may_have(name: str, schema: Any, written: bool, tmp_path: Path) -> None:
    table = a_table([0.0, 1.0], [10, 20], [4, 3])
    if written:
        path = write_trace(table, tmp_path / name, schema=schema)
        assert read_trace(path).prompt_tokens.tolist() == [10, 20]
        assert (path.read_bytes()[:2] == b"\x1f\x8b") == (path.suffix == ".gz")
        with pytest.raises(OutputError, match="exists already"):
            write_trace(table, path, schema=schema)
        write_trace(table, path, schema=schema, overwrite=True)
    else:
        with pytest.raises(OutputError, match=f"the ending of a trace in the {schema} schema"):
            write_trace(table, tmp_path / name, schema=schema)
    assert [path.name for path in tmp_path.iterdir()] == ([name] if written else [])


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "nowhere"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_trace(a_table([0.0], [10], [4]), tmp_path / folder / "t.csv")
