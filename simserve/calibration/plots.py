"""Pictures of how far predictions are from measurements: predicted against measured, and residuals by size, one page per operator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simserve.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from simserve.calibration.validate import KernelValidation

_MAX_POINTS = 3_500
"""Points drawn on a page, shared by its groups in proportion: more only darken the same cloud."""
_LEAST_POINTS = 150
_LEAST_BANDED = 60
_GROUPS = 10
"""Groups with their own colour and line in the legend; the smaller ones share a grey."""


def write_plots(validation: KernelValidation, folder: Path) -> list[Path]:
    """Write `<operator>.png` for each operator and `predictions.csv` with every row; returns the paths. Creates `folder`.

    Raises OutputError when they cannot be written.
    """
    _make(folder)
    csv = folder / "predictions.csv"
    try:
        validation.rows.to_csv(csv, index=False, float_format="%.6g")
    except OSError as error:
        raise OutputError(f"{csv}: cannot be written ({error.strerror})") from None
    return [csv, *_pages(validation.rows, f"on {validation.profile}", folder)]


def draw_checks(checks: Sequence[pd.DataFrame], profile: str, folder: Path) -> list[Path]:
    """One page per operator of the rows that were held out of a fit, predicted by the fit that did not see them."""
    import pandas as pd

    _make(folder)
    rows = pd.concat([c for c in checks if len(c)] or list(checks[:1]), ignore_index=True)
    return _pages(rows, f"on {profile}: rows that the fit did not see", folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this directory ({error.strerror})") from None


def _pages(rows: pd.DataFrame, title: str, folder: Path) -> list[Path]:
    paths = []
    for operator, of in rows.groupby("operator", observed=True):
        path = folder / f"{operator}.png"
        try:
            _draw(f"{operator} {title}", of, path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        paths.append(path)
    return paths


def _draw(title: str, rows: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=80)
    left, right = figure.subplots(1, 2)
    groups = sorted(rows.groupby(["dtype", "backend"], observed=True), key=lambda item: -len(item[1]))
    everything = 1e6 * rows["measured_s"].to_numpy()
    dot = 1.5 if len(rows) > _MAX_POINTS else 5.0
    for index, ((dtype, backend), group) in enumerate(groups):
        quota = max(_LEAST_POINTS, int(_MAX_POINTS * len(group) / len(rows)))
        shown = group if len(group) <= quota else group.sample(quota, random_state=0)
        measured, predicted = 1e6 * shown["measured_s"].to_numpy(), 1e6 * shown["predicted_s"].to_numpy()
        # Plain dots of one colour: a page stays below 100 kB.
        style = {"s": dot, "linewidths": 0, "antialiased": False, "color": f"C{index}" if index < _GROUPS else "0.5"}
        label = f"{dtype}, {backend}: {_mape(group):.1f} %" if index < _GROUPS else None
        left.scatter(measured, predicted, label=label, **style)
        right.scatter(measured, 100.0 * (predicted / measured - 1.0), **style)
    if len(groups) > _GROUPS:
        rest = [g for _, g in groups[_GROUPS:]]
        worst = max(_mape(g) for g in rest)
        left.scatter([], [], s=dot, color="0.5", label=f"{len(rest)} smaller groups: at most {worst:.1f} %")
    ends = [float(everything.min()), float(everything.max())]
    left.plot(ends, ends, color="black", linewidth=0.8)
    left.set(xscale="log", yscale="log", xlabel="measured, us", ylabel="predicted, us")
    left.legend(fontsize=6.5, markerscale=5.0 if dot < 2 else 2.5, title="mean absolute error", title_fontsize=6.5, loc="upper left")
    _bands(right, everything, 100.0 * (rows["predicted_s"].to_numpy() / rows["measured_s"].to_numpy() - 1.0))
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set(xscale="log", ylim=(-40, 40), xlabel="measured, us", ylabel="predicted / measured - 1, %")
    if len(rows) >= _LEAST_BANDED:
        right.legend(fontsize=6.5, loc="upper right")
    for axes in (left, right):
        axes.grid(True, which="major", linewidth=0.3)
    figure.suptitle(f"{title} ({len(rows):,})", fontsize=10)
    figure.savefig(path, pil_kwargs={"optimize": True})


def _bands(axes: Axes, size: NDArray[np.float64], error: NDArray[np.float64]) -> None:
    """Median and central 90 % of the residuals, by size: clouds hide how many points lie where."""
    if len(size) < _LEAST_BANDED:
        return
    edges = np.unique(np.quantile(size, np.linspace(0.0, 1.0, 13)))
    places = [(size >= low) & (size <= high) for low, high in pairwise(edges)]
    centres = [float(np.exp(np.log(size[p]).mean())) for p in places]
    for fraction, style in ((0.5, "-"), (0.05, "--"), (0.95, "--")):
        line = [float(np.quantile(error[p], fraction)) for p in places]
        label = "median" if fraction == 0.5 else "central 90 %" if fraction == 0.05 else None
        axes.plot(centres, line, color="black", linewidth=1.0, linestyle=style, label=label)


def _mape(rows: pd.DataFrame) -> float:
    return 100.0 * float(np.abs(rows["predicted_s"] / rows["measured_s"] - 1.0).mean())
