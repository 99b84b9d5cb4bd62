"""Charts of studies: what they hold is what the studies found, what is chosen is what is drawn, and every page has them or a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from simserve.report import charts as report_charts
from simserve.report.charts import Chart
from simserve.study.capacity.charts import charts as capacity_charts
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.page import capacity_page
from simserve.study.capacity.result import CapacityResult
from simserve.study.figure_charts import Figures, scale_of
from simserve.study.placement.charts import charts as placement_charts
from simserve.study.placement.figures import Tried
from simserve.study.placement.page import placement_page
from simserve.study.placement.placement import Placement, Pool
from simserve.study.placement.result import PlacementResult
from simserve.study.plan.charts import charts as plan_charts
from simserve.study.predicate import parse
from simserve.study.sweep.charts import charts as sweep_charts
from simserve.study.sweep.page import sweep_page
from simserve.study.sweep.result import SweepResult
from tests.study.test_plan_page import a_result

NASTY = "</script><script>alert(1)</script>"


def a_sweep(*rows: tuple[str, float, float, float, float]) -> SweepResult:
    """Rows of (policy, load, TTFT p99, TPOT p99, attainment)."""
    table = [
        {
            "point": number, "seed": 0, "a.policy": policy, "a.rate_per_s": load, "status": "ok", "error": None,
            "ttft_p99_s": ttft_s, "tpot_p99_s": tpot_s, "attainment": met,
        }
        for number, (policy, load, ttft_s, tpot_s, met) in enumerate(rows)
    ]  # fmt: skip
    return SweepResult(pd.DataFrame(table), {"name": "s", "keys": ["a.policy", "a.rate_per_s"], "notes": [], "seeds": [0]})


SWEEP = (("fcfs", 1.0, 1.0, 0.04, 1.0), ("fcfs", 2.0, 2.0, 0.03, 0.9), (NASTY, 1.0, 3.0, 0.02, 1.0), (NASTY, 2.0, 3.5, 0.035, 0.5))
"""The last is beaten by the second and the third."""


def a_capacity() -> CapacityResult:
    def probe(seed: int, rate: float, ttft_s: float) -> Probe:
        holds = ttft_s <= 1
        values = {"ttft_p99_s": ttft_s, "tpot_p99_s": 0.01 * rate, "goodput_per_s": rate, "requests_per_s": rate, "arrivals_per_s": rate}
        return Probe(seed, rate, holds, True, () if holds else (f"ttft.p99 <= 1 (found {ttft_s:g})",), dict(values))

    probes = (probe(0, 4.0, 0.5), probe(0, 8.0, 3.0), probe(0, 5.6, 0.9), probe(1, 4.0, 0.6), probe(1, 8.0, 4.0), probe(1, 5.6, 1.2))
    replicates = (Replicate(0, "found", 5.6, 8.0), Replicate(1, "found", 4.0, 5.6))
    return CapacityResult("c", parse("tpot.p99 <= 1 and ttft.p99 <= 1"), "workload.arrivals.rate_per_s", 0.5, replicates, probes)


def a_placement() -> PlacementResult:
    def tried(count: int, low: float | None, high: float, **values: float) -> Tried:
        placement = (
            Placement((Pool("prefill", count, 1, 1), Pool("decode", 1, 1, 1))) if count > 1 else Placement((Pool("mixed", 1, 1, 1),))
        )
        return Tried(placement, low, high, False, 3, "ttft.p90 <= 1 (found 2)", None, dict(values))

    found = (tried(1, 2.0, 2.1, ttft_p99_s=0.9), tried(2, 1.5, 2.0, ttft_p99_s=0.5), tried(3, None, 1.0))
    return PlacementResult("p", parse("ttft.p90 <= 1"), "workload.arrivals.rate_per_s", 0.05, "high", found)


def of_sweep() -> list[Chart]:
    result = a_sweep(*SWEEP)
    return list(sweep_charts(result.by_point, result.shown_keys, {}))


def every() -> Iterator[Chart]:
    yield from of_sweep()
    yield from capacity_charts(a_capacity())
    yield from placement_charts(a_placement(), ["devices", "holds_at", "ttft_p99_s"])
    yield from plan_charts(a_result())


def rows_of(chart: Chart) -> list[dict[str, Any]]:
    return list(chart.spec["data"]["values"])


def value(chart: Chart, name: str, label: str) -> dict[str, Any]:
    """What the option `label` of a choice puts into the specification."""
    choice = next(each for each in chart.choices if each.name == name)
    return dict(next(option.value for option in choice.options if option.label == label))


def test_what_is_chosen_takes_the_place_of_what_asks_for_it() -> None:
    for chart in every():
        assert "@" not in re.sub(r"\"[^\"@]*\"", "", json.dumps(chart.first).replace(NASTY, "")), chart.name
        for choice in chart.choices:
            for option in choice.options:
                assert set(option.value) == set(choice.options[0].value), "each option fills every place"


def test_every_chart_is_drawn_whatever_is_chosen() -> None:
    vl_convert = pytest.importorskip("vl_convert")
    for chart in every():
        for choice in chart.choices or (None,):
            for place in {0, len(choice.options) - 1} if choice else {0}:
                chosen = [each if each is not choice else each._replace(first=place) for each in chart.choices]
                shown = chart._replace(choices=tuple(chosen)).first
                assert vl_convert.vegalite_to_svg({**shown, "width": 500}).startswith("<svg"), (chart.name, place)


def test_the_line_joins_the_points_that_no_other_beats() -> None:
    vl_convert = pytest.importorskip("vl_convert")
    (_, frontier) = of_sweep()
    svg = vl_convert.vegalite_to_svg({**frontier.first, "width": 500})
    (line,) = re.findall(r'class="mark-line[^>]*>.*?<path[^>]*d="([^"]*)"', svg, re.S)
    assert line.count("L") == 2, "three of four points"
    assert value(frontier, "x", "attainment")["cost"].startswith("-"), "of attainment more is better"


def test_a_sweep_is_drawn_along_each_of_its_keys() -> None:
    (along, _) = of_sweep()
    x, by = (next(choice for choice in along.choices if choice.name == name) for name in ("x", "by"))
    assert [option.label for option in x.options] == ["policy", "rate"]
    assert x.options[x.first].value["type"] == "quantitative" and x.options[0].value["type"] == "nominal"
    assert by.options[by.first].label == "policy", "coloured by what is not along the axis"
    assert [row["id"] for row in rows_of(along)] == [0, 1, 2, 3] and rows_of(along)[1]["meets"] == "misses it"


def test_a_capacity_shows_its_bracket_and_the_limit_that_binds() -> None:
    load, frontier = capacity_charts(a_capacity())
    (choice,) = load.choices
    shown = choice.options[choice.first]
    assert shown.label == "TTFT p99, s" and shown.value["bound"] == 1.0, "TPOT stands first in the predicate and never binds"
    brackets = next(layer for layer in load.spec["layer"] if layer["mark"]["type"] == "rect")
    assert brackets["data"]["values"] == [{"low": 5.6, "high": 8.0}, {"low": 4.0, "high": 5.6}]
    answer = next(layer for layer in load.spec["layer"] if layer["mark"]["type"] == "rule")
    assert answer["data"]["values"][0]["load"] == pytest.approx(4.8)
    assert [(row["load"], row["holds"]) for row in rows_of(load)][:3] == [(4.0, "holds"), (4.0, "holds"), (5.6, "holds")]
    assert frontier.item == load.item == "probe-"


def test_a_placement_shows_where_each_holds_and_fails() -> None:
    bars, figures = placement_charts(a_placement(), ["devices", "holds_at", "ttft_p99_s"])
    assert [(row["name"], row.get("low"), row["high"], row["stands"]) for row in rows_of(bars)] == [
        ("mixed tp1", 2.0, 2.1, "best"), ("prefill 2 x tp1 + decode tp1", 1.5, 2.0, "less"),
        ("prefill 3 x tp1 + decode tp1", None, 1.0, "less"),
    ]  # fmt: skip
    assert [row["name"] for row in rows_of(figures)] == ["mixed tp1", "prefill 2 x tp1 + decode tp1"]


def test_figures_that_are_the_same_everywhere_are_no_choice() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 3.0], "c": [float("nan")] * 2, "d": [4.0, 4.0]})
    figures = Figures(table, ["a", "b", "c", "d"], bounds={"d": 5.0})
    assert figures.columns == ["a", "d"] and figures.row(1) == {"f0": 2.0, "f1": 4.0}
    assert scale_of([0.1, 4.0])["type"] == "log" and scale_of([0.0, 4.0])["type"] == scale_of([1.0, 2.0])["type"] == "linear"


@pytest.mark.parametrize("library", [True, False])
def test_pages_have_charts_or_pictures(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_charts, "library", lambda: "window.vegaEmbed = 1;" if library else "")
    pages = {"point": sweep_page(a_sweep(*SWEEP)), "probe": capacity_page(a_capacity()), "placement": placement_page(a_placement())}
    for item, page in pages.items():
        assert NASTY not in page and f'<tr id="{item}-0">' in page, "a point has a row to open"
        assert not re.findall(r'(?:src|href)="(?!data:)', page), "nothing is fetched"
        assert ("data:image/png;base64," in page) is not library and ("vegaEmbed(" in page) is library
        assert ("pip install &#39;simserve[charts]&#39;" in page) is not library


def test_an_empty_sweep_has_a_page() -> None:
    result = a_sweep(*SWEEP)
    result.frame["status"] = "failed"
    page = sweep_page(SweepResult(result.frame.assign(error="it failed"), result.about))
    assert "No run has figures." in page and "vegaEmbed(" not in page
