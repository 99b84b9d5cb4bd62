"""DistServe's schedulers (arXiv 2401.09670, section 4.3) on cases worked out by hand. Its schedules are in the differential test too."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import LinkSpec
from simserve.policies.scheduling.distserve import DistServe
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_world import routed
from tests.reference.toy_cost import RoundCost

FAST = LinkSpec(bytes_per_s=1e12, latency_s=0.0, kv_bytes_per_token=1.0)


def serve(prompts: list[int], outputs: list[int], decode_blocks: int = 1000, prefill_blocks: int = 1000, **params: Any) -> RunRecords:
    """Requests that come together, on a prefill and a decode instance with blocks of one token."""
    work = Workload(RequestTable.build(np.zeros(len(prompts)), np.array(prompts), np.array(outputs)))
    specs = [
        InstanceSpec(role, DistServe(DistServe.Params(**params)), RoundCost(), blocks, block_tokens=1, max_seqs=64, role=role, link=FAST)
        for role, blocks in (("prefill", prefill_blocks), ("decode", decode_blocks))
    ]
    return simulate(work, specs, routed(), check=True)


def prefill_batches(records: RunRecords) -> list[int]:
    """Prompts of each step of the prefill instance."""
    return [int(n) for n in records.lanes[0].span_prefill_requests]


def test_prompts_go_together_up_to_the_saturating_length() -> None:
    assert prefill_batches(serve([40, 30, 30, 50, 20], [2] * 5, max_num_batched_tokens=100)) == [3, 2]


def test_a_prompt_longer_than_that_runs_alone() -> None:
    assert prefill_batches(serve([10, 300, 10, 10], [2] * 4, max_num_batched_tokens=100)) == [1, 1, 2]


def test_first_come_first_served_leaves_a_slot_empty_rather_than_overtake() -> None:
    # 80 + 30 is over 100; the 20 behind would fit and must wait.
    assert prefill_batches(serve([80, 30, 20], [2] * 3, max_num_batched_tokens=100)) == [1, 2]


def test_the_number_of_prompts_in_a_batch_is_limited_too() -> None:
    assert prefill_batches(serve([5] * 7, [2] * 7, max_batch_prompts=3)) == [3, 3, 1]


def test_the_decode_instance_runs_every_request_that_fits_in_one_batch() -> None:
    records = serve([10] * 6, [50] * 6)
    assert int(records.lanes[1].span_decode_requests.max()) == 6


def test_a_full_decode_instance_holds_back_the_prefills() -> None:
    """The decode cache holds one request; the prefill cache two prompts, which stay there until they are fetched."""
    tight = serve([30] * 4, [12] * 4, decode_blocks=45, prefill_blocks=65)
    roomy = serve([30] * 4, [12] * 4, decode_blocks=45, prefill_blocks=1000)
    assert prefill_batches(tight)[0] == 2 and prefill_batches(roomy) == [4]
    # The fourth prompt finds room when the second request has been fetched, which is when the first has ended; nothing is thrown away.
    assert tight.requests.scheduled_s[3] >= tight.requests.finish_s[0] > roomy.requests.scheduled_s[3]
    assert (tight.requests.preemptions == 0).all()


def test_prompts_go_first_on_a_mixed_instance() -> None:
    work = Workload(RequestTable.build(np.array([0.0, 1.05]), np.array([10, 10]), np.array([40, 5])))
    spec = InstanceSpec("i", DistServe(DistServe.Params()), RoundCost(), 1000, block_tokens=1, max_seqs=64)
    (lane,) = simulate(work, [spec], check=True).lanes
    prefills = np.flatnonzero(lane.span_prefill_requests)
    assert (lane.span_decode_requests[prefills] == 0).all() and len(prefills) == 2
