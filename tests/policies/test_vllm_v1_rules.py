"""Rules of vLLM V1's scheduler by version, each where it decides: steps take a second, whatever they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.config.engine_profile import load_engine
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.policies import registry
from simserve.validation.schedules.constant_steps import ConstantSteps
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload

Row = tuple[float, int, int, int]
"""Arrival, prompt, output, priority (larger is more urgent)."""


def run(rows: list[Row], ids: list[list[int]] | None = None, spare: int = 0, order: str = "fcfs", **given: Any) -> RunRecords:
    """One instance with blocks of 4 tokens. `given`: fields of the instance, and parameters of the policy."""
    cls = registry.scheduler_class("vllm-v1")
    params = {name: given.pop(name) for name in list(given) if name in cls.Params.model_fields}
    kinds = {"block_tokens": 4, "kv_blocks": 100, "order": registry.order(order)} | given
    spec = InstanceSpec("i", cls(cls.Params(**params)), ConstantSteps(1.0, 1), max_seqs=params.get("max_seqs", 256), **kinds)
    arrival, prompt, output, priority = (np.array(column) for column in zip(*rows, strict=True))
    prefix = None
    if ids is not None:
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in ids])]).astype(np.int64)
        prefix = PrefixBlocks(offsets, np.array([one for each in ids for one in each], dtype=np.int64), 4)
    table = RequestTable.build(arrival.astype(float), prompt, output, priority=priority, max_output_tokens=output + spare, prefix=prefix)
    return simulate(Workload(table), [spec], check=True)


def first(records: RunRecords) -> list[float]:
    return records.requests.first_token_s.tolist()


def finish(records: RunRecords) -> list[float]:
    return records.requests.finish_s.tolist()


def test_decodes_behind_a_prompt_that_uses_up_the_budget_sit_the_step_out():
    rows = [(0.0, 12, 1, 0), (0.0, 2, 4, 0)]
    assert finish(run(rows, max_num_batched_tokens=6, long_prefill_token_threshold=4)) == [3.0, 4.0]
    # With as much budget as the cut prompt takes, the request behind it waits for the prompt's end.
    assert finish(run(rows, max_num_batched_tokens=4, long_prefill_token_threshold=4)) == [3.0, 7.0]


def test_a_lone_request_may_be_spared_the_threshold():
    rows = [(0.0, 12, 1, 0)]
    assert finish(run(rows, long_prefill_token_threshold=4)) == [3.0]
    assert finish(run(rows, long_prefill_token_threshold=4, threshold_alone=False)) == [1.0]
    rows.append((0.0, 12, 1, 0))
    assert finish(run(rows, long_prefill_token_threshold=4, threshold_alone=False)) == [3.0, 3.0]


def test_an_adaptive_threshold_is_a_fair_part_of_the_budget():
    rows = [(0.0, 12, 1, 0), (0.0, 12, 1, 0)]
    assert finish(run(rows, max_num_batched_tokens=12, long_prefill_token_threshold=2)) == [6.0, 6.0]
    assert finish(run(rows, max_num_batched_tokens=12, long_prefill_token_threshold=2, adaptive_threshold=True)) == [2.0, 2.0]


def test_a_prompt_may_need_room_for_all_of_it():
    rows = [(0.0, 16, 8, 0), (0.0, 16, 1, 0)]  # 10 blocks are not enough for both and the first one's answer
    chunk = run(rows, kv_blocks=7, max_num_batched_tokens=20)
    whole = run(rows, kv_blocks=7, max_num_batched_tokens=20, reserve_full_prompt=True)
    assert chunk.requests.preemptions.tolist() == [0, 1]
    assert whole.requests.preemptions.tolist() == [0, 0]
    assert first(whole)[1] > finish(whole)[0]


TIGHT: list[Row] = [(0.0, 8, 9, 0), (0.0, 3, 9, 1), (0.0, 4, 9, 2)]
"""Five blocks hold the prompts. The first request admitted is the most urgent; the last is the first to be preempted, wherever it runs."""


@pytest.mark.parametrize("rule", ["stays", "leaves", "undone"])
def test_what_a_victim_has_in_the_step_depends_on_the_version(rule: str):
    records = run(TIGHT, order="priority", kv_blocks=6, victim_in_step=rule, max_num_batched_tokens=64)
    assert records.requests.preemptions.sum() > 0
    assert (records.requests.generated_tokens == 9).all()


def test_the_least_urgent_is_preempted_although_it_was_admitted_first():
    rows = [(0.0, 4, 9, 0), (1.0, 4, 9, 5)]
    assert run(rows, order="priority", kv_blocks=4).requests.preemptions.tolist() == [1, 0]
    assert run(rows, kv_blocks=4).requests.preemptions.tolist() == [0, 1]


def test_prompts_at_intervals():
    rows = [(0.0, 4, 9, 0), (1.0, 4, 1, 0)]
    assert first(run(rows))[1] == 2.0
    assert first(run(rows, prefill_schedule_interval=4))[1] == 5.0
    assert first(run(rows, prefill_schedule_interval=4, interval_alone=False))[1] == 2.0


def test_fewer_may_run_than_there_are_slots():
    assert finish(run([(0.0, 4, 1, 0)] * 3, max_active_seqs=1)) == [1.0, 2.0, 3.0]


def test_a_full_queue_refuses():
    rows = [(0.0, 4, 3, 0), (1.0, 4, 3, 0), (1.0, 4, 3, 0), (3.0, 4, 1, 0)]
    assert run(rows, max_queued=2).requests.reason.tolist() == [0, 0, 1, 0]
    assert run(rows, max_queued_tokens=4).requests.reason.tolist() == [0, 0, 1, 0]
    assert run(rows).requests.reason.tolist() == [0, 0, 0, 0]


def test_a_slot_is_free_a_step_after_its_request_has_ended_where_steps_are_planned_ahead():
    rows = [(0.0, 4, 1, 0), (0.0, 4, 6, 0), (0.0, 4, 1, 0)]
    assert first(run(rows, max_seqs=2)) == [1.0, 1.0, 2.0]
    assert first(run(rows, max_seqs=2, steps_ahead=1, ends_late=True)) == [1.0, 1.0, 3.0]


def test_a_request_that_ends_unforeseen_is_in_one_step_more():
    rows = [(0.0, 4, 2, 0), (0.0, 4, 6, 0)]
    late = {"steps_ahead": 1, "ends_late": True}
    for spare, overruns, tokens in ((0, "unforeseen", 0), (5, "unforeseen", 2), (0, "always", 2)):
        records = run(rows, spare=spare, overruns=overruns, **late)
        assert records.counters.get("overrun_tokens", 0) == tokens


def test_newcomers_of_a_step_find_what_it_will_compute():
    rows = [(0.0, 9, 1, 0), (0.0, 9, 1, 0)]
    ids = [[1, 2], [1, 2]]
    found = [
        run(rows, ids, prefix_caching=True, eviction=kind).requests.cached_tokens.tolist() for kind in ("contents-last", "freed-first")
    ]
    assert found == [[0, 0], [0, 8]]


def test_a_preempted_request_finds_its_own_again_without_contents():
    rows = [(0.0, 8, 12, 0), (0.0, 8, 12, 0)]
    caching = run(rows, kv_blocks=8, prefix_caching=True, eviction="freed-first")
    assert caching.requests.preemptions.sum() > 0
    assert caching.requests.reread_tokens.sum() > 0
    assert run(rows, kv_blocks=8).requests.reread_tokens.sum() == 0


def test_a_watermark_may_be_for_the_company_of_others_only():
    rows = [(0.0, 12, 1, 0)]
    assert run(rows, kv_blocks=4, watermark_blocks=2).requests.reason.tolist() == [1]
    assert finish(run(rows, kv_blocks=4, watermark_blocks=2, watermark_always=False)) == [1.0]
    two = [(0.0, 4, 4, 0), (0.0, 8, 1, 0)]
    assert first(run(two, kv_blocks=4, watermark_blocks=2, watermark_always=False))[1] > 1.0


def test_versions_differ_by_keys_of_their_profiles():
    rules = {
        name: load_engine(name).scheduler.parameters | load_engine(name).kv.model_dump() for name in ("vllm-v1", "vllm-0.19", "vllm-0.33")
    }
    assert [one.get("victim_in_step", "stays") for one in rules.values()] == ["stays", "leaves", "undone"]
    assert [one.get("reserve_full_prompt", False) for one in rules.values()] == [False, True, True]
    assert [one["eviction"] for one in rules.values()] == ["freed-first", "freed-first", "empty-first"]
