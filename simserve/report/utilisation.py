"""How busy the instances were: averages over simulated time, from the spans of the lanes and from the request columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simserve.engine.records import F64, I64, InstanceInfo, LaneLog, RunRecords, lanes_that_ran
from simserve.report.drafts import step_tokens
from simserve.report.window import Window


def span_end_s(lane: LaneLog) -> F64:
    """When each span of the lane ended."""
    end_s: F64 = lane.step_end_s[lane.span_first_step + lane.span_steps - 1]
    return end_s


def busy_s(lanes: list[LaneLog], window: Window) -> float:
    """Seconds of the window in which at least one of the lanes ran a step."""
    start = np.concatenate([lane.span_start_s for lane in lanes])
    end = np.concatenate([span_end_s(lane) for lane in lanes])
    if len(lanes) > 1:
        order = np.argsort(start, kind="stable")
        start, end = start[order], np.maximum.accumulate(end[order])
        start = np.maximum(start, np.concatenate([[-math.inf], end[:-1]]))
    return float(window.overlap_s(start, end).sum())


def instance_use(records: RunRecords, window: Window) -> list[dict[str, Any]]:
    """For each instance: busy fraction, KV use, requests and tokens per step, steps. NaN where nothing ran in the window."""
    rows = []
    for info, lanes in zip(records.instances, lanes_that_ran(records.lanes, len(records.instances)), strict=True):
        use = Use()
        if lanes and window.length_s > 0:
            use.add(lanes, window, busy_s(lanes, window))
        rows.append(use.row(info, window))
    return rows


_USE_KEYS = (
    "busy_fraction",
    "kv_used_mean",
    "kv_used_max",
    "batch_requests_mean",
    "batch_requests_max",
    "step_tokens_mean",
    "step_s_mean",
    "steps",
)


class Use:
    """What an instance did in a window, added up: seconds in which it was busy, seconds of its steps (of all lanes), and over these the
    integrals of KV blocks, requests and tokens of a step; the most of blocks and requests; steps."""

    __slots__ = ("block_s", "busy_s", "most_blocks", "most_requests", "request_s", "step_s", "steps", "token_s")

    def __init__(self) -> None:
        self.busy_s = self.step_s = self.block_s = self.request_s = self.token_s = self.most_requests = 0.0
        self.most_blocks = self.steps = 0

    def add(self, lanes: list[LaneLog], window: Window, busy_s: float) -> None:
        """Steps of its lanes, and the seconds in which it was busy (`busy_s`)."""
        time = np.concatenate([window.overlap_s(lane.span_start_s, span_end_s(lane)) for lane in lanes])
        blocks = np.concatenate([lane.span_kv_blocks for lane in lanes])
        requests = np.concatenate([lane.span_decode_requests + lane.sliced()[0] for lane in lanes])
        tokens = np.concatenate([step_tokens(lane) for lane in lanes])
        self.busy_s += busy_s
        self.step_s += float(time.sum())
        self.block_s += float((blocks * time).sum())
        self.request_s += float((requests * time).sum())
        self.token_s += float((tokens * time).sum())
        seen = time > 0
        self.most_blocks = max(self.most_blocks, int(blocks[seen].max(initial=0)))
        self.most_requests = max(self.most_requests, float(requests[seen].max(initial=0)))
        for lane in lanes:
            first = np.searchsorted(lane.step_end_s, window.start_s, side="left")
            self.steps += int(np.searchsorted(lane.step_end_s, window.end_s, side="right") - first)

    def row(self, info: InstanceInfo, window: Window) -> dict[str, Any]:
        """The entry of an instance in a summary. NaN where nothing ran in the window."""
        row: dict[str, Any] = {"name": info.name, "policy": info.policy, "devices": info.devices}
        row.update(dict.fromkeys(_USE_KEYS, math.nan))
        if window.length_s == 0:
            return row
        if not self.step_s:
            return row | {"busy_fraction": 0.0, "kv_used_mean": 0.0, "kv_used_max": 0.0, "steps": 0}
        busy, blocks = self.busy_s / window.length_s, info.kv_blocks
        return row | {
            "busy_fraction": busy,
            "kv_used_mean": self.block_s / self.step_s / blocks * busy if blocks else math.nan,
            "kv_used_max": self.most_blocks / blocks if blocks else math.nan,
            "batch_requests_mean": self.request_s / self.step_s,
            "batch_requests_max": self.most_requests,
            "step_tokens_mean": self.token_s / self.step_s,
            "step_s_mean": self.step_s / self.steps if self.steps else math.nan,
            "steps": self.steps,
        }


def compute_utilisation(records: RunRecords) -> float:
    """Model FLOPs of the computed tokens over what the devices could have done in the whole run; NaN when FLOPs were not counted."""
    useful = records.counters.get("useful_flops", math.nan)
    possible = sum(info.peak_flops_per_s for info in records.instances) * records.end_s
    return useful / possible if possible > 0 else math.nan


def waiting_intervals(records: RunRecords) -> tuple[F64, F64]:
    """From when to when each request waited for its first step; requests that never got one wait until their verdict or the end."""
    r = records.requests
    until = np.where(np.isnan(r.scheduled_s), np.where(np.isnan(r.finish_s), records.end_s, r.finish_s), r.scheduled_s)
    known = ~np.isnan(r.released_s)
    return r.released_s[known], until[known]


def system_intervals(records: RunRecords) -> tuple[F64, F64]:
    """From when to when each request was in the system (waiting or running)."""
    r = records.requests
    known = ~np.isnan(r.released_s)
    return r.released_s[known], np.where(np.isnan(r.finish_s), records.end_s, r.finish_s)[known]


def count_over_time(from_s: F64, to_s: F64, window: Window) -> tuple[float, float]:
    """(time average, maximum) of the number of intervals that are open, over the window; NaN for an empty window."""
    if window.length_s == 0:
        return math.nan, math.nan
    mean = float(window.overlap_s(from_s, to_s).sum()) / window.length_s
    open_ = to_s > from_s
    time, level = level_steps(from_s[open_], to_s[open_])
    if not len(time):
        return mean, 0.0
    held_until = np.append(time[1:], math.inf)
    in_window = (held_until > window.start_s) & (time < window.end_s)
    return mean, float(level[in_window].max()) if bool(in_window.any()) else 0.0


def level_steps(from_s: F64, to_s: F64) -> tuple[F64, I64]:
    """Times at which the number of open intervals changes, and the number from then on. Simultaneous changes are one."""
    time = np.concatenate([from_s, to_s])
    change = np.concatenate([np.ones(len(from_s), dtype=np.int64), -np.ones(len(to_s), dtype=np.int64)])
    order = np.argsort(time, kind="stable")
    time, level = time[order], np.cumsum(change[order])
    last_at_time = np.append(time[1:] != time[:-1], True)[: len(time)]
    return time[last_at_time], level[last_at_time]
