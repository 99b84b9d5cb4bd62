"""Pictures of a validation: predicted against measured, and residuals by size, one page per operator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simserve.calibration.validate import KernelValidation

if TYPE_CHECKING:
    import pandas as pd

_MAX_POINTS = 6000
"""Points drawn per backend: more only darken the same cloud."""


def write_plots(validation: KernelValidation, folder: Path) -> list[Path]:
    """Write `<operator>.png` for each operator and `predictions.csv` with every row; returns the paths. Creates `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "predictions.csv"]
    validation.rows.to_csv(paths[0], index=False, float_format="%.6g")
    for operator, rows in validation.rows.groupby("operator", observed=True):
        path = folder / f"{operator}.png"
        _draw(str(operator), validation.profile, rows, path)
        paths.append(path)
    return paths


def _draw(operator: str, profile: str, rows: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    groups = sorted(rows.groupby(["dtype", "backend"], observed=True), key=lambda item: -len(item[1]))
    for index, ((dtype, backend), group) in enumerate(groups):
        shown = group if len(group) <= _MAX_POINTS else group.sample(_MAX_POINTS, random_state=0)
        measured, predicted = shown["measured_s"] * 1e6, shown["predicted_s"] * 1e6
        error = 100.0 * float(np.abs(group["predicted_s"] / group["measured_s"] - 1.0).mean())
        style = {"s": 3, "alpha": 0.25, "linewidths": 0, "color": f"C{index % 10}"}
        left.scatter(measured, predicted, label=f"{dtype}, {backend}: {error:.1f} %", **style)
        right.scatter(measured, 100.0 * (predicted / measured - 1.0), **style)
    ends = [float(rows["measured_s"].min()) * 1e6, float(rows["measured_s"].max()) * 1e6]
    left.plot(ends, ends, color="black", linewidth=0.8)
    left.set(xscale="log", yscale="log", xlabel="measured, us", ylabel="predicted, us", title=f"{operator} on {profile}")
    legend = left.legend(fontsize=7, markerscale=4, title="mean absolute error", title_fontsize=7, loc="upper left")
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set(xscale="log", ylim=(-40, 40), xlabel="measured, us", ylabel="predicted / measured - 1, %", title="residuals by size")
    for axes in (left, right):
        axes.grid(True, which="major", linewidth=0.3)
    figure.savefig(path)
