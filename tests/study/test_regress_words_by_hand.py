"""What a suite's report says, line by line, of rows made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simserve.errors import ConfigError
from simserve.study.predicate import parse_quantity
from simserve.study.regress.baseline import Baseline
from simserve.study.regress.check import _rows
from simserve.study.regress.report import RegressReport
from simserve.study.regress.suite import Kpi
from simserve.study.regress.verdict import Row


def kpi(name: str = "ttft.p99", tolerance: float = 0.05, relative: bool = True) -> Kpi:
    return Kpi(parse_quantity(name), tolerance, relative, "higher")


def row(
    verdict: Any = "pass", case: str = "c", change: float | None = 0.0, low: float | None = 0.0, high: float | None = 0.0, **more: Any
) -> Row:
    of, note = more.get("kpi", kpi()), more.get("note", "")
    return Row(case, of, more.get("before", 0.5), more.get("now", 0.25), change, low, high, verdict, note)


def report(*rows: Row, seeds: int = 3, **changes: Any) -> RegressReport:
    suite: Any = SimpleNamespace(name="gate", seeds=tuple(range(seeds)))
    fields: dict[str, Any] = {"errors": {}, "new": (), "notes": (), "updated": False, **changes}
    return RegressReport(suite, rows, **fields)


@pytest.mark.parametrize(
    ("rows", "changes", "line"),
    [
        ((row(),), {}, "gate: no regression. 1 in its band (1 case, 3 paired seeds)"),
        ((row(), row(case="d")), {"seeds": 1}, "gate: no regression. 2 in its band (2 cases, 1 paired seed)"),
        ((row("unclear"), row()), {}, "gate: no regression shown. 1 unclear, 1 in its band (1 case, 3 paired seeds)"),
        ((row("better"),), {}, "gate: no regression. 1 better (1 case, 3 paired seeds)"),
        ((row("pass"), row("fail"), row("fail")), {}, "gate: REGRESSION. 2 worse, 1 in its band (1 case, 3 paired seeds)"),
        ((row(),), {"errors": {"e": "x"}}, "gate: REGRESSION. 1 case could not be run, 1 in its band (2 cases, 3 paired seeds)"),
        ((row(),), {"errors": {"c": "x", "e": "y"}}, "gate: REGRESSION. 2 cases could not be run, 1 in its band (2 cases, 3 paired seeds)"),
        ((row("fail"),), {"updated": True}, "gate: baselines recorded. 1 worse (1 case, 3 paired seeds)"),
        ((), {"updated": True, "new": ("a", "b")}, "gate: baselines recorded. 2 cases new (2 cases, 3 paired seeds)"),
    ],
)
def test_the_outcome_in_a_line(rows: tuple[Row, ...], changes: dict[str, Any], line: str) -> None:
    assert report(*rows, **changes).headline == line


def test_when_the_gate_closes() -> None:
    good, bad, broken = report(row("unclear")), report(row(), row("fail")), report(row(), errors={"e": "x"})
    assert (good.ok, bad.ok, broken.ok) == (True, False, False)
    assert (good.exit_code, bad.exit_code, broken.exit_code) == (0, 1, 1)
    assert report(row("fail"), errors={"e": "x"}, updated=True).exit_code == 0, "the baselines are what was asked for"
    assert bad.failures == (bad.rows[1],)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (row(), "equal"),
        (row(change=0.1, low=0.1, high=0.1), "+10.0 %"),
        (row(change=-0.1, low=-0.2, high=0.04), "-10.0 % (-20.0 to +4.0)"),
        (row(change=0.0, low=-0.2, high=0.04), "+0.0 % (-20.0 to +4.0)"),
        (row(change=0.0, low=0.0, high=0.04), "+0.0 % (+0.0 to +4.0)"),
        (row(change=1.2345, low=1.2345, high=1.2345, kpi=kpi(relative=False)), "+1.23"),
        (row(change=1.0, low=-2.0, high=4.5678, kpi=kpi(relative=False)), "+1 (-2 to +4.57)"),
        (row(change=None, low=None, high=None, note="not defined"), "not defined"),
        (row(change=0.1, low=None, high=0.1, note="half"), "half"),
        (row(change=0.1, low=0.1, high=None, note="half"), "half"),
    ],
)
def test_a_change_and_its_interval(row: Row, change: str) -> None:
    assert report(row).cells(row)[4] == change


@pytest.mark.parametrize(
    ("figure", "before", "text"),
    [
        ("ttft.p99", 0.5, "500.0 ms"), ("normalized_latency.p50", 0.02, "20.0 ms"), ("throughput.output_tokens", 1234.0, "1,234"),
        ("completed", 0.5, "0.5"), ("ttft.p99", None, "–"),
    ],
)  # fmt: skip
def test_seconds_are_shown_as_milliseconds_and_rates_as_numbers(figure: str, before: float | None, text: str) -> None:
    line = row(kpi=kpi(figure), before=before)
    assert report(line).cells(line)[1:3] == (figure, text)


def test_what_needs_eyes_comes_first_and_the_rest_is_folded_away() -> None:
    rows = [row(verdict, case=f"{verdict}|{k}") for k, verdict in enumerate(["pass", "better", "fail", "unclear", "pass"])]
    found = report(*rows, errors={"e": "it broke"}, notes=("a note",))
    assert [each.verdict for each in found.sorted_rows()] == ["fail", "unclear", "better", "pass", "pass"]
    assert found.text().splitlines()[1:] == [
        "  e: could not be run: it broke",
        "  worse    fail|2 ttft.p99: 500.0 ms -> 250.0 ms, equal (allowed +5 %)",
        "  unclear  unclear|3 ttft.p99: 500.0 ms -> 250.0 ms, equal (allowed +5 %)",
        "  better   better|1 ttft.p99: 500.0 ms -> 250.0 ms, equal (allowed +5 %)",
        "  ! a note",
    ]
    assert len(found.text(every=True).splitlines()) == len(found.text().splitlines()) + 2
    lines = found.markdown().splitlines()
    assert lines[0] == f"### ❌ {found.headline}" and "- **e** could not be run: it broke" in lines and "- a note" in lines
    head = lines.index("| case | figure | before | now | change | allowed | |")
    assert lines[head + 2].startswith("| fail\\|2 | ttft.p99 | 500.0 ms | 250.0 ms | equal | ")
    assert "<details><summary>2 figures in their bands</summary>" in lines and len([x for x in lines if x.startswith("| case")]) == 2
    assert "with its 95 % confidence interval" in lines[-1] and "one seed tells nothing" in report(row(), seeds=1).markdown()
    assert report(row()).markdown().startswith("### ✅ ") and report(row(), updated=True).markdown().startswith("### 📝 ")
    assert report(row()).markdown().count("| case |") == report(row("fail")).markdown().count("| case |") == 1


def test_machines_read_the_interval_or_none() -> None:
    told = report(row(change=0.1, low=0.0, high=0.2), row(change=None, low=None, high=None)).as_dict()
    assert [each["interval"] for each in told["rows"]] == [[0.0, 0.2], None]
    assert told["seeds"] == [0, 1, 2] and told["ok"] is True and told["schema_version"] == 1


# ---- which figures are compared ----


def compared(
    recorded: dict[str, list[float]], before: tuple[int, ...], now: tuple[int, ...] = (3, 5, 7)
) -> list[tuple[str, float | None, float | None]]:
    suite: Any = SimpleNamespace(seeds=now, kpis=(kpi("ttft.p99"), kpi("e2e.p99")), strict=False)
    baseline: Any = SimpleNamespace(seeds=before, figures={"c": recorded})
    figures: Any = {"c": {"ttft.p99": [1.0, 2.0, 3.0], "e2e.p99": [4.0, 5.0, 6.0]}, "new": {"ttft.p99": [1.0] * 3, "e2e.p99": [1.0] * 3}}
    return [(each.kpi.quantity.text, each.before, each.now) for each in _rows(suite, baseline, figures)]


def test_runs_are_paired_by_their_seeds() -> None:
    """Of seeds 3, 5 and 7 the baseline has 7 and 3, in that order; a figure that it has not recorded is not judged, nor is a new case."""
    assert compared({"ttft.p99": [30.0, 9.0, 10.0]}, (7, 9, 3)) == [("ttft.p99", (30.0 + 10.0) / 2, (3.0 + 1.0) / 2)]
    assert compared({"ttft.p99": [30.0], "e2e.p99": [60.0]}, (5,)) == [("ttft.p99", 30.0, 2.0), ("e2e.p99", 60.0, 5.0)]
    assert compared({"ttft.p99": [30.0]}, (8,)) == [], "no seed in common"
    assert _rows(SimpleNamespace(seeds=(0,), kpis=()), None, {"c": {}}) == []  # type: ignore[arg-type]


# ---- files ----


def test_a_baseline_that_cannot_be_read(tmp_path: Path) -> None:
    assert Baseline.read(tmp_path / "none.json") is None
    with pytest.raises(ConfigError, match="cannot be read as a baseline"):
        Baseline.read(tmp_path)
    for text, words in (
        ("{", "cannot be read as a baseline"), ("[]", "is not a baseline file"), ('{"cases": []}', "is not a baseline file"),
        ('{"cases": {}, "schema_version": 2}', "has schema version 2, this simserve reads 1"),
        ('{"cases": {}, "schema_version": 1}', "a damaged baseline file"),
        ('{"cases": {"c": {}}, "schema_version": 1, "simserve_version": "1", "seeds": [1]}', "a damaged baseline file"),
    ):  # fmt: skip
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(ConfigError, match=words):
            Baseline.read(tmp_path / "b.json")
    kept = Baseline("0.1", (3, 5), {"c": {"model": "m"}}, {"c": {"ttft.p99": [1.0, None]}})
    kept.write(tmp_path / "b.json", "gate")
    assert Baseline.read(tmp_path / "b.json") == kept
