"""One page of plots of a workload, for `simserve trace info --plot`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simserve.errors import OutputError
from simserve.workload.requests import RequestTable
from simserve.workload.shaping import root_arrival_s
from simserve.workload.statistics import index_of_dispersion

# Okabe and Ito, "Color Universal Design" (2008): tell apart with any colour vision.
_INK = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def plot_trace(table: RequestTable, path: str | Path, title: str) -> Path:
    """Arrivals over time, burstiness by scale, length distributions, joint lengths. Raises OutputError when it cannot write."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    ((rate, burst), (lengths, joint)) = figure.subplots(2, 2)
    figure.suptitle(title)
    ok = table.output_tokens > 0

    start = root_arrival_s(table)
    span = max(float(start.max(initial=0.0)), 1e-9)
    has_arrivals = table.provenance.get("has_arrivals", True) and span > 1e-6
    if has_arrivals:
        unit, name = (3600.0, "hours") if span > 4 * 3600 else (60.0, "minutes") if span > 600 else (1.0, "seconds")
        edges = np.linspace(0.0, span, 241)
        width = edges[1] - edges[0]
        groups = [("requests", np.ones(len(table), dtype=bool))]
        if table.log_type is not None and len(table.log_type.names) > 1:
            groups = [(n, table.log_type.codes == i) for i, n in enumerate(table.log_type.names)]
        below = np.zeros(len(edges) - 1)
        for (label, rows), colour in zip(groups, _INK * len(groups), strict=False):
            height = np.histogram(start[rows], edges)[0] / width
            rate.fill_between(edges[:-1] / unit, below, below + height, step="post", color=colour, label=label, linewidth=0)
            below = below + height
        rate.set(xlabel=f"time ({name})", ylabel="arrivals per second", title=f"Arrivals (means over {width:.3g} s)", xlim=(0, span / unit))
        rate.set_ylim(bottom=0)
        if len(groups) > 1:
            rate.legend(loc="upper right")
        scales = [s for s in np.geomspace(0.1, span / 10, 30) if s >= 1 or not np.all(start == np.floor(start))]
        own = np.sort(table.arrival_s[table.after < 0])
        points = [(s, v) for s in scales if (v := index_of_dispersion(own, s)) is not None]
        if points:
            burst.loglog([p[0] for p in points], [max(p[1], 1e-3) for p in points], color=_INK[0], marker=".", label="this trace")
        burst.axhline(1.0, color="0.5", linestyle="--", label="Poisson")
        burst.set(xlabel="window, s (logarithmic)", ylabel="variance / mean of counts", title="Burstiness: index of dispersion")
        burst.legend(loc="upper left")
    else:
        for axes in (rate, burst):
            axes.text(0.5, 0.5, "no arrival times", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()

    for values, label, colour in ((table.prompt_tokens[ok], "prompt", _INK[0]), (table.output_tokens[ok], "output", _INK[1])):
        if len(values):
            shown = np.sort(values)[np.linspace(0, len(values) - 1, min(len(values), 2000)).astype(np.int64)]
            lengths.plot(np.maximum(shown, 1), np.linspace(0, 1, len(shown)), color=colour, label=f"{label} (mean {values.mean():.0f})")
    lengths.set(xscale="log", xlabel="tokens (logarithmic)", ylabel="fraction of requests", title="Lengths (cumulative)", ylim=(0, 1))
    if ok.any():
        lengths.legend(loc="upper left")
        x, y = np.log10(np.maximum(table.prompt_tokens[ok], 1)), np.log10(table.output_tokens[ok])
        image = joint.hexbin(x, y, gridsize=40, bins="log", mincnt=1, cmap="Blues", linewidths=0)
        figure.colorbar(image, ax=joint, label="requests per cell")
        for axis in (joint.xaxis, joint.yaxis):
            axis.set_major_formatter(lambda v, _: f"{10**v:.0f}" if v == int(v) else "")
    joint.set(xlabel="prompt tokens (logarithmic)", ylabel="output tokens (logarithmic)", title="Joint lengths")
    for axes in (rate, burst, lengths, joint):
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as e:
        raise OutputError(f"{path}: the plot cannot be written ({e})") from None
    return path
