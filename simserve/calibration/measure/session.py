"""A measurement from start to end: plan, resume, measure, count what fails, write the tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from simserve.calibration.measure.attention_kernels import best_for_measuring
from simserve.calibration.measure.collectives import LIBRARY, CollectiveError, CollectiveGroup
from simserve.calibration.measure.device_facts import write_facts
from simserve.calibration.measure.devices import TorchDevice, open_device
from simserve.calibration.measure.environment import DRIFT_WARNING_PERCENT, ClockCheck, describe, driver_facts, write_environment
from simserve.calibration.measure.journal import OK, Journal
from simserve.calibration.measure.model_shapes import Shapes, shapes_of
from simserve.calibration.measure.operators import PREPARE
from simserve.calibration.measure.options import MeasureOptions
from simserve.calibration.measure.plan import QUICK_ROWS, TOP_LEVEL, Planner
from simserve.calibration.measure.points import COLLECTIVES, Point
from simserve.calibration.measure.progress import Progress, duration
from simserve.calibration.measure.random_data import RandomData
from simserve.calibration.measure.sizes import scale_of
from simserve.calibration.measure.table_files import write_tables
from simserve.calibration.measure.timing import TimingRule, time_calls
from simserve.calibration.measure.workbench import UnsupportedError, Workbench
from simserve.errors import SimserveError

_CLOCK_EVERY_S = 60.0
_CPU_RANKS = 2
OUT_OF_MEMORY = "out of memory"


class DeviceLostError(SimserveError):
    """A kernel broke the device for this process. What was measured before is kept, and the same command goes on after it."""


@dataclass(slots=True)
class MeasureResult:
    """What a call of `measure` did.

    measured, resumed  points measured now, and found in the journal. failures: reason -> points (of both).
    left   points not reached (time budget, interruption). tables: file name -> rows. notes: shapes that cannot be measured.
    """

    measured: int = 0
    resumed: int = 0
    left: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    tables: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drift_percent: float = 0.0
    interrupted: bool = False


def measure(options: MeasureOptions, stream: TextIO | None = None) -> MeasureResult:
    """Measure what `options` say into `options.out`: tables, environment.json and the journal that a second call resumes from.

    Ctrl-C ends it early with everything measured so far written. Raises ConfigError (absent device or PyTorch, a journal of another
    machine), OutputError, ModelError for a layout that is impossible, and DeviceLostError after a fault that no further kernel survives.
    """
    device = open_device(options.device)
    shapes = _model_shapes(options)
    points = planned(options, device, shapes)
    facts = describe(device)
    identity = {"device": device.name, "torch": str(device.torch.__version__)}
    journal = Journal(options.out, identity)
    result = MeasureResult(notes=tuple(shapes.notes) if shapes else ())
    todo = [p for p in points if not _settled(journal, p, options.retry_failed)]
    result.resumed = len(points) - len(todo)
    progress = Progress(len(todo), stream, options.time_budget_s)
    progress.say(f"{device.name}: {len(points):,} points, {result.resumed:,} already measured; into {options.out}")
    for note in result.notes:
        progress.say(f"note: {note}")
    started = datetime.now(UTC)
    run = _Run(options, device, journal, result, progress)
    try:
        run.all(todo)
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        wanted = {p.key for p in points}
        records = {key: record for key, record in journal.records.items() if key in wanted or record["status"] == OK}
        result.failures = Counter(r["status"] for r in records.values() if r["status"] != OK)
        result.left = sum(p.key not in journal.records for p in points)
        result.drift_percent = run.clock.drift_percent() if run.clock else 0.0
        source = _source(facts, started)
        result.tables = write_tables(options.out, records.values(), f"torch {device.torch.__version__}", source)
        write_facts(options.out, records.values(), facts)
        write_environment(options.out, facts | _summary(options, result, run, started, device))
        journal.close()
    if result.drift_percent > DRIFT_WARNING_PERCENT:
        moved = f"the device's speed moved by {result.drift_percent:.1f} % while measuring"
        progress.say(f"warning: {moved} (see clock_checks in environment.json)")
    return result


def planned(options: MeasureOptions, device: TorchDevice, shapes: Shapes | None = None) -> list[Point]:
    """The points that `measure` would take, in order."""
    most = options.max_ranks or (_CPU_RANKS if device.kind == "cpu" else device.count)
    groups = tuple(g for g in (2, 4, 8, 16) if g <= most)
    attention = options.attention or (best_for_measuring(device),)
    planner = Planner(scale_of(device.kind), options.dtypes or ("bf16",), options.modes(device.has_graphs), attention, groups)
    operators = tuple(o for o in options.operators if groups or o not in COLLECTIVES)
    return planner.points(operators, 0, shapes, least=QUICK_ROWS) if options.quick else planner.points(operators, TOP_LEVEL, shapes)


class _Run:
    """The loop over points, with what it holds: data on the device, the process group of the collectives, the clock check."""

    def __init__(self, options: MeasureOptions, device: TorchDevice, journal: Journal, result: MeasureResult, progress: Progress) -> None:
        self.options, self.device, self.journal, self.result, self.progress = options, device, journal, result, progress
        self.bench = Workbench(device, RandomData(device, options.seed))
        point_s = min(1.0, (options.time_budget_s or 600.0) / 100.0)
        self.rule = TimingRule(repeats=options.repeats, point_s=point_s, flush_l2=options.flush_l2)
        self.clock: ClockCheck | None = None
        self.group: CollectiveGroup | None = None
        self.failed_groups: dict[int, str] = {}
        self.start_s = time.monotonic()

    def all(self, todo: list[Point]) -> None:
        """Measure points until they, or the time, are used up."""
        if not todo:
            return
        self.clock = ClockCheck(self.device)
        failed = 0
        try:
            for done, p in enumerate(self._in_time(todo)):
                self.progress.update(done, failed, p)
                record = self._one(p)
                self.journal.add(p.key, {"operator": p.operator, "inputs": p.values, "graphs": self.device.has_graphs, **record})
                self.result.measured += record["status"] == OK
                failed += record["status"] != OK
                if record.get("fault") and not self.device.healthy():
                    raise DeviceLostError(
                        f"the device stopped working at [{p}]: {record['status']}. What was measured before is kept in "
                        f"{self.options.out}; the same command goes on after this point"
                    )
            self.clock.take(self._elapsed_s())
        finally:
            if self.group is not None:
                self.group.close()

    def _in_time(self, todo: list[Point]) -> Iterator[Point]:
        assert self.clock is not None
        next_clock_s = 0.0
        for p in todo:
            elapsed_s = self._elapsed_s()
            if self.options.time_budget_s is not None and elapsed_s > self.options.time_budget_s:
                left = duration(self.options.time_budget_s)
                self.progress.say(f"the time budget of {left} is used up; run the same command again to go on")
                return
            if elapsed_s >= next_clock_s:
                self.clock.take(elapsed_s)
                next_clock_s = elapsed_s + _CLOCK_EVERY_S
            yield p

    def _one(self, p: Point) -> dict[str, Any]:
        """The record of one point: a time, or why there is none."""
        try:
            if p.operator in COLLECTIVES:
                timing = self._collective(p)
                kernel, facts = LIBRARY[self.device.kind], {}
            else:
                prepared = PREPARE[p.operator](self.bench, p)
                graph = p.values.get("mode") == "graph"
                if graph and not prepared.capturable:
                    raise UnsupportedError("this kernel cannot be captured in a graph")
                timing = time_calls(self.device, prepared.calls, self.rule, graph)
                kernel, facts = prepared.kernel, prepared.facts
            return {"status": OK, **timing._asdict(), "kernel": kernel, "facts": facts}
        except UnsupportedError as problem:
            return {"status": f"not supported: {problem}"}
        except CollectiveError as problem:
            return {"status": f"collective failed: {problem}"}
        except (RuntimeError, ValueError, NotImplementedError, MemoryError, AssertionError) as problem:
            if self.device.is_out_of_memory(problem):
                problem.__traceback__ = None  # frames hold the tensors that filled the memory
                with suppress(RuntimeError):
                    self.bench.data.release()
                return {"status": OUT_OF_MEMORY}
            return {"status": f"failed: {_line(problem)}", "fault": True}

    def _collective(self, p: Point) -> Any:
        ranks = p.values["num_gpus"]
        if ranks in self.failed_groups:
            raise CollectiveError(self.failed_groups[ranks])
        if self.group is None or self.group.ranks != ranks or not self.group.alive:
            if self.group is not None:
                self.group.close()
                self.group = None
            try:
                self.group = CollectiveGroup(self.device.kind, ranks)
            except CollectiveError as problem:
                self.failed_groups[ranks] = str(problem)
                raise
        return self.group.measure(p)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.start_s


def _settled(journal: Journal, p: Point, retry_failed: bool) -> bool:
    record = journal.records.get(p.key)
    return record is not None and (record["status"] == OK or not retry_failed)


def _model_shapes(options: MeasureOptions) -> Shapes | None:
    if not options.models:
        return None
    from simserve.model.library import load_model
    from simserve.model.parallel import Parallel

    layouts = []
    for name in options.models:
        model = load_model(name)
        layouts += [(model, Parallel(tp=tp, ep=options.ep if model.experts else 1)) for tp in options.tp]
    return shapes_of(layouts, options.dtypes)


def _source(facts: dict[str, Any], started: datetime) -> str:
    driver = facts["driver"].get("driver_version", "")
    where = f"{facts['device']}{f', driver {driver}' if driver else ''}, torch {facts['torch']}"
    return f"simserve {facts['simserve']} calibrate measure: {where}, {started:%Y-%m-%d}"


def _summary(options: MeasureOptions, result: MeasureResult, run: _Run, started: datetime, device: TorchDevice) -> dict[str, Any]:
    chosen = {name: getattr(options, name) for name in options.__slots__}
    return {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: str(value) if name == "out" else value for name, value in chosen.items()},
        "points": {"measured_now": result.measured, "resumed": result.resumed, "left": result.left},
        "failures": dict(sorted(result.failures.items())),
        "tables": result.tables,
        "clock_checks": run.clock.samples if run.clock else [],
        "clock_drift_percent": round(result.drift_percent, 2),
        "driver_at_end": driver_facts(device),
    }


def _line(problem: BaseException) -> str:
    text = str(problem).strip()
    return f"{type(problem).__name__}: {text.splitlines()[0][:160]}" if text else type(problem).__name__
