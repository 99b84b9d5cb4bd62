"""Plots of how the system was used: queue, batch, KV cache, throughput, step times."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from simserve.engine.records import F64
from simserve.report.drafts import step_tokens
from simserve.report.metrics import Measurement
from simserve.report.plots.panels import Panels
from simserve.report.plots.style import COLOURS, legend_above, log_numbers, nothing, one, style, time_unit
from simserve.report.series import (
    bin_edges,
    kv_used_in_bins,
    level_in_bins,
    output_tokens_in_bins,
    prompt_tokens_in_bins,
    running_in_bins,
)
from simserve.report.utilisation import waiting_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LINES = 6
_MAX_STEPS = 6000


def queue_and_batch_panels(m: Measurement) -> Panels:
    """Requests waiting for their first step (mean and peak per bin), and requests in the steps of each instance, over simulated time."""
    return Panels({"waiting": partial(_waiting, m), "batch": partial(_batch, m)}, ("waiting", "batch"), 1, (9.2, 5.0), True)


def _waiting(m: Measurement, ax: Axes) -> None:
    edges, middle, unit = _time_axis(m)
    mean, peak = level_in_bins(*waiting_intervals(m.records), edges)
    ax.fill_between(middle, mean, peak, color=COLOURS[4], alpha=0.4, linewidth=0, step="mid", label="peak in the bin")
    ax.plot(middle, mean, color=COLOURS[0], drawstyle="steps-mid", label="mean")
    ax.set_title("Waiting requests")
    _from_zero(ax, "requests", unit)
    legend_above(ax)


def _batch(m: Measurement, ax: Axes) -> None:
    edges, middle, unit = _time_axis(m)
    lines = {}
    for number, info in enumerate(m.records.instances):
        lanes = [running_in_bins(lane, edges) for lane in m.records.lanes if lane.instance == number]
        lines[info.name] = np.sum(lanes, axis=0) if lanes else np.zeros(len(middle))
    _lines(ax, middle, lines)
    ax.set_title("Requests in a step (time average)")
    _from_zero(ax, "requests", unit)


def kv_usage(m: Measurement, ax: Axes | None = None) -> Axes:
    """Fraction of each instance's KV blocks in use over time."""
    with style():
        edges, middle, unit = _time_axis(m)
        ax = one(ax, (9.2, 3.0))
        _lines(ax, middle, {info.name: 100 * kv_used_in_bins(m.records, number, edges) for number, info in enumerate(m.records.instances)})
        ax.set_title("KV cache in use")
        ax.set_ylabel("% of blocks")
        ax.set_ylim(0, 101)
        ax.set_xlabel(f"simulated time, {unit}")
        return ax


def throughput_panels(m: Measurement) -> Panels:
    """Prompt and output tokens per second, and requests released and finished per second, over simulated time."""
    return Panels({"tokens": partial(_token_rates, m), "requests": partial(_request_rates, m)}, ("tokens", "requests"), 1, (9.2, 5.0), True)


def _token_rates(m: Measurement, ax: Axes) -> None:
    edges, middle, unit = _time_axis(m)
    prompt, output = prompt_tokens_in_bins(m.records, edges), output_tokens_in_bins(m.records, m.gaps, edges)
    for tokens, label, colour in ((prompt, "prompt tokens computed", COLOURS[1]), (output, "output tokens", COLOURS[0])):
        ax.plot(middle, tokens / np.diff(edges), color=colour, drawstyle="steps-mid", label=label)
    ax.set_title("Token throughput")
    _from_zero(ax, "tokens/s", unit)
    legend_above(ax)


def _request_rates(m: Measurement, ax: Axes) -> None:
    edges, middle, unit = _time_axis(m)
    r = m.records.requests
    for times, label, colour in ((r.released_s, "released", COLOURS[5]), (r.finish_s, "ended", COLOURS[2])):
        ax.plot(middle, np.histogram(times[~np.isnan(times)], edges)[0] / np.diff(edges), color=colour, drawstyle="steps-mid", label=label)
    ax.set_title("Requests")
    _from_zero(ax, "requests/s", unit)
    legend_above(ax)


def step_time(m: Measurement, ax: Axes | None = None) -> Axes:
    """Time of a step against its tokens, for steps with and without prompt chunks (a regular sample of the spans)."""
    with style():
        ax = one(ax, (9.2, 3.6))
        tokens, seconds, mixed = [], [], []
        for lane in m.records.lanes:
            pick = np.arange(0, len(lane.span_steps), 1 + len(lane.span_steps) * len(m.records.lanes) // _MAX_STEPS)
            first = lane.span_first_step[pick]
            seconds.append(lane.step_end_s[first] - lane.span_start_s[pick])
            tokens.append(step_tokens(lane)[pick])
            mixed.append(lane.span_prefill_tokens[pick] > 0)
        if not sum(map(len, tokens)):
            nothing(ax, "no steps")
            return ax
        token, second, has_prefill = np.concatenate(tokens), np.concatenate(seconds), np.concatenate(mixed)
        for rows, label, colour, marker in (
            (~has_prefill, "decode only", COLOURS[0], "o"),
            (has_prefill, "with prompt chunks", COLOURS[1], "^"),
        ):
            ax.plot(token[rows], 1e3 * second[rows], marker, color=colour, markersize=3, alpha=0.35, markeredgewidth=0, label=label)
        log_numbers(ax.xaxis)
        ax.set_ylim(bottom=0)
        ax.set_title("Step time")
        ax.set_xlabel("tokens in the step")
        ax.set_ylabel("step time, ms")
        legend_above(ax)
        return ax


def _from_zero(ax: Axes, label: str, time_unit_name: str) -> None:
    ax.set_ylim(bottom=0)
    ax.set_ylabel(label)
    ax.set_xlabel(f"simulated time, {time_unit_name}")


def _time_axis(m: Measurement) -> tuple[F64, F64, str]:
    edges = bin_edges(m.records)
    unit_s, unit = time_unit(m.records.end_s)
    return edges, (edges[1:] + edges[:-1]) / 2 / unit_s, unit


def _lines(ax: Axes, middle: F64, lines: dict[str, F64]) -> None:
    """One line each; for many instances their mean and the band between the lowest and the highest."""
    if not lines:
        nothing(ax, "no instances")
        return
    if len(lines) <= _MAX_LINES:
        for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
            ax.plot(middle, values, color=colour, drawstyle="steps-mid", label=name)
    else:
        stack = np.stack(list(lines.values()))
        ax.fill_between(
            middle, stack.min(axis=0), stack.max(axis=0), color=COLOURS[4], alpha=0.4, linewidth=0, label="lowest to highest instance"
        )
        ax.plot(middle, stack.mean(axis=0), color=COLOURS[0], label=f"mean of {len(lines)} instances")
    if len(lines) > 1:
        legend_above(ax)
