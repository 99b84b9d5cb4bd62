"""What simserve does with a workload under an engine profile, recorded as an engine's schedule is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simserve.config.engine_profile import load_engine
from simserve.contracts import InstanceView, Request, Scheduler, StepPlan, capable
from simserve.engine import simulate
from simserve.engine.plan import StepPlan as EnginePlan
from simserve.engine.records import RequestColumns, Status
from simserve.engine.request import LiveRequest
from simserve.validation.schedules.instance import instance_of
from simserve.validation.schedules.schedule import Schedule, ScheduleRecorder
from simserve.validation.schedules.workload import ScheduleWorkload
from simserve.version import __version__
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload

NAME = "simserve"
"""How our own schedules are labelled, where engines have their name."""


def ours(workload: ScheduleWorkload, profile: str) -> Schedule:
    """The schedule of a workload under an engine profile (its name, or a YAML file of one's own).

    Raises Unsupported for a setting that the profile has no key for, ConfigError for settings that contradict each other, PolicyError where
    the policy breaks a rule of the engine.
    """
    spec = instance_of(workload, profile)
    recorder = ScheduleRecorder(NAME, f"{__version__} ({load_engine(profile).name})", len(workload.requests))
    spec = replace(spec, scheduler=_Recorded(spec.scheduler, recorder))
    records = simulate(Workload(_table(workload)), [spec], fast_forward=False)
    _ends(records.requests, workload, recorder)
    return recorder.schedule()


class _Recorded(Scheduler):
    """A scheduler whose plans are taken down."""

    def __init__(self, inner: Scheduler, recorder: ScheduleRecorder) -> None:
        super().__init__(inner.params)
        for name in ("oracle", "single_stage", "hears_ends", "requeues_last"):
            setattr(self, name, capable(inner, name))
        self._inner = inner
        self._recorder = recorder
        self._admission = 0

    def ended(self, requests: Sequence[Request], now: float) -> None:
        """The inner policy hears of it."""
        self._inner.ended(requests, now)

    def plan(self, view: InstanceView) -> StepPlan:
        """The inner policy's plan."""
        before = [(request, request.preemptions) for request in _running(view)]
        plan = self._inner.plan(view)
        assert isinstance(plan, EnginePlan)
        lost = [request for request, preemptions in before if request.preemptions > preemptions]
        admitted = {request.row: request.computed_tokens for request in _prefilling(view) if request.admission > self._admission}
        self._admission = max([self._admission, *(request.admission for request in _prefilling(view))])
        tokens = {request.row: piece.new_tokens for request, piece in zip(plan.sliced, plan.slices, strict=True)}
        if plan.decodes:
            tokens |= {request.row: width for request, width in zip(view.decoding, plan.widths(), strict=True)}
        self._recorder.step(view.now, tokens, [request.row for request in lost], admitted, view.kv.free_blocks)
        return plan


def _running(view: InstanceView) -> list[LiveRequest]:
    return [*view.prefilling, *view.decoding, *view.verifying, *view.ending]  # the engine's own


def _prefilling(view: InstanceView) -> list[LiveRequest]:
    return [*view.prefilling]  # type: ignore[list-item]


def _ends(requests: RequestColumns, workload: ScheduleWorkload, recorder: ScheduleRecorder) -> None:
    """What became of each request. A client that has given up does not see what comes afterwards."""
    for row, status in enumerate(requests.status):
        abort_s, first_token_s = workload.requests[row].abort_s, float(requests.first_token_s[row])
        if np.isfinite(first_token_s) and (abort_s is None or first_token_s < abort_s):
            recorder.first_token(row, first_token_s)
        if status == Status.COMPLETED and (abort_s is None or requests.finish_s[row] < abort_s):
            recorder.finished(row, float(requests.finish_s[row]))
        elif status in (Status.COMPLETED, Status.CANCELLED):
            recorder.aborted(row)
        elif status == Status.REJECTED:
            recorder.refused(row)


def _table(workload: ScheduleWorkload) -> RequestTable:
    """The requests as simserve's columns. Priorities are larger for what is more urgent here, vLLM's smaller."""
    requests = workload.requests
    prefix = None
    if workload.settings.prefix_caching:
        counts = [len(request.prefix_ids) for request in requests]
        ids = np.array([one for request in requests for one in request.prefix_ids], dtype=np.int64)
        prefix = PrefixBlocks(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), ids, workload.settings.block_tokens)
    return RequestTable.build(
        np.array([request.arrival_s for request in requests]),
        np.array([request.prompt_tokens for request in requests]),
        np.array([request.output_tokens for request in requests]),
        prefix=prefix,
        max_output_tokens=np.array([request.most_output_tokens for request in requests]),
        priority=np.array([-request.priority for request in requests]),
        patience_s=np.array([np.nan if request.abort_s is None else request.abort_s - request.arrival_s for request in requests]),
    )
