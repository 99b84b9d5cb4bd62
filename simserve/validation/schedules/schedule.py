"""What an engine's scheduler did with a workload, as small as it can be said, and the recorder that a driver feeds step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simserve.validation.schedules.workload import Outcome

Run = tuple[int, int, int]
"""First step, steps, tokens in each: consecutive steps in which a request computed equally many tokens."""

ENGINES = {
    "vllm": "vLLM",
    "vllm-ascend": "vLLM-Ascend",
    "sglang": "SGLang",
    "lightllm": "LightLLM",
    "nano-vllm": "nano-vllm",
    "mini-sglang": "mini-sglang",
}
"""Engines whose schedules are known of: as files name them, and as they name themselves (and engine profiles name them)."""

DIGITS = 6
"""Times are kept to the microsecond: a thousandth of any step."""


def seconds(s: float) -> str:
    """A time to the microsecond, without zeros at the end."""
    return f"{round(s, DIGITS):.{DIGITS}f}".rstrip("0").rstrip(".") + " s"


@dataclass(frozen=True, slots=True)
class RequestSchedule:
    """What happened to one request. Steps are numbered from 0 in the order in which they were planned; a plan that computes nothing has no
    number.

    runs         which tokens in which steps, increasing; None = not recorded
    admissions   (step, tokens found in the prefix cache) each time it was taken from the waiting queue; None = not recorded
    preemptions  steps whose plans took its KV away; None = not recorded
    first_token_s, finish_s   ends of the steps that gave its first and its last token; None where there was none
    """

    first_token_s: float | None
    finish_s: float | None
    ended: Outcome = "finished"
    runs: tuple[Run, ...] | None = None
    admissions: tuple[tuple[int, int], ...] | None = None
    preemptions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What an engine did: by row of the workload's requests, and when its steps began.

    steps        (start of the first, seconds from one to the next, how many): runs of steps at equal distances; None = not recorded
    free_blocks  (free KV blocks after a plan, steps): runs; None = not recorded. Shown beside a difference, never compared
    """

    engine: str
    version: str
    requests: tuple[RequestSchedule, ...]
    steps: tuple[tuple[float, float, int], ...] | None = None
    free_blocks: tuple[tuple[int, int], ...] | None = None

    def step_starts(self) -> list[float]:
        """Seconds at which each step was planned."""
        return [start + k * spacing for start, spacing, count in self.steps or () for k in range(count)]


@dataclass(slots=True)
class _Recorded:
    runs: list[list[int]] = field(default_factory=list)
    admissions: list[tuple[int, int]] = field(default_factory=list)
    preemptions: list[int] = field(default_factory=list)
    first_token_s: float | None = None
    finish_s: float | None = None
    ended: Outcome = "unfinished"


class ScheduleRecorder:
    """Takes down what an engine does, in the order in which it does it.

    recorder = ScheduleRecorder("vllm", "0.11.0", len(workload.requests))
    recorder.step(now, {0: 512, 3: 1}, preempted=[7], admitted={0: 64}, free_blocks=12)
    recorder.first_token(3, now + step_s)
    recorder.finished(3, later)
    schedule = recorder.schedule()
    """

    def __init__(self, engine: str, version: str, requests: int) -> None:
        self.engine, self.version = engine, version
        self._rows = [_Recorded() for _ in range(requests)]
        self._starts: list[float] = []
        self._free: list[int | None] = []

    def step(
        self,
        start_s: float,
        tokens: Mapping[int, int],
        preempted: Iterable[int] = (),
        admitted: Mapping[int, int] | None = None,
        free_blocks: int | None = None,
    ) -> None:
        """The plan of a step that starts at `start_s`: `tokens` by row, the rows it preempted, the rows it took from the waiting queue
        with the tokens that the prefix cache had of them, KV blocks free afterwards. Of a plan that computes nothing, what it preempted
        and admitted stands at the next step."""
        number = len(self._starts)
        for row in preempted:
            self._rows[row].preemptions.append(number)
        for row, cached in (admitted or {}).items():
            self._rows[row].admissions.append((number, int(cached)))
        given = {row: int(count) for row, count in tokens.items() if count > 0}
        if not given:
            return
        for row, count in given.items():
            runs = self._rows[row].runs
            if runs and runs[-1][0] + runs[-1][1] == number and runs[-1][2] == count:
                runs[-1][1] += 1
            else:
                runs.append([number, 1, count])
        self._starts.append(float(start_s))
        self._free.append(None if free_blocks is None else int(free_blocks))

    def first_token(self, row: int, s: float) -> None:
        """A request's first output token appeared; later calls for the same request change nothing."""
        if self._rows[row].first_token_s is None:
            self._rows[row].first_token_s = round(s, DIGITS)

    def finished(self, row: int, s: float) -> None:
        """A request's last token appeared."""
        self._rows[row].finish_s, self._rows[row].ended = round(s, DIGITS), "finished"

    def aborted(self, row: int) -> None:
        """A request is gone because its client gave up."""
        self._rows[row].ended = "aborted"

    def refused(self, row: int) -> None:
        """The engine would not take a request."""
        self._rows[row].ended = "refused"

    def schedule(self) -> Schedule:
        """What was recorded."""
        rows = tuple(
            RequestSchedule(
                one.first_token_s,
                one.finish_s,
                one.ended,
                tuple((first, steps, tokens) for first, steps, tokens in one.runs),
                tuple(one.admissions),
                tuple(one.preemptions),
            )
            for one in self._rows
        )
        known = all(blocks is not None for blocks in self._free)
        return Schedule(self.engine, self.version, rows, _spaced(self._starts), _repeated(self._free) if known else None)


def _spaced(starts: list[float]) -> tuple[tuple[float, float, int], ...]:
    """Times as runs of equal distances."""
    runs: list[list[float]] = []
    for start in starts:
        if runs:
            first, spacing, count = runs[-1]
            if count == 1:
                runs[-1][1:] = [round(start - first, DIGITS), 2]
                continue
            if abs(first + spacing * count - start) < 10**-DIGITS / 2:
                runs[-1][2] += 1
                continue
        runs.append([round(start, DIGITS), 0.0, 1])
    return tuple((first, spacing, int(count)) for first, spacing, count in runs)


def _repeated(values: Iterable[int | None]) -> tuple[tuple[int, int], ...]:
    """Values as runs (value, how often)."""
    runs: list[list[int]] = []
    for value in values:
        assert value is not None
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return tuple((value, count) for value, count in runs)
