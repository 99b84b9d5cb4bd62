"""What a driver tells step by step is kept as runs, without loss."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simserve.validation.schedules.schedule import ScheduleRecorder, seconds


def test_equal_steps_are_one_run():
    recorder = ScheduleRecorder("vllm", "0.11.0", 2)
    recorder.step(0.0, {0: 64}, admitted={0: 16}, free_blocks=9)
    recorder.step(0.01, {0: 1, 1: 8}, admitted={1: 0}, free_blocks=8)
    recorder.step(0.02, {0: 1, 1: 1}, free_blocks=8)
    recorder.first_token(0, 0.01)
    recorder.first_token(0, 0.02)  # a later one is not the first
    recorder.finished(0, 0.03)
    recorder.aborted(1)
    found = recorder.schedule()
    first, second = found.requests
    assert first.runs == ((0, 1, 64), (1, 2, 1)) and first.admissions == ((0, 16),)
    assert (first.first_token_s, first.finish_s, first.ended) == (0.01, 0.03, "finished")
    assert second.runs == ((1, 1, 8), (2, 1, 1)) and (second.finish_s, second.ended) == (None, "aborted")
    assert found.steps == ((0.0, 0.01, 3),) and found.free_blocks == ((9, 1), (8, 2))


def test_a_plan_that_computes_nothing_has_no_number():
    """What it preempts and admits stands at the next step that computes something."""
    recorder = ScheduleRecorder("vllm", "0.11.0", 2)
    recorder.step(0.0, {0: 4}, admitted={0: 0})
    recorder.step(0.01, {1: 0}, preempted=[0])
    recorder.step(0.02, {0: 5}, admitted={0: 4})
    found = recorder.schedule()
    assert found.step_starts() == [0.0, 0.02]
    assert found.requests[0].preemptions == (1,) and found.requests[0].admissions == ((0, 0), (1, 4))
    assert found.free_blocks is None  # not known in every step


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60, unique=True))
def test_starts_come_back(microseconds):
    starts = [one / 1e6 for one in sorted(microseconds)]
    recorder = ScheduleRecorder("vllm", "0.11.0", 1)
    for start in starts:
        recorder.step(start, {0: 1})
    found = recorder.schedule().step_starts()
    assert len(found) == len(starts)
    assert all(abs(a - b) < 1e-6 for a, b in zip(found, starts, strict=True))


def test_times_in_words():
    assert [seconds(s) for s in (0.0, 12.345678, 12.0, 0.1 + 0.2)] == ["0 s", "12.345678 s", "12 s", "0.3 s"]
