"""What simserve does with a workload is recorded as it happened, and settings that cannot be said are refused."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.engine import simulate
from simserve.errors import SimserveError
from simserve.validation.schedules.instance import experiment_of, instance_of
from simserve.validation.schedules.ours import _table, ours
from simserve.validation.schedules.refusals import Unsupported
from simserve.validation.schedules.workload import ScheduleRequest, ScheduleSettings
from simserve.workload.requests import Workload
from tests.conformance.small import V1, random_workload, workload


def test_one_request_by_hand():
    """A prompt of ten tokens under a budget of four, then a token a step: the step that ends the prompt gives the first."""
    found = ours(workload((0.5, 10, 3), max_num_batched_tokens=4), V1)
    one = found.requests[0]
    assert one.runs == ((0, 2, 4), (2, 1, 2), (3, 2, 1))
    assert one.admissions == ((0, 0),) and one.preemptions == ()
    assert (one.first_token_s, one.finish_s) == (0.53, 0.55)
    assert found.steps == ((0.5, 0.01, 5),)


def test_one_token_is_one_step():
    one = ours(workload((0.0, 5, 1)), V1).requests[0]
    assert one.runs == ((0, 1, 5),) and one.first_token_s == one.finish_s == 0.01


def test_a_request_that_comes_during_a_step_is_seen_by_the_next():
    found = ours(workload((0.0, 4, 9), (0.02, 4, 1), (0.0201, 4, 1)), V1)
    assert [one.admissions for one in found.requests] == [((0, 0),), ((2, 0),), ((3, 0),)]


def test_preemption_admission_and_what_is_computed_again():
    """Two requests that outgrow five blocks: the second gives its KV up and comes back with what it had generated."""
    found = ours(workload((0.0, 32, 40), (0.0, 16, 40), kv_blocks=5), V1)
    second = found.requests[1]
    assert len(second.preemptions) == 1 and len(second.admissions) == 2
    lost = second.preemptions[0]
    had = 16 + sum(steps * tokens for first, steps, tokens in second.runs if first < lost) - 16
    again = next(tokens for first, _, tokens in second.runs if first >= lost)
    assert again == had + 1  # all that was in the cache, and the token that was to come
    assert found.free_blocks is not None and sum(steps for _, steps in found.free_blocks) == len(found.step_starts())


def test_cached_tokens_of_a_prefix():
    ids = tuple(range(8))
    rows = ScheduleRequest(0.0, 140, 4, prefix_ids=ids), ScheduleRequest(0.1, 130, 4, prefix_ids=ids[:6])
    found = ours(workload(*rows, prefix_caching=True), V1)
    assert [one.admissions for one in found.requests] == [((0, 0),), ((4, 96),)]
    assert ours(workload(*rows), V1).requests[1].admissions == ((4, 0),)  # off: nothing is found


def test_priority_is_smaller_first():
    rows = [ScheduleRequest(0.0, 20, 5, priority=0), *(ScheduleRequest(0.001 * k, 20, 5, priority=9 - k) for k in range(1, 4))]
    found = ours(workload(*rows, max_num_seqs=1, order="priority"), V1)
    ends = [one.finish_s for one in found.requests]
    assert ends[0] < ends[3] < ends[2] < ends[1]


def test_aborted_and_refused():
    rows = ScheduleRequest(0.0, 20, 50, abort_s=0.105), ScheduleRequest(0.0, 900, 5), ScheduleRequest(0.0, 20, 5)
    found = ours(workload(*rows, max_model_len=512), V1)
    assert [one.ended for one in found.requests] == ["aborted", "refused", "finished"]
    aborted, refused, _ = found.requests
    assert aborted.runs is not None and aborted.runs[-1][0] + aborted.runs[-1][1] == 11 and aborted.finish_s is None
    assert refused.runs == () and refused.admissions == ()


def test_drafted_tokens():
    """Three drafts a step: as many are accepted as the workload says of the tokens before, and no more than are left."""
    accepted = (0, 2, 9, 0, 1, 0, 3, 0, 0, 0)
    found = ours(workload(ScheduleRequest(0.0, 8, 10, accepted=accepted), speculation_tokens=3), V1)
    one = found.requests[0]
    # generated: 1 (prompt), 1 + 2 + 1 = 4, + 1 + 1 = 6, + 3 + 1 = 10
    assert one.runs == ((0, 1, 8), (1, 3, 4)) and one.finish_s == 0.04


def test_stages_overlap():
    """Two requests on two stages: each has a step of its own, which begin a stage's time apart."""
    found = ours(workload((0.0, 8, 3), (0.001, 8, 3), pipeline_stages=2), V1)
    assert found.step_starts()[:3] == pytest.approx([0.0, 0.005, 0.01])
    assert found.requests[0].first_token_s == 0.01


@pytest.mark.parametrize("seed", range(4))
def test_steps_recorded_one_by_one_are_those_of_a_run(seed):
    """A run takes equal steps at once; what came of each request is the same."""
    asked = random_workload(seed, prefix_caching=bool(seed % 2), order="priority" if seed > 1 else "fcfs")
    mine = ours(asked, V1)
    records = simulate(Workload(_table(asked)), [instance_of(asked, V1)], check=True).requests
    assert np.allclose([one.first_token_s for one in mine.requests], records.first_token_s, atol=1e-6)
    assert np.allclose([one.finish_s for one in mine.requests], records.finish_s, atol=1e-6)
    assert [len(one.preemptions) for one in mine.requests] == records.preemptions.tolist()
    firsts = [one.admissions[0][1] for one in mine.requests]
    assert firsts == records.cached_tokens.tolist()
    assert sum(records.preemptions) > 0


def test_tokens_add_up():
    """Prompt and all but the last token of the answer, and what was computed again."""
    asked = random_workload(5)
    for request, one in zip(asked.requests, ours(asked, V1).requests, strict=True):
        if not one.preemptions:
            assert sum(steps * tokens for _, steps, tokens in one.runs) == request.prompt_tokens + request.output_tokens - 1


REFUSED = {
    "chunked_prefill_size": {"chunked_prefill_size": 512},
    "mixed_chunk": {"mixed_chunk": True},
    "order": {"order": "lpm"},
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_setting_without_a_key_is_refused(setting):
    with pytest.raises(Unsupported) as caught:
        ours(workload((0.0, 1, 1), **REFUSED[setting]), V1)
    assert caught.value.setting == setting and str(caught.value).startswith(f"{setting}: ")


def test_every_setting_is_a_key_or_refused():
    """None is passed over: a changed setting changes the experiment, or is refused, or is said beside it."""
    beside = {"speculation_tokens", "speculation_method", "kv_windows"}
    changed = {"max_num_seqs": 7, "max_num_batched_tokens": 99, "max_model_len": 77, "block_tokens": 8, "kv_blocks": 5, "order": "priority"}
    changed |= {"prefix_caching": True, "chunked": False, "async_scheduling": True, "pipeline_stages": 2, "watermark": 0.1}
    changed |= {"long_prefill_token_threshold": 5, "adaptive_threshold": True, "reserve_full_prompt": True, "prefill_schedule_interval": 2}
    changed |= {"max_active_seqs": 3, "max_queued": 3, "max_queued_tokens": 30, "chunked_prefill_size": 64, "max_prefill_tokens": 64}
    changed |= {"schedule_conservativeness": 0.5, "mixed_chunk": True, "prefill_max_requests": 3}
    from dataclasses import fields

    names = {one.name for one in fields(ScheduleSettings)} - beside
    assert names == set(changed)
    plain = experiment_of(ScheduleSettings(), V1)
    for name, value in changed.items():
        try:
            assert experiment_of(ScheduleSettings(**{name: value}), V1) != plain, name
        except Unsupported as refusal:
            assert refusal.setting == name


def test_settings_that_contradict_each_other_are_an_error():
    with pytest.raises(SimserveError, match="long_prefill_token_threshold"):
        ours(workload((0.0, 1, 1), chunked=False, long_prefill_token_threshold=4), V1)
