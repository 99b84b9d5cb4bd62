"""Plots of a sweep over its keys, on tables of a few points: what stands where, and on which scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from simserve.study.sweep.grid import by_key, from_zero, heat_map, numeric


def axes() -> Any:
    return Figure().subplots()


def points(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def mapped(rows: int, columns: int, values: Any = None, figure: str = "goodput_per_s") -> Any:
    """A map of so many values of `b` by values of `a`; the value of a point is its number unless stated."""
    grid = [(row, column) for row in range(rows) for column in range(columns)]
    found = np.arange(len(grid), dtype=float) if values is None else np.array(values, dtype=float)
    table = points(a=[column for _, column in grid], b=[row for row, _ in grid], **{figure: found})
    return heat_map(table, "a", "b", figure, axes())


def words(axes: Any) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text().removesuffix(" /s") for text in axes.texts}


def test_rows_and_columns_of_a_map_stand_at_their_cells() -> None:
    found = mapped(2, 3)
    assert [tick.get_text() for tick in found.get_xticklabels()] == ["0", "1", "2"]
    assert [tick.get_text() for tick in found.get_yticklabels()] == ["0", "1"]
    assert found.get_xticks().tolist() == [0.5, 1.5, 2.5] and found.get_yticks().tolist() == [0.5, 1.5]
    assert words(found) == {(0.5, 0.5): "0", (1.5, 0.5): "1", (2.5, 0.5): "2", (0.5, 1.5): "3", (1.5, 1.5): "4", (2.5, 1.5): "5"}
    assert len(found.figure.axes) == 2, "a scale beside the map"


def test_numbers_are_light_on_dark_cells_and_dark_on_light_ones() -> None:
    found = mapped(1, 4, [0.0, 5.4, 5.6, 10.0])
    assert [text.get_color() for text in found.texts] == ["white", "white", "black", "black"]


@pytest.mark.parametrize(("columns", "written"), [(100, 100), (101, 0)])
def test_a_large_map_has_no_numbers(columns: int, written: int) -> None:
    assert len(mapped(1, columns).texts) == written


def test_a_cell_without_a_figure_stays_empty_and_of_several_points_it_is_the_median() -> None:
    found = mapped(1, 3, [1.0, np.nan, 3.0])
    assert len(found.texts) == 2
    table = points(a=[0, 0, 0, 1], b=[0, 0, 0, 0], goodput_per_s=[1.0, 2.0, 9.0, 4.0])
    assert list(words(heat_map(table, "a", "b", "goodput_per_s", axes())).values()) == ["2", "4"]
    nothing = heat_map(points(a=[0], b=[0], goodput_per_s=[np.nan]), "a", "b", "goodput_per_s", axes())
    assert "no point has this figure" in [text.get_text() for text in nothing.texts]


def test_seconds_from_milliseconds_to_minutes_are_coloured_by_their_logarithm() -> None:
    assert type(mapped(1, 2, [0.01, 60.0], "ttft_p99_s").collections[0].norm).__name__ == "LogNorm"
    assert type(mapped(1, 2, [0.01, 0.02], "ttft_p99_s").collections[0].norm).__name__ == "Normalize"
    units = [mapped(1, 2, values, "ttft_p99_s").get_title(loc="left") for values in ([0.01, 0.02], [0.01, 60.0])]
    assert units[0] != units[1] and units[0].startswith(units[1]), "the logarithmic scale names its own units"


def test_long_labels_lean() -> None:
    def rotation(names: list[str]) -> float:
        table = points(a=names, b=[0] * len(names), goodput_per_s=[1.0] * len(names))
        return float(heat_map(table, "a", "b", "goodput_per_s", axes()).get_xticklabels()[0].get_rotation())

    assert rotation([f"{k}" * 14 for k in range(5)]) == 0 and rotation([f"{k}" * 15 for k in range(5)]) == 30
    table = points(a=["x" * 25], b=[0], goodput_per_s=[1.0])
    assert heat_map(table, "a", "b", "goodput_per_s", axes()).get_xticklabels()[0].get_text() == "x" * 10 + "…" + "x" * 13


# ---- panels ----


def panels(keys: int, **columns: Any) -> list[Any]:
    table = points(**{f"k{n}": [0, 1, 0, 1] for n in range(keys)}, **{"goodput_per_s": [1.0, 4.0, 3.0, 8.0], **columns})
    return by_key(table, [f"k{n}" for n in range(keys)], "goodput_per_s")


@pytest.mark.parametrize(
    ("keys", "shown", "rows", "columns"), [(1, 1, 1, 1), (2, 2, 1, 2), (3, 3, 1, 3), (4, 4, 2, 2), (5, 5, 2, 3), (6, 6, 2, 3), (9, 6, 2, 3)]
)
def test_a_panel_for_each_of_up_to_six_keys(keys: int, shown: int, rows: int, columns: int) -> None:
    found = panels(keys)
    assert len(found) == shown and all(axes.get_visible() for axes in found)
    every = found[0].figure.axes
    assert len(every) == rows * columns and [axes.get_visible() for axes in every] == [True] * shown + [False] * (rows * columns - shown)
    assert {axes.get_ylim() for axes in found} == {(0.0, 1.08 * 8.0)}, "on one scale, from 0"
    labelled = [bool(axes.get_ylabel()) for axes in every]
    assert labelled == [place % columns == 0 for place in range(len(every))], "the scale is named at the left"
    assert all(axes.get_xlabel() for axes in found)


def test_points_are_dots_and_medians_a_line() -> None:
    (found,) = panels(1)
    dots, line = found.lines
    assert dots.get_xdata().tolist() == [0, 1, 0, 1] and dots.get_ydata().tolist() == [1.0, 4.0, 3.0, 8.0]
    assert line.get_xdata().tolist() == [0, 1] and line.get_ydata().tolist() == [2.0, 6.0]


def test_values_that_hardly_repeat_are_taken_together() -> None:
    """Of 24 different values six groups of four neighbours: medians of 0 .. 3, 4 .. 7 and so on. Six values stand alone."""
    many = np.arange(24.0)
    (found,) = by_key(points(k=many, y_per_s=many), ["k"], "y_per_s")
    assert found.lines[1].get_xdata().tolist() == found.lines[1].get_ydata().tolist() == [1.5 + 4 * group for group in range(6)]
    (few,) = by_key(points(k=many[:6], y_per_s=many[:6]), ["k"], "y_per_s")
    assert few.lines[1].get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    (seven,) = by_key(points(k=many[:7], y_per_s=many[:7]), ["k"], "y_per_s")
    assert len(seven.lines[1].get_xdata()) == 6


def test_names_stand_side_by_side_with_bars_at_their_medians() -> None:
    table = points(k=["p", "q", "p", None], y_per_s=[1.0, 4.0, 3.0, 9.0])
    (found,) = by_key(table, ["k"], "y_per_s")
    dots, bars = found.lines
    assert dots.get_xdata().tolist() == [0, 1, 0] and list(bars.get_xdata()) == [0, 1] and list(bars.get_ydata()) == [2.0, 4.0]
    assert [tick.get_text() for tick in found.get_xticklabels()] == ["p", "q"] and found.get_xlim() == (-0.6, 1.6)
    thirteen = points(k=[f"n{n}" for n in range(13)], y_per_s=np.arange(13.0))
    assert len(by_key(thirteen, ["k"], "y_per_s")[0].get_xticks()) == 12


def test_nothing_to_show_and_seconds_that_no_linear_axis_shows() -> None:
    (empty,) = by_key(points(k=[1, 2], ttft_p99_s=[np.nan, np.nan]), ["k"], "ttft_p99_s")
    assert "no point has this figure" in [text.get_text() for text in empty.texts]
    (wide,) = by_key(points(k=[1, 2], ttft_p99_s=[0.01, 60.0]), ["k"], "ttft_p99_s")
    assert wide.get_yscale() == "log"
    (zero,) = by_key(points(k=[1, 2], y_per_s=[0.0, 0.0]), ["k"], "y_per_s")
    assert zero.get_ylim()[0] == 0 < zero.get_ylim()[1]
    below = axes()
    from_zero(below, pd.Series([0.5, 0.25]))
    assert below.get_ylim() == (0.0, 0.54)


def test_numbers_are_numbers_and_yes_or_no_is_none() -> None:
    assert (
        numeric(pd.Series([1, 2])) and numeric(pd.Series([0.5])) and not numeric(pd.Series([True, False])) and not numeric(pd.Series(["a"]))
    )
