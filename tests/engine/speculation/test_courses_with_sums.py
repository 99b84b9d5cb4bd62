"""What a course states beside its steps saves the engine work and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import FREED, KEPT, Course
from simserve.engine import InstanceSpec, simulate
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.policies.registry import scheduler_class
from simserve.speculation import Same, Schedule, Speculated
from simserve.workload.requests import RequestTable, Workload
from tests.engine.speculation.toys import Verifying
from tests.reference.toy_cost import JaggedCost

OUTPUTS = np.array([40, 1, 7, 90, 25, 2, 60, 33, 120, 15])
PROMPTS = np.array([96, 5, 64, 46, 48, 90, 76, 103, 16, 77])


class Plain(Speculated):
    """Tells steps and no more."""

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        tokens, drafted, *_ = super().course(row, generated_tokens, output_tokens, drafts, first)
        return Course(tokens, drafted)


@pytest.mark.parametrize("groups", [None, KvGroups(1, (KvWindow(1, 6, 2),), 2)])
@pytest.mark.parametrize("rejected", [KEPT, FREED])
@pytest.mark.parametrize("hit", [1.0, 0.5])
@pytest.mark.parametrize("max_model_len", [None, 136])
def test_a_run_is_the_same(groups: KvGroups | None, rejected: str, hit: float, max_model_len: int | None) -> None:
    """With memory for a few of ten requests, so that they are preempted; and, in the second length, drafts cut off at the longest one."""
    cls = scheduler_class("vllm-v1")
    runs = []
    for kind in (Speculated, Plain):
        speculation = kind(Schedule(3), Same((0.8, 0.6, 0.7)), 3, hit=hit, rejected_kv=rejected, outputs=OUTPUTS)
        spec = InstanceSpec(
            "i",
            cls(cls.Params(max_num_batched_tokens=64)),
            Verifying(JaggedCost()),
            speculation=speculation,
            kv_groups=groups,
            kv_blocks=60 if groups is None else 96,
            block_tokens=4,
            max_seqs=6,
            max_model_len=max_model_len,
        )
        table = RequestTable.build(np.zeros(len(OUTPUTS)), PROMPTS, OUTPUTS)
        runs.append(simulate(Workload(table), [spec], check=True))
    one, other = runs
    assert one.requests.preemptions.sum()
    assert np.array_equal(one.requests.finish_s, other.requests.finish_s)
    assert np.array_equal(one.requests.preemptions, other.requests.preemptions)
    assert np.array_equal(one.lanes[0].ticks, other.lanes[0].ticks)
    assert np.array_equal(one.lanes[0].span_kv_blocks, other.lanes[0].span_kv_blocks)
    assert np.array_equal(one.emissions.bursts, other.emissions.bursts)
