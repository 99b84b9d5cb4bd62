"""Where two schedules part is found at the first step that is not the same, and says which rule it speaks of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simserve.validation.schedules.difference import first_difference
from simserve.validation.schedules.schedule import Schedule, ScheduleRecorder
from tests.conformance.small import random_workload, recorded, workload

ASKED = workload((0.0, 8, 4), (0.0, 8, 2), (0.015, 4, 1))


def made(steps, *, starts=None, aborted=()):
    """A schedule from (tokens, preempted, admitted with cached tokens) by step; requests end with the last of their tokens."""
    recorder = ScheduleRecorder("vllm", "0.11.0", 3)
    for number, (tokens, preempted, admitted) in enumerate(steps):
        recorder.step(starts[number] if starts else 0.01 * number, tokens, preempted, admitted, free_blocks=10 - len(tokens))
    last = {row: number for number, (tokens, _, _) in enumerate(steps) for row in tokens}
    for row, number in last.items():
        if row in aborted:
            recorder.aborted(row)
        else:
            recorder.finished(row, 0.01 * (number + 1))
    return recorder.schedule()


STEPS = [
    ({0: 8, 1: 8}, [], {0: 0, 1: 0}),
    ({0: 1, 1: 1}, [], {}),
    ({0: 1, 2: 4}, [], {2: 0}),
    ({0: 1}, [], {}),
]


def other(number, tokens=None, preempted=(), admitted=None):
    steps = list(STEPS)
    was = steps[number]
    steps[number] = (was[0] if tokens is None else tokens, list(preempted), was[2] if admitted is None else admitted)
    return made(steps)


def test_the_same_is_no_difference():
    assert first_difference(ASKED, made(STEPS), made(STEPS)) is None
    assert first_difference(ASKED, made(STEPS), replace(made(STEPS), free_blocks=None)) is None


@pytest.mark.parametrize(
    ("right", "about", "step", "row"),
    [
        (other(2, {0: 1, 2: 3}), "how many tokens a request gets", 2, 2),
        (other(1, {0: 1}), "which requests get tokens", 1, 1),
        (other(2, {0: 1}, admitted={}), "which requests are admitted", 2, 2),
        (other(2, admitted={2: 4}), "tokens found in the prefix cache", 2, 2),
        (other(2, {2: 4}, preempted=[0]), "whether a request is preempted", 2, 0),
        (made(STEPS[:3]), "whether there is a further step", 3, None),
        (made(STEPS, starts=[0.0, 0.01, 0.025, 0.035]), "when the step starts", 2, None),
    ],
)
def test_what_differs_first(right, about, step, row):
    found = first_difference(ASKED, made(STEPS), right)
    assert found is not None
    assert (found.about, found.step, found.row) == (about, step, row)
    assert found.at_s == pytest.approx(0.01 * step)
    mirrored = first_difference(ASKED, right, made(STEPS))
    assert mirrored is not None and (mirrored.about, mirrored.step, mirrored.row) == (about, step, row)
    assert (mirrored.left, mirrored.right) == (found.right, found.left)


def test_another_victim():
    left = made([*STEPS[:2], ({0: 1}, [1], {}), STEPS[3]])
    right = made([*STEPS[:2], ({1: 1}, [0], {}), STEPS[3]])
    found = first_difference(ASKED, left, right)
    assert found is not None and (found.about, found.step) == ("which request is preempted", 2)


def test_the_state_of_both_sides():
    found = first_difference(ASKED, made(STEPS), other(2, {0: 1}, admitted={}))
    assert found is not None and found.left is not None and found.right is not None
    left, right = found.left, found.right
    assert (left.tokens, right.tokens) == ({0: 1, 2: 4}, {0: 1})
    assert (left.running, left.waiting) == ((0, 2), ()) and (right.running, right.waiting) == ((0,), (2,))
    assert (left.admitted, right.admitted) == ({2: 0}, {}) and (left.free_blocks, right.free_blocks) == (8, 9)


def test_a_preempted_request_waits_until_it_is_admitted_again():
    steps = [STEPS[0], ({0: 1}, [1], {}), ({0: 1, 1: 9}, [], {1: 0}), ({0: 1}, [], {})]
    changed = [*steps[:1], ({0: 1}, [1], {}), ({0: 1, 1: 8}, [], {1: 0}), ({0: 1}, [], {})]
    found = first_difference(ASKED, made(steps), made(changed))
    assert found is not None and found.left is not None and found.step == 2
    assert found.left.running == (0, 1) and found.left.waiting == (2,)
    earlier = first_difference(ASKED, made(steps), made([steps[0], ({0: 2}, [1], {}), *steps[2:]]))
    assert earlier is not None and earlier.left is not None and earlier.left.waiting == (1,)


def test_ends_are_compared_where_steps_are_the_same():
    one = made(STEPS)
    for change, about, times in (
        ({"finish_s": 0.05}, "when a request ends", ("0.02 s", "0.05 s")),
        ({"first_token_s": 0.01}, "when a request's first token comes", ("never", "0.01 s")),
        ({"finish_s": None, "ended": "aborted"}, "when a request ends", ("0.02 s", "never")),
    ):
        requests = (one.requests[0], replace(one.requests[1], **change), one.requests[2])
        found = first_difference(ASKED, one, replace(one, requests=requests))
        assert found is not None and found.step is None and found.row == 1
        assert (found.about, found.times) == (about, times)


def test_recordings_of_times_alone_are_compared_by_them():
    """The first by time, not by row."""
    asked = random_workload(3)
    mine = recorded(asked)
    bare = Schedule("vllm", "0.11.0", tuple(replace(one, runs=None, admissions=None, preemptions=None) for one in mine.requests))
    assert first_difference(asked, bare, mine) is None
    rows = list(bare.requests)
    late = max(range(len(rows)), key=lambda row: rows[row].finish_s or 0.0)
    for row in (late, 5):
        rows[row] = replace(rows[row], finish_s=round((rows[row].finish_s or 0.0) + 0.01, 6))
    found = first_difference(asked, replace(bare, requests=tuple(rows)), mine)
    assert found is not None and found.row == 5 and found.at_s == mine.requests[5].finish_s


@pytest.mark.parametrize("ahead", [{"async_scheduling": True}, {"pipeline_stages": 2}])
def test_starts_of_plans_made_ahead_are_not_compared(ahead):
    """What is planned ahead may be taken down when it is planned or when it starts; what comes of it has one time."""
    asked = replace(ASKED, settings=replace(ASKED.settings, **ahead))
    early = made(STEPS, starts=[0.0, 0.0, 0.01, 0.02])
    assert first_difference(ASKED, made(STEPS), early) is not None
    assert first_difference(asked, made(STEPS), early) is None
    late = replace(early, requests=(replace(early.requests[0], finish_s=0.05), *early.requests[1:]))
    assert first_difference(asked, made(STEPS), late) is not None


def test_a_microsecond_is_no_difference():
    one = made(STEPS)
    near = made(STEPS, starts=[0.0, 0.010001, 0.02, 0.03])
    assert first_difference(ASKED, one, near) is None
    far = made(STEPS, starts=[0.0, 0.010003, 0.02, 0.03])
    assert first_difference(ASKED, one, far) is not None
