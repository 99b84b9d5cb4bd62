"""Runs a workload on instances: the only door of the engine."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simserve.engine.clock import ARRIVAL, Clock
from simserve.engine.instance import Instance
from simserve.engine.lane import LOG_FIELDS, Lane
from simserve.engine.recorder import Recorder
from simserve.engine.records import InstanceInfo, LaneLog, RunRecords, Status
from simserve.engine.request import LiveRequest, OracleRequest
from simserve.engine.source import Source
from simserve.engine.spec import InstanceSpec
from simserve.errors import ConfigError, PolicyError
from simserve.workload.requests import RequestTable, Workload

if TYPE_CHECKING:
    from simserve.engine.handover import Handover

FAILED_IN_TRACE = "failed in the trace"
OVER_MODEL = "prompt exceeds the model's context"
OVER_CACHE = "prompt exceeds the KV cache"
TRUNCATED = "stopped at the context limit"

PROGRESS_EVERY = 256

Progress = Callable[[int, int, float], None]
"""Called now and then with (requests ended, requests in all, simulated seconds)."""


def simulate(
    workload: Workload,
    instances: Sequence[InstanceSpec],
    *,
    router: Any = None,
    fast_forward: bool = True,
    check: bool = False,
    until_s: float | None = None,
    progress: Progress | None = None,
    decode_router: Any = None,
) -> RunRecords:
    """Serves the workload and returns what happened.

    router        object with `choose(instances) -> instance` for arrivals; None = round robin
    decode_router likewise for requests that a prefill instance hands over; None = least outstanding requests
    fast_forward  run steps with an unchanged plan as one span. False steps one by one; the records are identical (I7)
    check         also verify the invariants of docs/invariants.md while running and afterwards (slower); raises InvariantError
    until_s       stop at this simulated time; requests still in the system are UNFINISHED

    Raises PolicyError when a policy breaks a rule, ConfigError for impossible instances.
    """
    if until_s is not None and not until_s > 0:
        raise ConfigError(f"until_s must be a time after the start, in seconds; found {until_s}")
    if not instances:
        raise ConfigError("a run needs at least one instance")
    if check:
        from simserve.engine.check import simulate_checked

        return simulate_checked(
            workload, instances, router=router, decode_router=decode_router, fast_forward=fast_forward, until_s=until_s, progress=progress
        )
    return Simulation(workload, instances, router, fast_forward, progress, decode_router).run(until_s)


class Simulation:
    """One run: clock, instances, source and recorder wired together."""

    def __init__(
        self,
        workload: Workload,
        specs: Sequence[InstanceSpec],
        router: Any,
        fast_forward: bool,
        progress: Progress | None = None,
        decode_router: Any = None,
    ) -> None:
        self.table: RequestTable = workload.requests
        self.clock = Clock()
        self.recorder = Recorder(len(self.table))
        # array.array: plain numbers come out faster than from NumPy, and a column takes 8 bytes a row, a fifth of a list's.
        self.final_tokens = array("q", self.table.output_tokens.tobytes())
        self._prompt = array("q", self.table.prompt_tokens.tobytes())
        self._max_output = array("q", self.table.max_output_tokens.tobytes())
        self._priority = array("q", self.table.priority.tobytes())
        self._session = array("q", self.table.session.tobytes())
        self._router = router
        self._progress = progress
        self._last_progress = 0
        self.instances: list[Instance] = []
        lanes = 0
        for index, spec in enumerate(specs):
            contents = self.table.prefix.block_tokens if self.table.prefix is not None else 0
            instance = Instance(spec, index, lanes, self.clock, self.recorder, self.final_tokens, self._ended, fast_forward, contents)
            lanes += len(instance.lanes)
            self.instances.append(instance)
        if router is None and len(self.instances) > 1:
            from simserve.policies.routing.round_robin import RoundRobin

            self._router = RoundRobin()
        self._entry = [instance for instance in self.instances if instance.spec.role != "decode"]
        self._handover: Handover | None = None
        self._connect(decode_router)
        self.source = Source(workload, self.clock, self._release)

    def _connect(self, decode_router: Any) -> None:
        """Joins prefill and decode instances. Raises ConfigError when a request could not be finished."""
        roles = {instance.spec.role for instance in self.instances}
        if "decode" not in roles and "prefill" not in roles:
            return
        if not {"decode", "prefill"} <= roles:
            found, missing = ("prefill", "decode") if "prefill" in roles else ("decode", "prefill")
            raise ConfigError(f"the cluster has {found} instances and no {missing} instance: requests could not be finished")
        from simserve.engine.handover import Handover
        from simserve.policies.routing.least_outstanding import LeastOutstanding

        decoders = [instance for instance in self.instances if instance.spec.role == "decode"]
        self._decode_limit_tokens = min(instance.limit_tokens for instance in decoders)
        self._handover = handover = Handover(decoders, (decode_router or LeastOutstanding()).choose)
        for instance in self.instances:
            if instance.spec.role != "mixed":
                instance.handover = handover

    def run(self, until_s: float | None = None) -> RunRecords:
        """Lets time pass until everything has ended or `until_s`."""
        self.source.start()
        self.clock.run(until=until_s)
        if until_s is not None:
            for instance in self.instances:
                self._stop(instance, until_s)
            for source, request in self._handover.moving.values() if self._handover is not None else ():
                self.recorder.unfinished(request, source.index)
        elif self.recorder.ended < len(self.table):
            left = len(self.table) - self.recorder.ended
            raise PolicyError(f"nothing happens any more and {left} requests have not ended: no policy serves them (invariant I1)")
        if self._progress is not None:
            self._progress(self.recorder.ended, len(self.table), self.clock.now)
        return self._records()

    def _release(self, row: int, now: float) -> None:
        """A request enters the system at `now`."""
        recorder = self.recorder
        recorder.released_s[row] = now
        final = self.final_tokens[row]
        if final <= 0:
            recorder.rejected(row, now, FAILED_IN_TRACE, Status.FAILED)
            self.source.ended((row,), now)
            return
        instances = self._entry
        instance = instances[0] if len(instances) == 1 else self._router.choose(instances)
        prompt = self._prompt[row] or 1
        limit = instance.limit_tokens if instance.handover is None else min(instance.limit_tokens, self._decode_limit_tokens)
        if prompt + final > limit:
            if prompt >= limit:
                longest = instance.spec.max_model_len
                recorder.rejected(row, now, OVER_MODEL if longest is not None and prompt >= longest else OVER_CACHE)
                self.source.ended((row,), now)
                return
            self.final_tokens[row] = final = limit - prompt
            recorder.note(row, TRUNCATED)
        stated = self._max_output[row]
        if stated < final:  # the trace contradicts itself: a client's limit below what was generated says nothing
            stated = -1
        kind = OracleRequest if instance.needs_oracle else LiveRequest
        outside_s = instance.spec.request_s + instance.spec.request_per_prompt_token_s * prompt
        request = kind(row, now + outside_s, prompt, self._priority[row], stated, self._session[row])
        if isinstance(request, OracleRequest):
            request.output_tokens = final
        if instance.prefix is not None:
            contents = self.table.prefix
            assert contents is not None
            request.prefix_ids = contents.ids[contents.offsets[row] : contents.offsets[row + 1]].tolist()
        if now + outside_s > now:
            self.clock.at(now + outside_s, lambda event: instance.submit(request), ARRIVAL)
        else:
            instance.submit(request)

    def _ended(self, requests: list[LiveRequest], now: float) -> None:
        """Requests have ended at an instance."""
        if self._progress is not None and self.recorder.ended - self._last_progress >= PROGRESS_EVERY:
            self._last_progress = self.recorder.ended
            self._progress(self.recorder.ended, len(self.table), now)
        self.source.ended(sorted(request.row for request in requests), now)

    def _stop(self, instance: Instance, now: float) -> None:
        """The run is cut: what the requests in the instance have got so far."""
        for lane in instance.lanes:
            lane.stop(now)
        left: list[LiveRequest] = [*instance.waiting, *instance.inbox]
        for lane in instance.lanes:
            left += lane.swapped + lane.prefilling + lane.landed
            for request in list(lane.group):
                lane.leave_unfinished(request)
                left.append(request)
        for request in left:
            self.recorder.unfinished(request, instance.index)

    def _records(self) -> RunRecords:
        lanes = tuple(_lane_log(lane) for instance in self.instances for lane in instance.lanes)
        columns = self.recorder.request_columns()
        new_tokens = pairs = 0.0
        flops = 0.0
        for instance in self.instances:
            for lane in lanes[instance.lane_offset : instance.lane_offset + len(instance.lanes)]:
                n, k = lane.span_decode_requests.astype(np.float64), lane.span_steps.astype(np.float64)
                new = float((n * k).sum() + lane.span_prefill_tokens.sum())
                attended = float((k * lane.span_context_tokens + n * k * (k - 1) / 2).sum() + lane.span_prefill_pairs.sum())
                new_tokens += new
                pairs += attended
                flops += instance.cost.flops(new, attended)
        ends = [float(lane.step_end_s[-1]) for lane in lanes if len(lane.step_end_s)]
        finished = columns.finish_s[np.isfinite(columns.finish_s)]
        if len(finished):
            ends.append(float(finished.max()))
        return RunRecords(
            table=self.table,
            requests=columns,
            lanes=lanes,
            emissions=self.recorder.emissions(),
            instances=tuple(_info(instance) for instance in self.instances),
            end_s=max(ends, default=0.0),
            counters={
                "steps": float(sum(len(lane.step_end_s) for lane in lanes)),
                "plans": float(sum(len(lane.span_steps) for lane in lanes)),
                "computed_tokens": new_tokens,
                "attended_pairs": pairs,
                "useful_flops": flops,
                "preemptions": float(columns.preemptions.sum()),
                "kv_blocks_in_use_at_end": float(sum(instance.kv.used_blocks for instance in self.instances)),
                "swapped_tokens": float(sum(instance.swapped_tokens for instance in self.instances)),
            },
        )


def _lane_log(lane: Lane) -> LaneLog:
    log = np.frombuffer(lane.log, dtype=np.float64).reshape(-1, LOG_FIELDS) if len(lane.log) else np.empty((0, LOG_FIELDS))

    def whole(column: int) -> NDArray[np.int64]:
        return log[:, column].astype(np.int64)

    steps = whole(0)
    return LaneLog(
        instance=lane.instance.index,
        lane=lane.index,
        step_end_s=np.frombuffer(lane.step_end_s, dtype=np.float64) if len(lane.step_end_s) else np.empty(0),
        span_first_step=np.cumsum(steps) - steps,
        span_steps=steps,
        span_start_s=log[:, 1].copy(),
        span_decode_requests=whole(2),
        span_context_tokens=whole(3),
        span_prefill_requests=whole(4),
        span_prefill_tokens=whole(5),
        span_prefill_pairs=whole(6),
        span_kv_blocks=whole(7),
        span_waiting=whole(8),
    )


def _info(instance: Instance) -> InstanceInfo:
    spec = instance.spec
    return InstanceInfo(
        name=spec.name,
        policy=spec.policy_name,
        devices=spec.devices,
        kv_blocks=spec.kv_blocks,
        block_tokens=spec.block_tokens,
        max_seqs=spec.max_seqs,
        peak_flops_per_s=spec.cost.peak_flops_per_s,
        cost=copy.deepcopy(spec.cost.describe()),
    )
