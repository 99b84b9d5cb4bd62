"""The page of a plan search: whole without a network, its charts and tables from the result, safe with any name of a plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from simserve.cli import main
from simserve.report import charts as report_charts
from simserve.study.plan.charts import charts
from simserve.study.plan.figures import Ends, Fate, Outcome, Verification
from simserve.study.plan.page import plan_page
from simserve.study.plan.result import PlanResult
from simserve.study.predicate import parse

NASTY = "2 x </script><script>alert(1)</script>"


def a_result(name: str = "tp1") -> PlanResult:
    ends = {"ttft_p99_s": Ends(0.5, 0.45, 0.55, (0.2, 1.3))}
    verification = Verification((1, 2), ends, (), ("ttft.p99 <= 1 (found 0.5, 0.2 to 1.3)",), "estimate", "estimate, of nothing")
    pools = ({"role": "mixed", "count": 2, "tp": 1, "pp": 1, "dp": 1, "ep": 1},)
    figures = {"ttft_p99_s": 0.5, "usd_per_million_output_tokens": 0.2, "kwh_per_million_output_tokens": 0.05}
    best = Outcome(name, "h100-sxm-80gb", pools, 2, 6.98, Fate.VERIFIED, "", 0.7, figures, 1.0, verification)
    lost = Outcome("tp2", "h100-sxm-80gb", pools, 2, 3.0, Fate.FAILED, "ttft.p99 <= 1 (found 3)", 0.9, {"ttft_p99_s": 3.0}, 1.0)
    busy = Outcome("tp4", "h100-sxm-80gb", pools, 1, 2.0, Fate.OVERLOADED, "overloaded: the load keeps 2 busy", 2.0)
    return PlanResult("chat", parse("ttft.p99 <= 1"), (busy, lost, best), 12, 1200, 100, {"as_of": "2026-01-01", "devices": {}})


def test_the_page_holds_its_charts_tables_and_details() -> None:
    page = plan_page(a_result())
    assert '<p class="small">3 plans, 1 of them eliminated by bounds; 12 runs' in page
    assert "500.0 ms (200.0 ms to 1,300 ms; 80 %, with the model&#39;s own error)" in page and "inside its error" in page
    assert 'id="plan-2" open' in page, "the answer is open"
    library = report_charts.library()
    assert not re.findall(r'(?:src|href)="(?!data:)', page.replace(library, "") if library else page), "nothing is fetched"
    if library:
        assert "vegaEmbed(" in page and len(page) < 2_000_000


def test_a_name_cannot_end_the_script_that_holds_it() -> None:
    page = plan_page(a_result(NASTY))
    assert NASTY not in page


def test_charts_say_what_the_result_says() -> None:
    pareto, busy = charts(a_result())
    rows = pareto.spec["data"]["values"]
    assert {row["plan"] for row in rows} == {"tp1", "tp2"}, "what was not simulated has no figures"
    (choice,) = pareto.choices
    ttft = next(option.value for option in choice.options if option.label == "TTFT p99, s")
    assert choice.options[choice.first].value is ttft, "the limited figure is shown first"
    best = next(row for row in rows if row["plan"] == "tp1")
    assert (best["cost"], best["front"], best["says"]) == (6.98, True, "meets the SLO")
    assert [best[ttft[end]] for end in ("field", "low", "high")] == [0.5, 0.2, 1.3] and ttft["bound"] == 1.0
    assert {row["busy"] for row in busy.spec["data"]["values"]} == {0.7, 0.9, 2.0}
    assert json.loads(pareto.json.replace("<\\/", "</"))["spec"] == pareto.spec


def test_without_the_library_the_page_has_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simserve.report.charts.library", lambda: "")
    page = plan_page(a_result())
    assert "data:image/png;base64," in page and "pip install &#39;simserve[charts]&#39;" in page and "vegaEmbed" not in page


def test_a_search_without_an_answer_has_a_page() -> None:
    result = replace(a_result(), outcomes=a_result().outcomes[:1])
    page = plan_page(result)
    assert "No plan within the budget meets" in page and "overloaded" in page


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_result().write(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().count("<details") == 3
