"""The best points of a sweep meet its SLO, or are said to miss it; points and values keep the names people give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.cli.study_tables import show
from simserve.errors import ConfigError
from simserve.files.yaml_text import dump
from simserve.study.sweep.best import best_points
from simserve.study.sweep.page import sweep_page
from tests.report.offline_page import Page
from tests.study.conftest import BUDGET, RATE, TINY


def _points(**columns: list[Any]) -> Any:
    import pandas as pd

    count = len(next(iter(columns.values())))
    shown = {
        "ttft_p99_s": [0.1] * count,
        "output_tokens_per_s": [1.0] * count,
        "saturated": [0.0] * count,
        "completed_fraction": [1.0] * count,
    }
    return pd.DataFrame({"k": list(range(count)), **shown, **columns})


def _best(points: Any) -> Any:
    return best_points(points, ("k",), {"k": {number: str(number) for number in range(9)}})


def test_the_best_is_among_those_that_meet_the_slo() -> None:
    found = _best(_points(output_tokens_per_s=[100.0, 900.0, 300.0], attainment=[1.0, 0.2, 0.99]))
    (row,) = [row for row in found.rows if row.name == "highest output tokens"]
    assert row.at == ["2"] and row.best == "300 /s" and row.worst == "100 /s" and row.against == ""
    assert found.among == "Of the 2 of 3 points that meet their SLO for 99 % of the requests."


def test_that_none_meets_it_is_said() -> None:
    found = _best(_points(output_tokens_per_s=[100.0, 900.0], attainment=[0.5, 0.2]))
    assert "No point meets its SLO" in found.among and "50.0 %" in found.among
    (row,) = [row for row in found.rows if row.name == "highest output tokens"]
    assert row.at == ["1"] and row.against == "misses its SLO: 20.0 % attained"


def test_without_an_slo_it_is_not_called_good() -> None:
    points = _points(ttft_p99_s=[0.5, 0.01, 0.01], completed_fraction=[1.0, 0.1, 1.0], saturated=[0.0, 1.0, 0.0])
    found = _best(points)
    assert "states no SLO" in found.among
    (row,) = found.rows
    assert row.at == ["1"] and row.ties == 1 and "10.0 % of the requests completed" in row.against and "saturated" in row.against


def test_the_page_shows_it(tiny: dict[str, Any]) -> None:
    tiny["slo"] = {"ttft_s": 0.09}
    page = Page(sweep_page(simserve.sweep(tiny, {RATE: [4.0, 60.0]}, jobs=1)))
    assert "Of the 1 of 2 points that meet their SLO" in page.text
    best = {row[""]: row for row in page.table("best", "worst", "remarks")}
    assert best["highest output tokens"]["rate"] == "4", "the other one has more throughput, and misses its SLO"
    tiny["slo"] = {"ttft_s": 1e-6}
    assert "No point meets its SLO" in Page(sweep_page(simserve.sweep(tiny, {RATE: [4.0, 60.0]}, jobs=1))).text


def test_points_by_name(tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = {"small budget": {BUDGET: 64}, "busy": {BUDGET: 512, RATE: 20.0}}
    result = simserve.sweep(tiny, points=points, jobs=1, out=tmp_path / "s")
    assert result.frame["label"].tolist() == list(points) and result.keys == ("label", BUDGET, RATE) and result.shown_keys == ("label",)
    assert [column for column in result.shown().columns if "." in column] == []
    page = Page(sweep_page(result))
    assert page.table("label", "what it changes")[1]["what it changes"] == f"{BUDGET}=512, {RATE}=20"
    assert [text.get_text() for text in result.plot.by_key("ttft_p99_s")[0].get_xticklabels()] == list(points)
    plain = simserve.sweep(tiny, points=list(points.values()), jobs=1)
    figures = [name for name in plain.frame.columns if name.endswith(("_s", "_fraction"))]
    assert plain.frame[figures].equals(result.frame[figures]), "a name changes no figure"
    file = tmp_path / "named.yaml"
    file.write_text(dump({"experiment": TINY, "points": points}))
    assert main(["sweep", str(file), "--jobs", "1", "--out", str(tmp_path / "f"), "--json", "-q"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in content["rows"]] == list(points) and content["status"] == {"ok": 2}
    assert content["rows"][0]["ttft_p99_s"] == result.frame["ttft_p99_s"][0]


def test_values_by_name(tiny: dict[str, Any]) -> None:
    schedulers = {"chunked": {"policy": "sarathi", "token_budget": 256, "max_seqs": 64}, "whole": {"policy": "orca", "max_seqs": 16}}
    result = simserve.sweep(tiny, {"cluster.instances.0.scheduler": schedulers, RATE: [4.0, 8.0]}, jobs=1)
    assert result.frame["cluster.instances.0.scheduler"].tolist() == ["chunked", "chunked", "whole", "whole"]


def test_a_named_point_that_equals_another_is_named_when_it_is_left_out(tiny: dict[str, Any]) -> None:
    result = simserve.sweep(tiny, points={"a": {BUDGET: 64}, "b": {BUDGET: 64}, "c": {BUDGET: 128}}, jobs=1)
    assert result.frame["label"].tolist() == ["a", "c"] and any("another one: 1 (b)" in note for note in result.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": {"": {BUDGET: 64}}}, "name of a point"),
        ({"points": {"a": 3}}, "points: a: found 3"),
        ({"points": [3]}, "points: 0: found 3"),
        ({"over": {BUDGET: {"a": 64, "b": 64}}}, "'a' and 'b' are the same value"),
        ({"over": {BUDGET: {1: 64}}}, "name of a value"),
        ({"over": {BUDGET: {"low": 1, "hihg": 8}}}, "found a mapping with 'low', 'hihg'"),
        ({"over": {BUDGET: {}}}, "empty mapping"),
    ],
)
def test_names_that_are_none(tiny: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simserve.sweep(tiny, jobs=1, **arguments)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_table_breaks_a_word_or_loses_a_column(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    headings = [
        "placement",
        "devices",
        *(f"{name} {stat}" for name in ("TTFT", "TPOT", "E2E") for stat in ("p50", "p95", "p99")),
        "attainment",
    ]
    rows = [["prefill 2 x tp1 + decode tp1", "3", *["1,234 ms"] * 9, "99.0 %"], ["mixed tp1", "1", *["-"] * 10]]
    show(headings, rows, keys=1, note="and 3 more rows")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.split()}
    assert {word for text in headings for word in text.split()} <= words and "1,234" in words and "prefill" in words
