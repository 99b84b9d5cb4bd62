"""Time of a request outside the engine: it delays the request, not the devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simserve.engine import simulate
from simserve.workload.requests import RequestTable, Workload
from tests.engine.fixed_cases import ROOMY


def table(arrivals: list[float], prompts: list[int]) -> RequestTable:
    n = len(arrivals)
    return RequestTable.build(np.array(arrivals), np.array(prompts), np.full(n, 3))


def test_the_first_token_is_later_by_the_path_and_the_rest_unchanged() -> None:
    work = Workload(table([0.0, 10.0], [5, 9]))
    plain = simulate(work, [ROOMY.spec()], check=True).requests
    away = simulate(work, [replace(ROOMY.spec(), request_s=0.25, request_per_prompt_token_s=0.01)], check=True).requests
    assert away.released_s.tolist() == plain.released_s.tolist()
    assert away.first_token_s - plain.first_token_s == pytest.approx([0.25 + 0.05, 0.25 + 0.09])
    assert away.finish_s - away.first_token_s == pytest.approx(plain.finish_s - plain.first_token_s)


def test_a_short_prompt_may_overtake_a_long_one_on_the_way() -> None:
    r = simulate(Workload(table([0.0, 0.1], [40, 2])), [replace(ROOMY.spec(), request_per_prompt_token_s=0.1)], check=True).requests
    assert r.scheduled_s[1] < r.scheduled_s[0]


def test_a_client_of_a_closed_loop_is_on_the_way_too() -> None:
    work = Workload(table([0.0] * 6, [4] * 6), concurrency=1)
    r = simulate(work, [replace(ROOMY.spec(), request_s=0.5)], check=True).requests
    assert (r.scheduled_s - r.released_s).tolist() == pytest.approx([0.5] * 6)
    assert r.released_s[1:].tolist() == r.finish_s[:-1].tolist()


def test_a_newcomer_waits_for_the_steps_that_are_scheduled_already() -> None:
    # One long request decodes; another comes in the middle of a step.
    table = RequestTable.build(np.array([0.0, 0.5]), np.array([8, 8]), np.array([200, 4]))
    seen = []
    for ahead in (0, 1, 2):
        records = simulate(Workload(table), [replace(ROOMY.spec(), steps_ahead=ahead)], check=True)
        seen.append(float(records.requests.scheduled_s[1]))
    ends = records.lanes[0].step_end_s
    first = int(np.searchsorted(ends, 0.5))
    assert seen == ends[first : first + 3].tolist()


def test_an_idle_engine_sees_a_newcomer_at_once() -> None:
    table = RequestTable.build(np.array([0.0, 40.0]), np.array([8, 8]), np.array([4, 4]))
    records = simulate(Workload(table), [replace(ROOMY.spec(), steps_ahead=2)], check=True)
    assert records.requests.scheduled_s[1] == 40.0
    # Of two that come together to a busy engine whose work then ends, neither waits for steps that will not be.
    table = RequestTable.build(np.array([0.0, 0.01, 0.01]), np.array([8, 8, 8]), np.array([1, 2, 2]))
    records = simulate(Workload(table), [replace(ROOMY.spec(), steps_ahead=2)], check=True)
    assert records.requests.scheduled_s[1:].tolist() == [records.lanes[0].step_end_s[0]] * 2
