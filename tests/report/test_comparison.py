"""Runs side by side: the figures, what is better, what differs, and which limits each can promise."""

import itertools

import numpy as np
import pytest
from offline_page import Page
from synthetic import poisson, serve

import simserve
from simserve.errors import OutputError
from simserve.report import Result
from simserve.report.compare.comparison import compare
from simserve.report.compare.differences import differences
from simserve.report.compare.html import comparison_page
from simserve.report.frontier import Felt, border

SLO = {"ttft_s": 0.2, "tpot_s": 0.05}


def run(name, step_s, slo=SLO, **options):
    return Result(serve(*poisson(150, 5), step_s=step_s, per_request_s=0.0, **options)[0], {"name": name, "seed": 0}, slo)


@pytest.fixture(scope="module")
def fast_and_slow():
    return run("fast", 0.01), run("slow", 0.02)


def test_better_and_worse_follow_the_figure(fast_and_slow):
    rows = {row.name: row for row in compare(fast_and_slow).rows}
    assert rows["ITL p50"].changes[1] == "+100.0 %" and rows["ITL p50"].verdicts == ("", "worse")
    assert rows["Goodput (met the SLO)"].verdicts == ("", "worse") and rows["Busy"].verdicts == ("", "")
    back = {row.name: row for row in compare(fast_and_slow[::-1]).rows}
    assert back["ITL p50"].changes[1] == "-50.0 %" and back["ITL p50"].verdicts == ("", "better")
    assert back["SLO attainment"].verdicts == ("", "better") and back["SLO attainment"].changes[1].endswith(" pt")
    same = compare([fast_and_slow[0]] * 2)
    assert all(verdict == "" for row in same.rows for verdict in row.verdicts)
    much_slower = compare([fast_and_slow[0], run("slower", 0.2)])
    assert next(row for row in much_slower.rows if row.name == "ITL p50").changes[1] == "x 20"


def test_the_frame_holds_the_figures_as_numbers(fast_and_slow):
    frame = simserve.compare(fast_and_slow).frame
    assert list(frame.columns) == ["fast", "slow"]
    assert frame.loc["ITL p50", "slow"] == pytest.approx(0.02)
    assert frame.loc["TTFT mean", "fast"] == pytest.approx(fast_and_slow[0].measurement.latency["all"]["ttft_s"].mean)


def test_directories_compare_like_results(fast_and_slow, tmp_path):
    places = [result.write(tmp_path / result.name, plots=False, report=False) for result in fast_and_slow]
    stored, ours = compare([str(place) for place in places]), compare(fast_and_slow)
    assert stored._repr_html_() == ours._repr_html_() and stored.rows == ours.rows and stored.differences == ours.differences
    with pytest.raises(OutputError, match="nowhere"):
        compare([places[0], tmp_path / "nowhere"])


def test_only_keys_that_differ_are_listed():
    one = {"name": "a", "seed": 0, "cluster": {"instances": [{"scheduler": {"policy": "x", "budget": 4}}]}, "sizes": [1, 2]}
    two = {"name": "b", "seed": 0, "cluster": {"instances": [{"scheduler": {"policy": "y"}}, {"count": 2}]}, "sizes": [1, 2, 3]}
    found = {difference.key: difference.values for difference in differences([one, two])}
    assert found == {
        "cluster.instances.0.scheduler.policy": ("x", "y"),
        "cluster.instances.0.scheduler.budget": ("4", "–"),
        "cluster.instances.1.count": ("–", "2"),
        "sizes": ("[1, 2]", "[1, 2, 3]"),
    }
    assert differences([one, {**one, "name": "c", "output": {"plots": False}}]) == ()


def test_what_all_runs_share_is_said_once(fast_and_slow):
    notes = [note for note in compare(fast_and_slow).notes if "not validated" in note]
    assert len(notes) == 1 and notes[0].startswith("All rest on")
    other = run("other", 0.01, describe={"model": "m", "unvalidated": ["gemm"]})
    notes = [note for note in compare([*fast_and_slow, other]).notes if "not validated" in note]
    assert [note.split(" rest")[0] for note in notes] == ["fast, slow", "other"]


def test_classes_that_several_runs_have_are_compared(result, fast_and_slow):
    page = Page(comparison_page(compare([result, result])))
    assert "Class chat" in page.text and "Class batch" in page.text
    assert compare([result, fast_and_slow[0]]).by_class == ()


def test_classes_of_three_runs_are_compared_and_those_of_one_are_not(result, fast_and_slow):
    of_three = [name for name, _ in compare([result, result, result]).by_class]
    assert of_three == [name for name, _ in compare([result, result]).by_class] and len(of_three) > 1
    assert not set(of_three) - {"default"} & {name for name, _ in compare([result, *fast_and_slow]).by_class}


def test_the_page_is_one_file_that_shows_every_run(fast_and_slow):
    odd = run("<b>odd</b>", 0.01)
    page = Page(comparison_page(compare([*fast_and_slow, odd])))
    assert page.needs_nothing() and page.tags["img"] == 3 and page.tags["b"] == 0 and page.tags["script"] == 0
    row = next(row for row in page.table("fast", "slow", "<b>odd</b>") if row[""] == "ITL p50")
    assert row["slow"] == "20.0 ms +100.0 %" and row["<b>odd</b>"] == "10.0 ms +0.0 %"
    fragment = compare([*fast_and_slow, odd])._repr_html_()
    assert "<style" not in fragment and "<b>odd" not in fragment and "20.0 ms" in fragment


def test_the_curves_are_the_requests(fast_and_slow):
    axes = compare(fast_and_slow).plot.latency_cdf()[0]
    for line, result in zip(axes.lines, fast_and_slow, strict=False):
        ttft = result.measurement.requests.ttft_s
        for value, fraction in list(zip(line.get_xdata(), line.get_ydata(), strict=True))[::10]:
            assert fraction == pytest.approx(100 * np.nanmean(ttft <= value), abs=0.8)
    bars = compare(fast_and_slow).plot.goodput()
    widths = sorted({patch.get_width() for patch in bars.patches})
    rates = [result.summary_dict()["slo"]["all"]["goodput_per_s"] for result in fast_and_slow]
    assert all(any(width == pytest.approx(rate) for width in widths) for rate in rates)


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_limits_on_the_border_are_met_and_tighter_ones_are_not(fraction):
    rng = np.random.default_rng(2)
    ttft, tpot = rng.lognormal(size=300), rng.lognormal(size=300)
    ttft[:9], tpot[:9] = np.inf, np.inf  # never completed
    x, y = border(Felt(ttft, tpot), fraction, points=20)
    assert len(x) > 10 and all(a <= b for a, b in itertools.pairwise(x)) and all(a >= b for a, b in itertools.pairwise(y))
    for tpot_limit, ttft_limit in zip(x, y, strict=True):
        assert np.mean((tpot <= tpot_limit) & (ttft <= ttft_limit)) >= fraction
        assert np.mean((tpot <= tpot_limit) & (ttft < ttft_limit)) < fraction


def test_no_limit_is_met_by_more_requests_than_completed():
    felt = Felt(np.array([1.0, np.inf]), np.array([1.0, np.inf]))
    assert len(border(felt, 0.5)[0]) == 1 and len(border(felt, 0.9)[0]) == 0


def test_a_request_of_one_token_violates_no_limit_on_tpot(result):
    m = result.measurement
    single = m.in_window & (m.records.requests.generated_tokens == 1)
    assert single.any()
    felt = Felt.of_frame(result.requests)
    assert (felt.tpot_s == 0).sum() == single.sum()
    assert len(felt.ttft_s) == (m.in_window & (m.records.table.output_tokens > 0)).sum()
