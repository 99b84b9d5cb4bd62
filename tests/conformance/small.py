"""Small workloads and schedules for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simserve.validation.schedules.ours import ours
from simserve.validation.schedules.schedule import Schedule
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings, ScheduleWorkload

V1 = "vllm-v1"


def workload(*requests: tuple[Any, ...] | ScheduleRequest, **settings: Any) -> ScheduleWorkload:
    """Requests as (arrival_s, prompt_tokens, output_tokens) under these settings."""
    rows = tuple(one if isinstance(one, ScheduleRequest) else ScheduleRequest(*one) for one in requests)
    return ScheduleWorkload("small", 1, ScheduleSettings(**settings), rows)


def random_workload(seed: int, *, kind: str = "tight", requests: int = 24, **settings: Any) -> ScheduleWorkload:
    """Requests in a burst of a second, some with equal prefixes and priorities, in a KV cache that holds a few of them."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0.0, 1.0, requests)).round(6)
    rows = []
    for arrival in arrivals:
        prompt = int(rng.integers(4, 200))
        first = 100 * int(rng.integers(1, 4))
        ids = tuple(range(first, first + int(rng.integers(0, prompt // 16 + 1))))
        rows.append(ScheduleRequest(float(arrival), prompt, int(rng.integers(1, 60)), priority=int(rng.integers(0, 3)), prefix_ids=ids))
    known: dict[str, Any] = {"max_num_seqs": 16, "max_num_batched_tokens": 128, "kv_blocks": 40, "max_model_len": 640}
    return ScheduleWorkload(kind, seed, ScheduleSettings(**known | settings), tuple(rows))


def as_engine(schedule: Schedule, version: str = "0.11.0", engine: str = "vllm") -> Schedule:
    """Our schedule as if an engine had made it."""
    return replace(schedule, engine=engine, version=version)


def recorded(asked: ScheduleWorkload, version: str = "0.11.0") -> Schedule:
    """What vllm-v1 does, as if an engine had done it."""
    return as_engine(ours(asked, V1), version)
