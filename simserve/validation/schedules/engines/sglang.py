"""SGLang's own scheduler, run on a CPU without a model: its event loop, policy, prefill adder, batches, allocators and prefix tree.

What is real: `Scheduler.event_loop_normal` and `event_loop_overlap` with all they call to plan (get_next_batch_to_run, the prefill adder,
update_running_batch, retraction, aborts, the queue), the handling of a batch's results, the radix cache, the allocators of KV and request
slots. What stands in: receiving requests (they are given to the scheduler at their time), the forward pass (`run_batch`: every request gets
a token of its own that no other has), streaming and metrics (dropped), and time. Kernels are stubbed (`sglang_stubs`); KV is a pool of
numbers without tensors behind it. Requests end by an end-of-sequence token at their output's length, so the scheduler knows
`most_output_tokens` alone.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from simserve.validation.schedules.engines import sglang_parts
from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from simserve.validation.schedules.schedule import Schedule, ScheduleRecorder
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

EOS = 2
"""The token that ends an answer; contents begin above it."""

_FIRST_OWN = 1 << 40
"""Tokens from here on are a request's own."""

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 1 << 20,
    "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}

ORDERS = {"fcfs": "fcfs", "priority": "fcfs", "longest-prefix": "lpm", "lpm": "lpm"}
"""Order of the waiting queue -> --schedule-policy; priority is a flag beside it."""

UNSUPPORTED = {
    "pipeline_stages": "its pipeline loop exchanges batches between processes",
    "long_prefill_token_threshold": "SGLang cuts prompts to chunked_prefill_size alone",
    "adaptive_threshold": "a rule of vLLM",
    "max_active_seqs": "a rule of vLLM",
    "watermark": "SGLang keeps room by new_token_ratio",
    "reserve_full_prompt": "SGLang always takes a whole prompt's memory into account",
    "prefill_schedule_interval": "a rule of vLLM",
    "max_queued_tokens": "a rule of vLLM",
    "speculation_tokens": "its verify steps need a draft model",
    "kv_windows": "its window pools are tensors on the device",
}


def version() -> str:
    """The version of the SGLang that is importable here. Raises EngineUnavailable."""
    return sglang_parts.load().version


def drive(workload: ScheduleWorkload) -> Schedule:
    """What SGLang's scheduler does with a workload.

    Raises EngineUnavailable where SGLang or one of the parts named above is missing or has another interface, Unsupported for a setting
    that it has no rule for or that cannot be driven.
    """
    stated = workload.settings.stated()
    for setting, reason in UNSUPPORTED.items():
        if setting in stated:
            raise Unsupported(setting, reason)
    if workload.settings.order not in ORDERS:
        raise Unsupported("order", f"'{workload.settings.order}' is not driven; {', '.join(ORDERS)} are")
    engine = sglang_parts.load()
    run = _Run(workload, engine.version)
    scheduler = engine.scheduler(server_arguments(workload.settings, engine), workload.settings, run)
    loop = scheduler.event_loop_overlap if workload.settings.async_scheduling else scheduler.event_loop_normal
    try:
        loop()
    except NothingLeft:
        pass
    except (AttributeError, TypeError, ImportError, KeyError) as wrong:
        raise EngineUnavailable(
            f"SGLang {engine.version}: its scheduler's interface is another: {type(wrong).__name__}: {wrong}"
        ) from wrong
    return run.recorder.schedule()


def server_arguments(settings: ScheduleSettings, engine: sglang_parts.Engine) -> dict[str, Any]:
    """The settings as SGLang's server arguments."""
    arguments: dict[str, Any] = {
        "model_path": str(_model_folder()),
        "device": "cpu",
        "skip_tokenizer_init": True,
        "load_format": "dummy",
        "attention_backend": "torch_native",
        "log_level": "error",
        "page_size": settings.block_tokens,
        "max_running_requests": settings.max_num_seqs,
        "pp_max_micro_batch_size": settings.max_num_seqs,  # as the scheduler sets it itself with one stage
        "max_total_tokens": settings.kv_blocks * settings.block_tokens,
        "context_length": settings.max_model_len,
        "chunked_prefill_size": (settings.chunked_prefill_size or 8192) if settings.chunked else -1,
        "schedule_policy": ORDERS[settings.order],
        "schedule_conservativeness": settings.schedule_conservativeness,
        "disable_radix_cache": not settings.prefix_caching,
        "disable_overlap_schedule": not settings.async_scheduling,
        "enable_mixed_chunk": settings.mixed_chunk,
    }
    if settings.max_prefill_tokens:
        arguments["max_prefill_tokens"] = settings.max_prefill_tokens
    if settings.order == "priority":
        arguments["enable_priority_scheduling"] = True
    if settings.max_queued:
        arguments["max_queued_requests"] = settings.max_queued
    if settings.prefill_max_requests:
        arguments["prefill_max_requests"] = settings.prefill_max_requests
    missing = set(arguments) - engine.argument_names - {"pp_max_micro_batch_size"}
    for name in missing:
        raise Unsupported(name, f"SGLang {engine.version} has no such server argument")
    return {name: value for name, value in arguments.items() if name in engine.argument_names}


@cache
def _model_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="simserve-schedule-"))
    (folder / "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    return folder


class NothingLeft(Exception):  # noqa: N818 - no error: how an endless loop is left
    """Nothing arrives any more and nothing runs."""


class Flight(NamedTuple):
    """A batch in flight: when it ends, and the rows that get a token then."""

    ends_s: float
    rows: list[int]


class _Run:
    """The clock, the requests that come and go, and the recorder: what the driven scheduler asks in place of the world."""

    def __init__(self, workload: ScheduleWorkload, version: str) -> None:
        self.workload = workload
        self.recorder = ScheduleRecorder("sglang", version, len(workload.requests))
        self.now = 0.0
        self._busy_until = 0.0
        self._coming = 0
        self._aborts = sorted((one.abort_s, row) for row, one in enumerate(workload.requests) if one.abort_s is not None)
        self._requests: dict[int, Any] = {}
        self._running: set[int] = set()
        self._preempted: list[int] = []
        self._rounds, self._looked_again = 1, 0
        self._coming_tokens: dict[int, int] = {}  # of batches in flight, by row

    # -- what comes ------------------------------------------------------------------------------------------------------------------

    def receive(self, scheduler: Any) -> None:
        """The requests that have arrived by now enter the queue; those whose clients have given up are aborted."""
        requests = self.workload.requests
        while self._coming < len(requests) and requests[self._coming].arrival_s <= self.now:
            row = self._coming
            self._coming += 1
            self._requests[row] = req = scheduler.new_request(row, requests[row], tokens_of(row, requests[row], self.workload.settings))
            before = len(scheduler.waiting_queue)
            scheduler.enqueue(req)
            if len(scheduler.waiting_queue) == before and req not in scheduler.waiting_queue:
                self.recorder.refused(row)
        while self._aborts and self._aborts[0][0] <= self.now:
            _, row = self._aborts.pop(0)
            if row in self._requests and not self._requests[row].finished():
                self._requests[row].given_up = True
                if self._requests[row] in scheduler.waiting_queue or row not in self._running:
                    self.recorder.aborted(row)
                scheduler.abort(str(row))

    def idle(self, waiting: bool) -> None:
        """Nothing can run: time goes on to the next arrival or abort. Where requests wait the loop may find in its next round what it has
        not in this."""
        if waiting and self._looked_again < self._rounds:
            self._looked_again = self._rounds
            return
        times = [] if self._coming == len(self.workload.requests) else [self.workload.requests[self._coming].arrival_s]
        times += [when for when, _ in self._aborts if when > self.now][:1]
        if not times:
            raise NothingLeft
        self.now = max(self.now, min(times))

    # -- what is planned and done ----------------------------------------------------------------------------------------------------

    def preempted(self, req: Any) -> None:
        """A request loses its KV."""
        row = int(req.rid)
        if row in self._running:
            self._running.remove(row)
            self._preempted.append(row)

    def start(self, batch: Any, lengths: list[int], free_tokens: int) -> tuple[list[int], Flight]:
        """A batch is launched: the tokens that come of it, and what is known of it when it ends."""
        self._rounds += 1
        start = max(self.now, self._busy_until)
        tokens: dict[int, int] = {}
        admitted: dict[int, int] = {}
        produced: list[int] = []
        coming: list[int] = []
        for req, count in zip(batch.reqs, lengths, strict=True):
            row = int(req.rid)
            tokens[row] = count
            if row not in self._running:
                self._running.add(row)
                admitted[row] = cached_tokens(req)
            made = len(req.output_ids) + self._coming_tokens.get(row, 0) + 1
            last = made >= self.workload.requests[row].output_tokens
            if req is not batch.chunked_req:  # of a chunk in the middle of a prompt nothing comes
                coming.append(row)
                self._coming_tokens[row] = self._coming_tokens.get(row, 0) + 1
            produced.append(EOS if last else _FIRST_OWN + (row << 24) + (1 << 23) + made)
        self.recorder.step(start, tokens, self._preempted, admitted, free_tokens // self.workload.settings.block_tokens)
        self._preempted = []
        self._busy_until = start + self.workload.step_s
        return produced, Flight(self._busy_until, coming)

    def done(self, batch: Any, flight: Flight, process: Any) -> None:
        """A batch has ended: its tokens are there."""
        ended_s = flight.ends_s
        self.now = max(self.now, ended_s)
        for row in flight.rows:
            self._coming_tokens[row] -= 1
        before = [(req, len(req.output_ids), req.finished()) for req in batch.reqs]
        process()
        for req, outputs, finished in before:
            row = int(req.rid)
            if len(req.output_ids) > outputs:
                self.recorder.first_token(row, ended_s)
            if req.finished() and not finished:
                self._running.discard(row)
                if getattr(req, "given_up", False) and len(req.output_ids) < self.workload.requests[row].output_tokens:
                    self.recorder.aborted(row)
                else:
                    self.recorder.finished(row, ended_s)


def cached_tokens(req: Any) -> int:
    """Tokens of a request that is taken from the queue which the prefix cache had."""
    return int(req.prefix_len) if hasattr(req, "prefix_len") else len(req.prefix_indices)


def tokens_of(row: int, request: ScheduleRequest, settings: ScheduleSettings) -> array[int]:
    """A prompt: equal where ids are, and else its own."""
    tokens: list[int] = []
    for one in request.prefix_ids:
        tokens += range((one + 1) * settings.block_tokens + 8, (one + 2) * settings.block_tokens + 8)
    own = _FIRST_OWN + (row << 24)
    tokens += range(own + len(tokens), own + request.prompt_tokens)
    return array("q", tokens[: request.prompt_tokens])
