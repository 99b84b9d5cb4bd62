"""The figures of a run whose records come in pieces, added up piece by piece."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simserve.catalogue import METRICS
from simserve.engine.records import LaneLog, Piece, RunRecords, Status
from simserve.report.cluster import served_by
from simserve.report.energy import Meters, expert_figures, metered_energy
from simserve.report.metrics import (
    ALL_CLASSES,
    Measurement,
    class_masks,
    mean_use,
    preemption,
    produced,
    rates,
    request_counts,
    slo_counts,
    slo_figures,
)
from simserve.report.money import Tokens
from simserve.report.prefix_hits import hit_figures, prefix_hits
from simserve.report.saturation import judged, unjudged
from simserve.report.streamed.levels import Level
from simserve.report.streamed.sketch import Sketch
from simserve.report.summary import Said
from simserve.report.utilisation import Use, span_end_s, system_intervals, waiting_intervals
from simserve.report.window import Window, measured_window


class Totals:
    """What a summary needs of the pieces seen so far. Counts and totals are exact, percentiles within `sketch.RELATIVE_ERROR`.

    limits    the SLO, as in `measure`
    warmup_s  seconds at the beginning that are not measured
    costs     the cost model of each instance
    """

    def __init__(self, limits: Mapping[str, Mapping[str, float]], warmup_s: float, costs: Sequence[Any]) -> None:
        self._limits, self._warmup_s = limits, warmup_s
        self._window = Window(warmup_s, math.inf)
        self._latency: dict[str, dict[str, Sketch]] = {}
        self._slo: dict[str, dict[str, int]] = {}
        self._counts: dict[str, Any] = {}
        """Groups of counts by what they are of, added up."""
        self._prefix: dict[str, Any] | None = None
        self._served: dict[str, Any] = {}
        self._waiting, self._in_system = Level(warmup_s), Level(warmup_s)
        self._released_s = (math.inf, -math.inf)
        self._released = 0
        self._use = [Use() for _ in costs]
        self._busy = [Busy() for _ in costs]
        self.meters = Meters(costs)
        self.tokens = Tokens(0, 0)
        self._lengths = np.zeros(2)

    @property
    def requests(self) -> int:
        """Requests seen so far."""
        return int(self._counts.get("requests", {}).get("total", 0))

    def mean_lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens that were asked for."""
        prompt, output = (self._lengths / max(self.requests, 1)).tolist()
        return prompt, output

    def add(self, piece: Piece, m: Measurement) -> None:
        """A piece and what was measured of its requests (without statistics)."""
        records = piece.records
        for name, rows in class_masks(records, single=True).items():
            if name != ALL_CLASSES:  # every request has one class: their sketches together are that of all
                self._add_latency(name, m, rows & m.in_window)
            if m.slo is not None:
                self._slo[name] = _added(self._slo.get(name, {}), slo_counts(m, rows))
        for name, counts in (("requests", request_counts(m)), ("produced", produced(m)), ("preemption", preemption(m))):
            self._counts[name] = _added(self._counts.get(name, {}), counts)
        if (hits := prefix_hits(m)) is not None:
            self._prefix = _added(self._prefix or {}, {name: value for name, value in hits.items() if name != "hit_rate"})
        self._served = _added(self._served, served_by(records))
        self._waiting.add(*waiting_intervals(records), piece.known_s)
        self._in_system.add(*system_intervals(records), piece.known_s)
        released = records.requests.released_s[~np.isnan(records.requests.released_s)]
        if len(released):
            self._released += len(released)
            first, last = self._released_s
            self._released_s = min(first, float(released.min())), max(last, float(released.max()))
        self.tokens = Tokens(*(sum(pair) for pair in zip(self.tokens, Tokens.of(records), strict=True)))
        self._lengths += (records.table.prompt_tokens.sum(), records.table.output_tokens.sum())
        self.add_steps(piece.lanes, piece.begun_s)

    def _add_latency(self, name: str, m: Measurement, selected: np.ndarray) -> None:
        of_class = self._latency.setdefault(name, {metric.name: Sketch() for metric in METRICS if not metric.speculative})
        for metric in METRICS:
            if metric.speculative:
                continue
            if metric.over == "request":
                of_class[metric.name].add(m.requests.column(metric.name)[selected])
            else:
                for values, weights in m.gaps.weighted(selected, metric.over == "emission"):
                    of_class[metric.name].add(values, weights)

    def add_steps(self, lanes: Sequence[LaneLog], begun_s: Sequence[float]) -> None:
        """Steps of all lanes; those still to come begin at `begun_s` or later."""
        whole = []
        for number, (use, busy) in enumerate(zip(self._use, self._busy, strict=True)):
            own = [(lane, begun) for lane, begun in zip(lanes, begun_s, strict=True) if lane.instance == number]
            ran = [lane for lane, _ in own if len(lane.span_steps)]
            in_window_s, in_run_s = busy.add([lane for lane, _ in own], min(begun for _, begun in own), self._window)
            whole.append(in_run_s)
            if ran:
                use.add(ran, self._window, in_window_s)
            else:
                use.busy_s += in_window_s
        self.meters.add(lanes, whole)

    def said(self, records: RunRecords) -> Said:
        """What a summary says, when the last piece has been added. `records`: of the run as a whole, without its requests and steps."""
        window = measured_window(records, self._warmup_s)
        self._waiting.close()
        self._in_system.close()
        length_s = window.length_s
        none = math.nan
        queue = {}
        for name, level in (("waiting", self._waiting), ("in_system", self._in_system)):
            queue[f"{name}_mean"] = level.integral_s / length_s if length_s else none
            queue[f"{name}_max"] = float(level.most) if length_s else none
        classes = sorted(self._latency)
        shown = [ALL_CLASSES, *(classes if len(classes) > 1 else ())]
        metrics = self._latency[classes[0]]
        self._latency[ALL_CLASSES] = {metric: Sketch.of_all(self._latency[name][metric] for name in classes) for metric in metrics}
        requests, use = self._counts["requests"], [use.row(info, window) for use, info in zip(self._use, records.instances, strict=True)]
        first, last = self._released_s
        unfinished = requests[Status.UNFINISHED.name.lower()]
        quarters = self._waiting.means(np.linspace(first, last, 5)) if last > first else ()
        hits = self._prefix
        return Said(
            window=window,
            requests=requests,
            latency={name: {metric: sketch.stats() for metric, sketch in self._latency[name].items()} for name in shown},
            throughput=rates(self._counts["produced"], window),
            slo=slo_figures({name: self._slo[name] for name in shown}, self._limits, records.table.slo_class.names, window)
            if self._slo
            else None,
            utilisation=mean_use(records, use),
            queue=queue,
            preemption=self._counts["preemption"],
            prefix_cache=None if hits is None else hit_figures(*hits.values()),
            speculation=None,
            saturation=judged(quarters, self._released, unfinished) if quarters else unjudged(unfinished),
            limits=self._limits,
            released_in_window=requests["in_window"] > 0,
            busy_s=self.meters.busy_s,
            served=self._served,
        )

    def energy(self, records: RunRecords) -> dict[str, Any] | None:
        """As `report.energy.run_energy`; the power of a device is bounded piece by piece."""
        return metered_energy(records, self.meters, self.tokens)

    def experts(self) -> dict[str, Any] | None:
        """As `report.energy.run_experts`."""
        return expert_figures(self.meters.expert_bytes, self._counts["requests"][Status.COMPLETED.name.lower()], self.tokens)


class Busy:
    """Seconds in which at least one lane of an instance ran a step, from steps that come in pieces."""

    __slots__ = ("_end_s", "_later")

    def __init__(self) -> None:
        self._end_s = -math.inf
        self._later = (np.empty(0), np.empty(0))
        """Beginnings and ends of spans after which another lane may still tell of an earlier one."""

    def add(self, lanes: Sequence[LaneLog], begun_s: float, window: Window) -> tuple[float, float]:
        """More steps; the seconds that they add, in the window and in all. Steps still to come begin at `begun_s` or later."""
        start = np.concatenate([self._later[0], *(lane.span_start_s for lane in lanes)])
        end = np.concatenate([self._later[1], *(span_end_s(lane) for lane in lanes)])
        ready = start < begun_s
        self._later = start[~ready], end[~ready]
        start, end = start[ready], end[ready]
        if not len(start):
            return 0.0, 0.0
        order = np.argsort(start, kind="stable")
        until = np.maximum.accumulate(np.concatenate([[self._end_s], end[order]]))
        start, end = np.maximum(start[order], until[:-1]), until[1:]
        self._end_s = float(until[-1])
        return float(window.overlap_s(start, end).sum()), float((end - start).sum())


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Counts added up by name, those of groups within them too."""
    return {
        key: _added(one.get(key, {}), other.get(key, {}))
        if isinstance(one.get(key, other.get(key)), Mapping)
        else one.get(key, 0) + other.get(key, 0)
        for key in {**one, **other}
    }
