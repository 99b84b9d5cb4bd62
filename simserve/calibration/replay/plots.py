"""Predicted against measured step times, and the error over step time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simserve.calibration.replay.execute import Measured
from simserve.calibration.replay.plan import DECODE, MIXED, PREFILL

_NAMES = {DECODE: "decode only", MIXED: "mixed", PREFILL: "prefill only"}


def write_plot(measured: list[Measured], made: dict[str, Any], path: Path) -> None:
    """One PNG: points by regime, the diagonal with a band of 10 %; below, predicted / measured."""
    from simserve.report.plots import style as plot_style

    with plot_style.off_screen(), plot_style.style():
        figure, axes = plot_style.grid(1, 2, (10.0, 4.4))
        scatter, ratio = axes[0, 0], axes[0, 1]
        real = np.array([m.seconds for m in measured])
        predicted = np.array([m.step.predicted_s for m in measured])
        low, high = 0.8 * min(real.min(), predicted.min()), 1.25 * max(real.max(), predicted.max())
        ends = np.array([low, high])
        scatter.fill_between(ends, 0.9 * ends, 1.1 * ends, color="#dddddd", linewidth=0, label="± 10 %")
        scatter.plot(ends, ends, color=plot_style.LIMIT_COLOUR, linewidth=1.0)
        ratio.axhspan(-10.0, 10.0, color="#dddddd", linewidth=0)
        ratio.axhline(0.0, color=plot_style.LIMIT_COLOUR, linewidth=1.0)
        for colour, marker, (name, text) in zip(plot_style.COLOURS, "os^", _NAMES.items(), strict=False):
            chosen = np.array([m.step.regime == name for m in measured])
            if not chosen.any():
                continue
            mape = made["errors"][name]["mape_percent"]
            points = {"color": colour, "marker": marker, "s": 16, "alpha": 0.75, "linewidths": 0}
            scatter.scatter(real[chosen], predicted[chosen], label=f"{text}: MAPE {mape:.1f} %", **points)
            ratio.scatter(real[chosen], 100.0 * (predicted[chosen] / real[chosen] - 1.0), **points)
        scatter.set(xlim=(low, high), ylim=(low, high), xlabel="measured", ylabel="predicted", title="Time of a step")
        plot_style.log_seconds(scatter.xaxis)
        plot_style.log_seconds(scatter.yaxis)
        scatter.legend(loc="upper left")
        ratio.set(xlim=(low, high), xlabel="measured", ylabel="predicted too long, %", title="Error of the prediction")
        plot_style.log_seconds(ratio.xaxis)
        layers = "" if made["layers"] == made["layers_of_model"] else f", {made['layers']} of {made['layers_of_model']} layers scaled up"
        figure.suptitle(f"{Path(made['model']).name} replayed on {made['device']}{layers}", fontsize=10.5)
    plot_style.write_png(figure, path)
