"""vLLM's V1 engine core on a CPU: its own configuration, scheduler, KV cache and loop of steps, around an executor that computes nothing.

Real is everything that decides: `EngineCore` with its `step` and `step_with_batch_queue`, the scheduler class that it chooses, the grouping
of KV cache specs, the hashing of blocks. Ours are the executor (`vllm_executor`: one token for each sequence that is due one, after a
stated time) and the clock, which passes only where the engine would wait for a result or for a request. What is answered in the place of
parts that need a device is in `vllm_configuration` (`_as_on_a_gpu`, `_torch_before_vllm`, `_model`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simserve.validation.schedules.engines.vllm_configuration import configuration, imported, installed_version
from simserve.validation.schedules.engines.vllm_executor import Clock, executor_class
from simserve.validation.schedules.engines.vllm_limits import ServerLimits
from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from simserve.validation.schedules.schedule import ENGINES, Schedule, ScheduleRecorder
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

NAME = "vllm"

STOP_TOKEN = 7
"""The token that ends an answer; no prompt and no other answer has it."""

FIRST_TOKEN = 1000
"""Ids below it are kept for what has a meaning. Shared blocks come next, then what each request has of its own."""

PLAIN = ScheduleWorkload("plain", 0, ScheduleSettings(max_model_len=1024, kv_blocks=100), ())
"""Settings that every version starts with."""

MOST_PLANS = 20_000
"""Plans of a workload: far more than any here needs. An engine that makes more has caught itself in a circle."""

SMALL = ScheduleWorkload("small", 0, PLAIN.settings, (ScheduleRequest(0.0, 20, 3), ScheduleRequest(0.001, 30, 2)))
"""What every version serves."""

IDLE_PLANS = 2000
"""Plans in a row that compute nothing, at one time, after which the engine has nothing to do until the next event. More than any interval
that a workload states."""


def version() -> str:
    """Of the installed vLLM. Raises EngineUnavailable where there is none."""
    return installed_version(NAME)


def drive(workload: ScheduleWorkload) -> Schedule:
    """What the installed vLLM's scheduler does with a workload.

    Raises EngineUnavailable (missing, not importable, another interface), Unsupported (a setting that this version has no rule for).
    """
    return driven(workload, NAME, version(), lambda settings: configuration(settings, version()))


def driven(workload: ScheduleWorkload, engine: str, installed: str, configured: Callable[[ScheduleSettings], Any]) -> Schedule:
    """The same for an engine that is vLLM's but for its configuration, which `configured` makes. Raises as `drive`."""
    label = f"{ENGINES[engine]} {installed}"
    with _interface(label):
        try:
            run = _Run(workload, engine, installed, configured(workload.settings))
        except ValueError as refusal:  # what an engine raises for settings that it does not start with, if it starts with others
            _Run(PLAIN, engine, installed, configured(PLAIN.settings))
            raise Unsupported("settings", f"{label} does not start with them: {_sentence(refusal)}") from refusal
        try:
            return run.schedule()
        except Unsupported:
            raise
        except Exception as failure:  # the engine's own, if it serves others
            _Run(SMALL, engine, installed, configured(SMALL.settings)).schedule()
            raise Unsupported("workload", f"{label} fails itself: {_said(failure)}") from failure


def _said(error: BaseException) -> str:
    """What an error says, and where it was raised."""
    return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0] + f", {_where(error)}"


def _sentence(error: Exception) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    stated = [line for line in lines if line.startswith(("Value error,", "Assertion"))] or lines
    return stated[0].split(" [type=")[0].split(". ")[0] if stated else type(error).__name__


@contextmanager
def _interface(label: str) -> Iterator[None]:
    """What is not there, or not as this driver knows it, is a changed interface and said so: whatever the engine raises."""
    try:
        yield
    except (EngineUnavailable, Unsupported):
        raise
    except Exception as error:
        raise EngineUnavailable(f"{label}: its interface is not one that this driver knows: {_said(error)}") from error


def _where(error: BaseException) -> str:
    """File and line of the engine (or of the driver) that raised."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{'/'.join(Path(trace.tb_frame.f_code.co_filename).parts[-3:])} line {trace.tb_lineno}"


class _Run:
    """One workload through a fresh engine core."""

    def __init__(self, workload: ScheduleWorkload, engine: str, installed: str, config: Any) -> None:
        self._workload, self._clock, self._label = workload, Clock(), f"{ENGINES[engine]} {installed}"
        self._recorder = ScheduleRecorder(engine, installed, len(workload.requests))
        self._prompts = _prompts(workload)
        self._config = config
        self._executor = executor_class(workload, self._clock, STOP_TOKEN)
        engine_core = imported("vllm.v1.engine.core").EngineCore
        self._core = engine_core(self._config, self._executor, log_stats=False)
        self._scheduler = self._core.scheduler
        self._core.model_executor.known_tokens = lambda name: self._scheduler.requests[name].num_output_tokens
        self._planned = self._scheduler.schedule
        self._scheduler.schedule = self._plan
        self._arrivals = deque(enumerate(workload.requests))
        self._aborts = sorted((one.abort_s, row) for row, one in enumerate(workload.requests) if one.abort_s is not None)
        self._added: set[int] = set()
        if hasattr(self._core, "aborts_queue"):
            self._core.aborts_queue = _Aborts(self._due_aborts)
        self._limits = ServerLimits(self._config, workload) if workload.settings.max_queued or workload.settings.max_queued_tokens else None
        self._tokens, self._plans = 0, 0

    def schedule(self) -> Schedule:
        """Runs to the end."""
        idle = 0
        while True:
            if self._plans > MOST_PLANS:
                raise Unsupported("workload", f"{self._label} goes round without end: {MOST_PLANS} plans and requests still wait")
            self._arrive()
            if not self._busy() or idle > IDLE_PLANS:
                if not self._wait():
                    break
                idle = 0
                continue
            before = self._clock.now
            self._step()
            idle = 0 if self._clock.now > before or self._tokens else idle + 1
        return self._recorder.schedule()

    def _busy(self) -> bool:
        queue = self._core.batch_queue
        waiting = queue is not None and not (queue.empty() if hasattr(queue, "empty") else not queue)
        return bool(waiting or self._scheduler.has_requests())

    def _wait(self) -> bool:
        """To the next event; False where there is none."""
        events = [self._arrivals[0][1].arrival_s] if self._arrivals else []
        events += [self._aborts[0][0]] if self._aborts and self._scheduler.has_requests() else []
        if not events:
            return False
        self._clock.now = max(self._clock.now, min(events))
        return True

    def _arrive(self) -> None:
        while self._arrivals and self._arrivals[0][1].arrival_s <= self._clock.now:
            row, request = self._arrivals.popleft()
            self._added.add(row)
            if self._limits is not None and not self._limits.take(row):
                self._recorder.refused(row)
                continue
            self._add(row, request)
        gone = self._due_aborts()
        if gone:
            self._core.abort_requests(gone)

    def _due_aborts(self) -> list[str]:
        """Ids of requests that are there and whose clients have given up by now."""
        due = [row for abort_s, row in self._aborts if abort_s <= self._clock.now and row in self._added]
        if not due:
            return []
        self._aborts = [one for one in self._aborts if one[1] not in due]
        gone = [row for row in due if _name(row) in self._scheduler.requests]
        for row in gone:
            self._recorder.aborted(row)
            if self._limits is not None:
                self._limits.left(row)
        return [_name(row) for row in gone]

    def _add(self, row: int, request: ScheduleRequest) -> None:
        core_request = imported("vllm.v1.engine").EngineCoreRequest
        params = imported("vllm.sampling_params").SamplingParams
        sampling = params(max_tokens=request.most_output_tokens, stop_token_ids=[STOP_TOKEN], temperature=0.0, detokenize=False)
        known: dict[str, Any] = {
            "request_id": _name(row),
            "prompt_token_ids": self._prompts[row],
            "sampling_params": sampling,
            "arrival_time": request.arrival_s,
            "priority": request.priority,
        }
        names = core_request.__struct_fields__
        defaulted = len(core_request.__struct_defaults__)
        required = dict.fromkeys(names[: len(names) - defaulted])
        made = core_request(**{**required, **{name: value for name, value in known.items() if name in names}})
        if hasattr(self._core, "preprocess_add_request"):
            self._core.add_request(*self._core.preprocess_add_request(made))
        else:
            self._core.add_request(made)

    def _step(self) -> None:
        core = self._core
        self._tokens = 0
        if hasattr(core, "step_fn"):
            outputs, executed = core.step_fn()
            core.post_step(executed)
            outputs = list((outputs or {}).values())
        else:
            outputs = [core.step() if core.batch_queue is None else core.step_with_batch_queue()]
        for output in outputs:
            for one in output.outputs if output is not None else ():
                self._appeared(int(one.request_id), len(one.new_token_ids), one.finish_reason is not None)

    def _appeared(self, row: int, tokens: int, ended: bool) -> None:
        """Tokens of a request; what appears when its client has gone is not seen."""
        abort_s = self._workload.requests[row].abort_s
        if abort_s is not None and abort_s <= self._clock.now:
            if ended:
                self._recorder.aborted(row)
            return
        if tokens:
            self._recorder.first_token(row, self._clock.now)
            if self._limits is not None:
                self._limits.answered(row)
        if ended:
            self._recorder.finished(row, self._clock.now)
            if self._limits is not None:
                self._limits.left(row)

    def _plan(self, *arguments: Any) -> Any:
        """The scheduler's plan, taken down."""
        scheduler = self._scheduler
        before = [request.request_id for request in scheduler.running]
        plan = self._planned(*arguments)
        self._plans += 1
        after = {request.request_id for request in scheduler.running}
        preempted = [int(name) for name in before if name not in after]
        tokens = {int(name): count for name, count in plan.num_scheduled_tokens.items()}
        self._tokens = sum(tokens.values())
        free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        self._recorder.step(self._clock.now, tokens, preempted, _admitted(plan), free)
        return plan


def _name(row: int) -> str:
    """A request's id: in the order of rows, since priorities that are equal are told apart by it."""
    return f"{row:06d}"


class _Aborts:
    """What the engine core reads aborts from while a step runs: those that are due by the clock."""

    def __init__(self, due: Any) -> None:
        self._due = due
        self._found: list[str] = []

    def empty(self) -> bool:
        """Whether none is due."""
        self._found = self._found or self._due()
        return not self._found

    def get_nowait(self) -> list[str]:
        """Those that are."""
        found, self._found = self._found, []
        return found


def _admitted(plan: Any) -> dict[int, int]:
    """Rows that a plan took from the waiting queue, with the tokens that it found for them."""
    found = {int(one.req_id): one.num_computed_tokens for one in plan.scheduled_new_reqs}
    cached = plan.scheduled_cached_reqs
    if isinstance(cached, list):  # 0.8: one entry a request
        return found | {int(one.req_id): one.num_computed_tokens for one in cached if one.resumed_from_preemption}
    if hasattr(cached, "resumed_req_ids"):
        resumed = [name in cached.resumed_req_ids for name in cached.req_ids]
    else:  # to 0.11: a flag for each
        resumed = cached.resumed_from_preemption
    for name, again, computed in zip(cached.req_ids, resumed, cached.num_computed_tokens, strict=True):
        if again:
            found[int(name)] = computed
    return found


def _prompts(workload: ScheduleWorkload) -> list[list[int]]:
    """Token ids of each prompt: equal in the blocks whose prefix ids are equal, its own beyond."""
    block = workload.settings.block_tokens
    numbers: dict[int, int] = {}
    for request in workload.requests:
        for one in request.prefix_ids:
            numbers.setdefault(one, len(numbers))
    own = FIRST_TOKEN + len(numbers) * block
    prompts = []
    for request in workload.requests:
        shared = [FIRST_TOKEN + numbers[one] * block + k for one in request.prefix_ids for k in range(block)][: request.prompt_tokens]
        rest = request.prompt_tokens - len(shared)
        prompts.append([*shared, *range(own, own + rest)])
        own += rest
    return prompts
