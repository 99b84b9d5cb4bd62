"""Predicted against measured, one picture for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simserve.validation.evaluate import Outcome

_UNITS = {"output_tokens_per_s": "tokens/s", "total_tokens_per_s": "tokens/s"}
_MOST_PANELS = 6
_MOST_COLOURS = 10


def write_plots(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """PNG files in `folder`: a panel for each metric, logarithmic axes, the diagonal and 10 % either side, a colour for each model."""
    written = []
    for dataset in sorted({o.case.dataset for o in outcomes}):
        own = [o for o in outcomes if o.case.dataset == dataset and o.predicted]
        if own:
            written.append(_plot(dataset, own, folder / f"{dataset}.png"))
    return written


def _plot(dataset: str, outcomes: Sequence[Outcome], path: Path) -> Path:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = _ordered(outcomes)[:_MOST_PANELS]
    kinds = sorted({_kind(o) for o in outcomes})
    colours = {kind: colormaps["tab10"](i % _MOST_COLOURS) for i, kind in enumerate(kinds)}
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.9 * lines + 0.6), layout="constrained")
    FigureCanvasAgg(figure)  # pyplot, and whatever backend the caller has, is left alone
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    for axis, metric in zip(axes.flat, metrics, strict=False):
        for kind in kinds:
            pairs = [(o.case.measured[metric], o.predicted[metric]) for o in outcomes if _kind(o) == kind and metric in o.errors_percent()]
            if pairs:
                x, y = zip(*pairs, strict=True)
                axis.scatter(x, y, s=12, alpha=0.7, color=colours[kind], label=kind, linewidths=0)
        errors = np.array([abs(o.errors_percent()[metric]) for o in outcomes if metric in o.errors_percent()])
        values = [v for o in outcomes if metric in o.errors_percent() for v in (o.case.measured[metric], o.predicted[metric])]
        low, high = 0.8 * min(values), 1.25 * max(values)
        line = np.array([low, high])
        axis.plot(line, line, color="black", linewidth=0.8)
        axis.fill_between(line, 0.9 * line, 1.1 * line, color="black", alpha=0.08, linewidth=0)
        axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        axis.set_title(f"{metric}: median error {np.median(errors):.1f} %, mean {errors.mean():.1f} %", fontsize=9)
        unit = _UNITS.get(metric, "s")
        axis.set_xlabel(f"measured [{unit}]", fontsize=8)
        axis.set_ylabel(f"predicted [{unit}]", fontsize=8)
        axis.tick_params(which="both", labelsize=6)
        axis.set_aspect("equal")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.suptitle(f"{dataset}: {len(outcomes)} runs", fontsize=10)
    figure.legend(handles[:24], labels[:24], loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.savefig(path, dpi=110)
    return path


def _kind(outcome: Outcome) -> str:
    case = outcome.case
    return f"{case.engine} {case.gpu.split('-')[0]} {case.model.rsplit('/', 1)[-1]}"


def _ordered(outcomes: Sequence[Outcome]) -> list[str]:
    seen: dict[str, None] = {}
    for outcome in outcomes:
        seen |= dict.fromkeys(outcome.errors_percent())
    return [m for m in seen if not m.endswith(("_p90", "_median"))] + [m for m in seen if m.endswith(("_p90", "_median"))]
