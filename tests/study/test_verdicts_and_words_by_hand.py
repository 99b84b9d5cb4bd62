"""Verdicts at the edges of their bands, notes at their thresholds, and how figures of studies are written: by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simserve.errors import ConfigError
from simserve.study.cache import RunCache
from simserve.study.caveats import Run, at_an_end, losses, rare, served, unmeasured, unsteady
from simserve.study.cells import Cell, breakable, cell, cells, figure, headings, in_order, texts
from simserve.study.labels import short, title, title_with_unit
from simserve.study.predicate import parse
from simserve.study.prepare import seeds_from
from simserve.study.quantities import SOME_RUNS, Quantity, _weighted_quantile, quantity, standard
from simserve.study.regress.suite import Kpi
from simserve.study.regress.verdict import judge
from simserve.study.sweep.best import best_points
from simserve.study.sweep.grid import crossed, wide_seconds
from simserve.study.sweep.table import Rows
from tests.frozen import changeable

TTFT = parse("ttft.p99 <= 1").quantities[0]


def kpi(worse: str = "higher", tolerance: float = 0.1, relative: bool = True) -> Kpi:
    return Kpi(quantity=TTFT, worse=worse, tolerance=tolerance, relative=relative)  # type: ignore[arg-type]


# ---- has a figure become worse? ----


@pytest.mark.parametrize(
    ("worse", "now", "verdict"),
    [
        ("higher", 1.1, "pass"), ("higher", 1.11, "fail"), ("higher", 0.91, "pass"), ("higher", 0.89, "better"),
        ("lower", 0.9, "pass"), ("lower", 0.89, "fail"), ("lower", 1.11, "better"), ("lower", 1.0, "pass"),
        ("any", 1.11, "fail"), ("any", 0.89, "fail"), ("any", 1.0, "pass"), ("any", 0.91, "pass"),
    ],
)  # fmt: skip
def test_one_seed_is_judged_by_its_difference(worse: str, now: float, verdict: str) -> None:
    """A tolerance of 10 %: a change of exactly that is allowed. (Absolute, so that 0.1 is 0.1.)"""
    row = judge("case", kpi(worse, 0.1 + 1e-12, relative=False), [1.0], [now], strict=False)
    assert row.verdict == verdict and row.change == row.low == row.high == pytest.approx(now - 1)
    assert (row.before, row.now) == (1.0, now)


@pytest.mark.parametrize(
    ("now", "strict", "verdict"),
    [([2.3, 2.3], False, "fail"), ([2.1, 2.9], False, "unclear"), ([2.1, 2.9], True, "fail"),
     ([2.0, 2.0], True, "pass"), ([1.5, 1.5], True, "better")],
)  # fmt: skip
def test_several_seeds_are_judged_by_their_interval(now: list[float], strict: bool, verdict: str) -> None:
    assert judge("case", kpi(), [2.0, 2.0], now, strict).verdict == verdict


def test_relative_changes_are_means_of_logarithms() -> None:
    """Doubled and halved is no change; as fractions of the mean the same differences would be a quarter."""
    row = judge("case", kpi(), [1.0, 2.0], [2.0, 1.0], strict=False)
    assert row.change == pytest.approx(0.0) and row.verdict == "unclear"
    assert judge("case", kpi(), [1.0, 4.0], [2.0, 8.0], strict=False).change == pytest.approx(1.0)
    assert judge("case", kpi(), [-1.0, 5.0], [1.0, 5.0], strict=False).change == pytest.approx(0.5), "2 and 0 of a mean of 2"


def test_figures_that_are_not_defined() -> None:
    assert judge("case", kpi(), [None, None], [None, None], False).verdict == "pass"
    assert judge("case", kpi(), [None, 1.0], [None, 5.0], False).verdict == "pass", "for the same seeds as before"
    lost = judge("case", kpi(), [1.0, 3.0], [None, 3.0], False)
    assert (lost.verdict, lost.before, lost.now, lost.change) == ("fail", 2.0, 3.0, None) and "some seeds now" in lost.note
    assert "in the baseline" in judge("case", kpi(), [None, 3.0], [1.0, 3.0], False).note


@pytest.mark.parametrize(
    ("worse", "now", "verdict"),
    [("higher", 1.0, "fail"), ("higher", -1.0, "better"), ("lower", 1.0, "better"), ("lower", -1.0, "fail"), ("any", -1.0, "fail")],
)
def test_a_share_of_nothing_allows_nothing(worse: str, now: float, verdict: str) -> None:
    row = judge("case", kpi(worse), [0.0], [now], False)
    assert row.verdict == verdict and row.before == 0.0 and "state an absolute one" in row.note
    assert judge("case", kpi(worse), [0.0], [0.0], False).verdict == "pass"
    assert judge("case", kpi(worse, 2.0, relative=False), [0.0], [now], False).verdict == "pass"


def test_a_ratio_beyond_every_float_is_infinitely_worse() -> None:
    assert judge("case", kpi(), [1e-200], [1e200], False).change == math.inf


# ---- what a reader must know ----


@pytest.mark.parametrize(("requests", "said"), [(1000, False), (999, True)])
def test_ten_requests_beyond_a_percentile_are_enough(requests: float, said: bool) -> None:
    values = {"measured_requests": requests, "requests": 5 * requests}
    assert bool(rare(values, (TTFT,))) == said
    assert rare(values, (quantity("ttft", "mean"), quantity("itl", "p99"), quantity("goodput"))) == []
    tenth = rare({"measured_requests": 5000.0}, (quantity("ttft", "p99_9"),))
    assert tenth == ["ttft.p99_9 rests on about 5 of 5,000 requests: use more requests"]


@pytest.mark.parametrize(("period_s", "said"), [(20.0, False), (19.9, True)])
def test_releases_last_ten_times_the_median_request(period_s: float, said: bool) -> None:
    assert bool(unsteady({"arrival_period_s": period_s, "e2e_p50_s": 2.0})) == said
    assert unsteady({"arrival_period_s": None, "e2e_p50_s": 2.0}) == unsteady({"arrival_period_s": 1.0}) == []


def test_nobody_measured_is_said_unless_all_were_refused() -> None:
    values: dict[str, float | None] = {"requests": 10.0, "measured_requests": 0.0, "rejected": 6.0, "failed": 3.0}
    assert len(unmeasured(values, "2 requests/s")) == 1 and "2 requests/s" in unmeasured(values, "2 requests/s")[0]
    assert unmeasured({**values, "failed": 4.0}, "") == [] and unmeasured({**values, "measured_requests": 1.0}, "") == []
    assert unmeasured({**values, "requests": None}, "") == []


def test_no_other_load_says_more_when_all_or_none_met() -> None:
    values: dict[str, float | None] = {"requests": 10.0, "rejected": 2.0, "failed_in_trace": 1.0, "in_system_max": 7.0}
    assert served(values) == 7.0 and served({"requests": None}) is None
    assert at_an_end(values, True) and not at_an_end({**values, "in_system_max": 6.0}, True) and not at_an_end(values, False)
    assert at_an_end({**values, "in_system_max": 1.0}, False) and not at_an_end({**values, "in_system_max": 2.0}, False)
    assert not at_an_end({"requests": 10.0}, True) and not at_an_end({"in_system_max": 1.0}, False)


def test_losses_that_no_predicate_has_seen() -> None:
    def run(holds: bool, fraction: float, **values: float) -> Run:
        return Run(0, holds, {"requests": 100.0, "completed_fraction": fraction, **values})

    (note,) = losses([run(True, 0.9, failed=7.0, unfinished=3.0), run(True, 1.0)], (TTFT,))
    assert note == (
        "of 100 requests up to 7 failed and 3 unfinished when the run was cut (until_s) in runs that hold, which the predicate does not"
        " test: add 'completed >= 1' to it"
    )
    assert losses([], (TTFT,)) == [] and losses([run(True, 1.0)], (TTFT,)) == []


# ---- seeds ----


def test_seeds_are_listed_or_in_a_row() -> None:
    assert seeds_from(5, None, 3) == (5, 6, 7) and seeds_from(5, None, None) == (5,) and seeds_from(5, [9, 0], None) == (9, 0)
    for seeds, replicates in (([1], 2), ([], None), ([1, 1], None), ([-1], None), (None, 0)):
        with pytest.raises(ConfigError):
            seeds_from(0, seeds, replicates)


# ---- figures ----


@pytest.mark.parametrize(("fraction", "found"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (0.76, 9.0), (1.0, 9.0)])
def test_a_weighted_quantile_is_the_smallest_value_that_reaches_it(fraction: float, found: float) -> None:
    assert _weighted_quantile(np.array([9.0, 1.0, 3.0, 2.0]), np.array([1.0, 1.0, 1.0, 1.0]), fraction) == found
    assert _weighted_quantile(np.array([9.0, 1.0, 3.0, 2.0]), np.array([100.0, 0.0, 0.0, 0.0]), fraction) == 9.0
    assert math.isnan(_weighted_quantile(np.empty(0), np.empty(0), fraction))


def test_names_of_quantities() -> None:
    assert Quantity("ttft", "p99").text == "ttft.p99" and Quantity("ttft", "p99").column == "ttft_p99_s"
    assert Quantity("ttft", "p99", "chat").text == "classes.chat.ttft.p99" and Quantity("ttft", "p99", "chat").column == "chat.ttft_p99_s"
    assert Quantity("goodput", "", "a b").text == 'classes["a b"].goodput'
    assert quantity("ttft", "p99").more_is_worse and not quantity("goodput").more_is_worse and quantity("rejected").more_is_worse
    assert len({q.column for q in standard(("chat",))}) == len(standard(("chat",))) > len(standard())


def test_a_table_is_filled_in_any_order() -> None:
    rows = Rows(3)
    rows.put(2, {"ttft_p99_s": 1.5, "chat.goodput_per_s": 2.0}, None)
    rows.put(0, None, "failed")
    rows.put(1, {"ttft_p99_s": None}, None)
    columns = rows.columns()
    assert np.isnan(columns["ttft_p99_s"][:2]).all() and columns["ttft_p99_s"][2] == 1.5 and rows.errors == {0: "failed"}
    assert list(columns)[-1] == "chat.goodput_per_s" and list(columns)[:-1] == [q.column for q in standard() if q.column not in SOME_RUNS]
    assert np.isnan(columns["goodput_per_s"]).all()


# ---- words ----


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("ttft_p99_s", 0.0123, "12.3 ms"), ("chat.ttft_p99_s", 0.0123, "12.3 ms"), ("attainment", 0.5, "50 %"), ("saturated", 1.0, "yes"),
        ("saturated", 0.0, "no"), ("saturated", 0.5, "50 %"), ("goodput_per_s", 2.0, "2 /s"), ("joules_per_token", 3.0, "3 J"),
        ("rejected", 3.0, "3"), ("ttft_p99_s", math.nan, "–"),
    ],
)  # fmt: skip
def test_figures_have_the_unit_of_their_column(column: str, value: float, text: str) -> None:
    assert figure(column, value).replace("\u202f", " ").replace("\xa0", " ").replace(".00", "").replace(".0", "") == text.replace(".0", "")


def test_cells() -> None:
    assert cell("x", None) == Cell("–", None) and cell("x", math.nan) == Cell("–", None)
    assert cell("x", np.True_) == Cell("yes", 1.0) and cell("x", False) == Cell("no", 0.0)
    assert cell("x", "text") == Cell("text", None) and cell("rejected", 3).value == 3.0
    table = pd.DataFrame({"name": ["a"], "rejected": [2.0]})
    assert texts(table) == [[cells(table)[0][0].text, cells(table)[0][1].text]] == [["a", figure("rejected", 2.0)]]
    assert str(breakable("a.b_c<")) == "a.<wbr>b_<wbr>c&lt;"
    assert in_order(["goodput_per_s", "ttft_p99_s", "ttft_p37_s", "ttft_p99_s"]) == ["ttft_p37_s", "ttft_p99_s", "goodput_per_s"]
    assert headings(["a.x", "b.x", "ttft_p99_s", "output_tokens_per_s"]) == ["a.x", "b.x", "TTFT p99", "output tokens"]


def test_titles() -> None:
    assert title("ttft_p99_s") == "TTFT p99" and title("a.b.max_seqs") == "max seqs" and title("kv_used_max") == "KV used max"
    assert title_with_unit("ttft_p99_s") == "TTFT p99, s" and title_with_unit("rejected") == "rejected"
    assert title_with_unit("goodput_per_s") == "goodput, 1/s" and title_with_unit("output_tokens_per_s") == "output, tokens/s"
    assert title_with_unit("normalized_latency_p50_s_per_token").endswith(", s per token")


def test_short_names_tell_apart() -> None:
    assert short([0.5, "text", 3]) == {0.5: "0.5", "text": "text", 3: "3"}
    one, other = (json.dumps({"policy": "sarathi", "token_budget": budget, "max_seqs": 8}) for budget in (256, 512))
    assert short([one, other]) == {one: "token_budget=256", other: "token_budget=512"}
    orca = json.dumps({"policy": "orca", "max_seqs": 8})
    assert short([one, orca]) == {one: "sarathi token_budget=256", orca: "orca"}
    assert short([one]) == {one: "sarathi token_budget=256 max_seqs=8"}, "alone it is told in full"
    listed = json.dumps([1, 2])
    assert short([listed, "{no json"]) == {listed: "value=1,2", "{no json": "{no json"}


# ---- the best points of a sweep ----


def points(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(columns)


NAMES = {"k": {1: "one", 2: "two", 3: "three"}}


def test_the_best_are_among_those_that_meet_the_slo() -> None:
    found = best_points(points(k=[1, 2, 3], attainment=[0.99, 1.0, 0.98], ttft_p99_s=[0.3, 0.4, 0.1]), ("k",), NAMES)
    assert found.among == "Of the 2 of 3 points that meet their SLO for 99 % of the requests."
    ttft = next(row for row in found.rows if row.name == "lowest TTFT p99")
    assert ttft.at == ["one"] and ttft.ties == 0 and ttft.against == "" and ttft.worst == figure("ttft_p99_s", 0.4)
    assert next(row for row in found.rows if row.name == "highest attainment").at == ["two"]


def test_what_speaks_against_a_best_point() -> None:
    table = points(k=[1, 2], attainment=[0.5, 0.9], ttft_p99_s=[0.1, 0.2], completed_fraction=[0.9, 1.0], saturated=[1.0, 0.0])
    found = best_points(table, ("k",), NAMES)
    assert found.among.startswith("No point meets its SLO for 99 %") and "90" in found.among
    against = next(row for row in found.rows if row.name == "lowest TTFT p99").against
    assert "misses its SLO" in against and "of the requests completed" in against and "saturated" in against
    other = next(row for row in found.rows if row.name == "highest attainment").against
    assert "misses its SLO" in other and "completed" not in other and "saturated" not in other


def test_figures_that_are_the_same_everywhere_have_no_best() -> None:
    same = best_points(points(k=[1, 2], ttft_p99_s=[0.1, 0.1], tpot_p99_s=[0.1, math.nan], e2e_p99_s=[2.0, 1.0]), ("k",), NAMES)
    assert [row.name for row in same.rows] == ["lowest E2E p99"] and same.among.startswith("The experiment states no SLO")
    ties = best_points(points(k=[1, 2, 3], e2e_p99_s=[1.0, 1.0, 2.0]), ("k",), NAMES).rows[0]
    assert ties.ties == 1 and ties.at == ["one"]


# ---- which plot fits ----


def test_two_keys_that_cross_make_a_map() -> None:
    grid = pd.DataFrame([(a, b) for a in range(5) for b in range(2)], columns=["a", "b"])
    assert crossed(grid, ("a", "b")) and crossed(grid.iloc[:8], ("a", "b")), "a cell in five may be missing"
    assert not crossed(grid.iloc[:7].assign(b=[0, 1, 0, 1, 0, 1, 0], a=[0, 0, 1, 1, 2, 3, 4]), ("a", "b"))
    assert not crossed(grid, ("a",)) and not crossed(grid.assign(b=0), ("a", "b"))
    large = pd.DataFrame([(a, b) for a in range(30) for b in range(20)], columns=["a", "b"])
    assert crossed(large, ("a", "b"))
    assert not crossed(pd.DataFrame([(a, b) for a in range(31) for b in range(20)], columns=["a", "b"]), ("a", "b"))


def test_seconds_that_no_linear_axis_shows() -> None:
    assert wide_seconds(points(ttft_p99_s=[0.01, 0.31]), "ttft_p99_s") and not wide_seconds(points(ttft_p99_s=[0.01, 0.3]), "ttft_p99_s")
    assert not wide_seconds(points(goodput_per_s=[0.01, 9.0]), "goodput_per_s") and not wide_seconds(points(x=[0.01, 9.0]), "x")
    assert not wide_seconds(points(t_s=[0.0, 9.0]), "t_s") and not wide_seconds(points(t_s=[0.1]), "t_s")


# ---- rows on disk ----


def test_a_row_is_read_back_only_as_it_was_put(tmp_path: Any) -> None:
    cache = RunCache(tmp_path)
    cache.put("abcd", {"a": 1.5, "b": None})
    assert cache.get("abcd") == {"a": 1.5, "b": None} and cache.get("abcd", ["a"]) is not None and cache.get("abcd", ["c"]) is None
    assert cache.get("abce") is None and cache.other_versions() == []
    (path,) = cache.folder.rglob("*.json")
    content = json.loads(path.read_text())
    for damage in ({"row": {"a": 1.6, "b": None}}, {"key": "abce"}, {"row": {"a": True}}, {"row": [1]}, {"sha256": "0"}):
        path.write_text(json.dumps({**content, **damage}))
        assert cache.get("abcd") is None, damage
    path.write_text(json.dumps(content) + " " * (1 << 20))
    assert cache.get("abcd") is None, "larger than any row"
    path.write_text(json.dumps(content))
    assert cache.get("abcd") is not None
    (tmp_path / "0.1-older").mkdir()
    assert cache.other_versions() == []
    (tmp_path / "0.1-older" / "x").touch()
    assert cache.other_versions() == ["0.1-older"]


def test_results_of_studies_do_not_change() -> None:
    """What changes is what is under way: a plan that learns what became of its points, searches,
    the plans in a race and the runs that it makes."""
    assert changeable("simserve.study") == {"Plan", "Planned", "Runs", "Screened", "Search", "_Candidate"}
