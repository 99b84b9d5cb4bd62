"""Which pairs of a TTFT limit and a TPOT limit a given fraction of the requests meets: the border of what a system can promise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64
from simserve.report.plots.style import COLOURS, LIMIT_COLOUR, log_seconds, nothing, one, style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

_POINTS = 80
_SAMPLE = 40_000
_EDGE = 1.15
_MOST_INSIDE = 4


class Felt(NamedTuple):
    """TTFT and TPOT in seconds of the requests that count: released in the measured window, with an output to produce.

    Infinite where a request did not complete (it meets no limit), TPOT 0 where it has one token (it violates none).
    """

    ttft_s: F64
    tpot_s: F64

    @staticmethod
    def of(completed: NDArray[np.bool_], counts: NDArray[np.bool_], ttft_s: F64, tpot_s: F64) -> Felt:
        """From columns of all requests."""
        ttft = np.where(completed, ttft_s, math.inf)[counts]
        tpot = np.where(completed, np.nan_to_num(tpot_s, nan=0.0), math.inf)[counts]
        return Felt(ttft, tpot)

    @staticmethod
    def of_frame(requests: pd.DataFrame) -> Felt:
        """From the columns of requests.parquet."""
        counts = (requests["in_window"] & (requests["output_tokens"] > 0)).to_numpy(dtype=bool)
        columns = (requests[name].to_numpy(dtype=np.float64) for name in ("ttft_s", "tpot_s"))
        return Felt.of((requests["status"] == "completed").to_numpy(dtype=bool), counts, *columns)


class Curve(NamedTuple):
    """A line of the plot: the fraction of the requests of one run."""

    label: str
    felt: Felt
    fraction: float


def border(felt: Felt, fraction: float, points: int = _POINTS) -> tuple[F64, F64]:
    """(TPOT limits, smallest TTFT limit with which at least `fraction` of the requests meet both), in seconds; empty when no limits do.

    Runs of more than 40,000 requests are thinned to every k-th: this is for drawing.
    """
    every = 1 + len(felt.ttft_s) // _SAMPLE
    ttft, tpot = felt.ttft_s[::every], felt.tpot_s[::every]
    needed = math.ceil(fraction * len(ttft))
    order = np.argsort(tpot, kind="stable")
    ttft, tpot = ttft[order], tpot[order]
    finite = int(np.searchsorted(tpot, math.inf))
    if not needed or finite < needed:
        return np.empty(0), np.empty(0)
    ranks = np.unique(np.linspace(needed, finite, points).astype(np.int64))
    x = tpot[ranks - 1]
    y = np.array([np.partition(ttft[: np.searchsorted(tpot, limit, side="right")], needed - 1)[needed - 1] for limit in x])
    keep = (x > 0) & (y > 0) & np.isfinite(y)
    return x[keep], y[keep]


def fractions_of(felt: Felt) -> list[Curve]:
    """The curves of one run: what 50, 90 and 99 % of its requests meet."""
    return [Curve(f"{100 * fraction:.0f} % of requests", felt, fraction) for fraction in (0.5, 0.9, 0.99)]


def slo_frontier(curves: Sequence[Curve], limits: Mapping[str, float], whose: str = "the", ax: Axes | None = None) -> Axes:
    """The borders of the curves; limits above and to the right of one are met. The SLO's TPOT and TTFT limits are marked."""
    with style():
        ax = one(ax, (7.6, 4.0))
        borders = [border(curve.felt, curve.fraction) for curve in curves]
        lines = [(number, x, y) for number, (x, y) in enumerate(borders) if len(x)]
        slo = (limits["tpot_s"], limits["ttft_s"]) if {"tpot_s", "ttft_s"} <= limits.keys() else None
        right = _EDGE * max([*(float(x.max()) for _, x, _ in lines), slo[0] if slo else 0.0], default=1.0)
        top = _EDGE * max([*(float(y.max()) for _, _, y in lines), slo[1] if slo else 0.0], default=1.0)
        for number, x, y in lines:
            # The border goes straight up from its first point and to the right from its last.
            x, y = np.concatenate([x[:1], x, [right]]), np.concatenate([[top], y, y[-1:]])
            dashes = "-" if number < len(COLOURS) else "--"
            ax.step(x, y, where="post", label=curves[number].label, color=COLOURS[number % len(COLOURS)], linestyle=dashes)
        if not lines:
            nothing(ax, "no limits are met by so many requests")
        else:
            if slo:
                ax.plot(*slo, "+", label="the SLO", color=LIMIT_COLOUR, markersize=13, markeredgewidth=1.8, zorder=4)
            log_seconds(ax.xaxis)
            log_seconds(ax.yaxis)
            if len(curves) > _MOST_INSIDE:
                ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
            else:
                ax.legend()
        ax.set_title(f"Limits that {whose} requests meet")
        ax.set_xlabel("limit on TPOT")
        ax.set_ylabel("limit on TTFT")
        return ax
