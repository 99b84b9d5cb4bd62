"""The plot of the limits that requests meet: lines, the mark of the SLO and the axes, on a few requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from simserve.report.frontier import Curve, Felt, border, fractions_of, slo_frontier

FELT = Felt(np.array([9.0, 1.0, 5.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0]))
"""Three of four requests: with TPOT 3 a TTFT of 9, with TPOT 4 one of 5."""


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in axes.lines}


def test_a_border_goes_straight_up_from_its_first_point_and_to_the_right_from_its_last() -> None:
    axes = slo_frontier([Curve("three of four", FELT, 0.75)], {})
    (x, y) = lines(axes)["three of four"]
    assert x == [3.0, 3.0, 4.0, pytest.approx(1.15 * 4)] and y == [pytest.approx(1.15 * 9), 9.0, 5.0, 5.0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log") and axes.get_legend() is not None
    assert axes.get_title(loc="left") + axes.get_title() == "Limits that the requests meet"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("limit on TPOT", "limit on TTFT")


@pytest.mark.parametrize(
    ("limits", "right", "top"), [({"tpot_s": 8.0, "ttft_s": 20.0}, 8.0, 20.0), ({"tpot_s": 2.0, "ttft_s": 1.0}, 4.0, 9.0)]
)
def test_the_slo_is_marked_and_inside_the_axes(limits: dict[str, float], right: float, top: float) -> None:
    drawn = lines(slo_frontier([Curve("c", FELT, 0.75)], limits, whose="90 % of the"))
    assert drawn["the SLO"] == ([limits["tpot_s"]], [limits["ttft_s"]])
    assert drawn["c"][0][-1] == pytest.approx(1.15 * right) and drawn["c"][1][0] == pytest.approx(1.15 * top)


@pytest.mark.parametrize("limits", [{}, {"tpot_s": 1.0}, {"ttft_s": 1.0}, {"e2e_s": 1.0}])
def test_half_an_slo_is_no_mark(limits: dict[str, float]) -> None:
    assert set(lines(slo_frontier([Curve("c", FELT, 0.75)], limits))) == {"c"}


def test_several_curves_share_the_axes_and_many_have_their_names_outside() -> None:
    two = slo_frontier(
        [Curve("all", FELT, 1.0), Curve("three", FELT, 0.75), Curve("none", Felt(FELT.ttft_s, FELT.tpot_s + np.inf), 0.5)], {}
    )
    assert set(lines(two)) == {"all", "three"} and lines(two)["all"][0][-1] == lines(two)["three"][0][-1] == pytest.approx(1.15 * 4)
    colours = [line.get_color() for line in two.lines]
    assert len(set(colours)) == 2

    def outside(count: int) -> bool:
        axes = slo_frontier([Curve(f"c{k}", FELT, 0.75) for k in range(count)], {})
        anchor = axes.get_legend().get_bbox_to_anchor().transformed(axes.transAxes.inverted())
        return bool(anchor.x0 >= 1.0)

    assert not outside(4) and outside(5)
    many = slo_frontier([Curve(f"c{k}", FELT, 0.75) for k in range(30)], {})
    assert many.lines[0].get_linestyle() == "-" and many.lines[-1].get_linestyle() == "--"


def test_limits_that_too_few_meet_leave_a_note() -> None:
    nothing = slo_frontier([Curve("none", Felt(FELT.ttft_s, FELT.tpot_s + np.inf), 0.5)], {"tpot_s": 1.0, "ttft_s": 1.0})
    assert "no limits are met by so many requests" in [text.get_text() for text in nothing.texts] and not nothing.lines
    assert [len(part) for part in border(Felt(np.empty(0), np.empty(0)), 0.5)] == [0, 0]


def test_what_requests_felt_is_read_from_their_table() -> None:
    table = pd.DataFrame(
        {
            "in_window": [True, True, False, True, True],
            "output_tokens": [5, 0, 5, 5, 1],
            "status": ["completed", "failed", "completed", "rejected", "completed"],
            "ttft_s": [1.0, 2.0, 3.0, np.nan, 0.5],
            "tpot_s": [0.1, 0.2, 0.3, np.nan, np.nan],
        }
    )
    felt = Felt.of_frame(table)
    assert felt.ttft_s.tolist() == [1.0, np.inf, 0.5] and felt.tpot_s.tolist() == [0.1, np.inf, 0.0]
    assert [(curve.fraction, curve.felt is felt) for curve in fractions_of(felt)] == [(0.5, True), (0.9, True), (0.99, True)]


def test_a_border_of_many_requests_is_drawn_from_some_of_them() -> None:
    """80,001 requests are thinned to every third; those that count stay a fraction of them, and 80 points are drawn at most."""
    many = Felt(np.linspace(1.0, 2.0, 80_001), np.linspace(2.0, 1.0, 80_001))
    x, y = border(many, 0.5)
    assert len(x) <= 80 and x[0] == pytest.approx(1.5, abs=1e-3) and y[-1] == pytest.approx(1.5, abs=1e-3)
    assert (np.diff(x) > 0).all() and (np.diff(y) <= 0).all()
