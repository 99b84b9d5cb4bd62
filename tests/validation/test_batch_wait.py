"""Newcomers that wait for a fuller prompt batch, on schedules worked out by hand."""

from typing import Any

import numpy as np
import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.policies.registry import scheduler_class
from simserve.validation.batch_wait import BatchWait
from simserve.workload.requests import RequestTable, Workload
from tests.reference.toy_cost import RoundCost


def serve(prompts: list[int], outputs: list[int], arrival_s: list[float], **wait: Any) -> RunRecords:
    inner = scheduler_class("sarathi")
    policy = BatchWait(inner(inner.Params(token_budget=1000, chunked=False)), **wait)
    spec = InstanceSpec("one", policy, RoundCost(), 1000, block_tokens=4, max_seqs=64)
    table = RequestTable.build(np.array(arrival_s), np.array(prompts), np.array(outputs))
    return simulate(Workload(table), [spec], check=True)


def steps_before_admission(records: RunRecords, row: int) -> int:
    """Steps that ended between a request's arrival and the start of its first one."""
    r, ends = records.requests, records.lanes[0].step_end_s
    return int(((ends > r.released_s[row]) & (ends <= r.scheduled_s[row])).sum())


def test_while_others_decode_a_newcomer_waits_so_many_steps() -> None:
    plain = serve([8, 8], [40, 4], [0.0, 3.05], steps=0)
    patient = serve([8, 8], [40, 4], [0.0, 3.05], steps=7)
    assert steps_before_admission(patient, 1) - steps_before_admission(plain, 1) == 7


def test_no_request_waits_for_an_idle_engine() -> None:
    alone = serve([8], [4], [1.0], steps=50)
    assert alone.requests.scheduled_s[0] == alone.requests.released_s[0]


@pytest.mark.parametrize("enough", [{"tokens": 30}, {"requests": 3}])
def test_enough_newcomers_go_at_once(enough: dict[str, int]) -> None:
    several = serve([8, 10, 10, 10], [60, 4, 4, 4], [0.0, 3.05, 3.05, 3.05], steps=40, **enough)
    two = serve([8, 10, 10], [60, 4, 4], [0.0, 3.05, 3.05], steps=40, **enough)
    assert steps_before_admission(several, 1) == 1
    assert steps_before_admission(two, 1) == 41
