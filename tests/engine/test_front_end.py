"""API servers take requests in one after the other; while they have little to do they are a delay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.engine import simulate
from simserve.engine.front_end import FrontEnd
from simserve.errors import ConfigError
from simserve.workload.requests import RequestTable, Workload
from tests.engine.fixed_cases import ROOMY


def table(arrivals: list[float], prompts: list[int], output: int) -> RequestTable:
    n = len(arrivals)
    return RequestTable.build(np.array(arrivals), np.array(prompts), np.full(n, output))


def passed(arrivals: list[float], work_s: float, servers: int) -> list[float]:
    front = FrontEnd(replace(ROOMY.spec(), request_s=work_s, api_servers=servers))
    return [front.passed_s(at, 1) for at in arrivals]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30).map(sorted), st.integers(1, 4))
def test_they_are_a_queue_with_so_many_servers(arrivals: list[float], servers: int) -> None:
    """Kiefer and Wolfowitz: a customer starts when the earliest of the servers is free, so of constant work c the n-th is done at
    max(arrival, done of the (n - k)-th) + c."""
    done = passed(arrivals, 0.5, servers)
    expected: list[float] = []
    for i, at in enumerate(arrivals):
        expected.append(max(at, expected[i - servers] if i >= servers else 0.0) + 0.5)
    assert done == pytest.approx(expected)


def test_far_apart_they_are_a_delay_to_the_last_bit() -> None:
    work = Workload(table([0.0, 3.1, 7.7], [40, 2, 9], 3))
    plain = replace(ROOMY.spec(), request_s=0.123, request_per_prompt_token_s=0.001)
    queued = replace(plain, api_servers=1, scheduler=ROOMY.spec().scheduler)
    before, after = (simulate(work, [spec], check=True).requests for spec in (plain, queued))
    assert np.array_equal(before.finish_s, after.finish_s)


def test_a_burst_is_taken_in_at_the_rate_of_the_servers() -> None:
    burst = Workload(table([0.0] * 40, [8] * 40, 1))
    for servers, rate in ((1, 10.0), (2, 20.0)):
        r = simulate(burst, [replace(ROOMY.spec(), request_s=0.1, api_servers=servers)], check=True).requests
        assert r.first_token_s.max() == pytest.approx(40 / rate, rel=0.1)


def test_answers_take_time_from_requests_that_wait() -> None:
    front = FrontEnd(replace(ROOMY.spec(), request_s=0.1, request_per_output_token_s=0.05, api_servers=1))
    assert [front.passed_s(0.0, 1) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    front.sent(0.15, 20)  # a second of work, while requests wait
    assert front.passed_s(0.2, 1) == pytest.approx(0.3 + 1.0 + 0.1)


def test_an_idle_server_has_sent_the_tokens_as_they_came() -> None:
    """A client that sends its next request when an answer ends does not wait for that answer."""
    spec = replace(ROOMY.spec(), request_s=0.1, api_servers=1)
    runs = [
        simulate(Workload(table([0.0] * 4, [4] * 4, 20), concurrency=1), [replace(spec, request_per_output_token_s=each)], check=True)
        for each in (0.0, 0.05)
    ]
    assert np.array_equal(runs[0].requests.finish_s, runs[1].requests.finish_s)


def test_a_negative_number_of_servers_is_refused() -> None:
    with pytest.raises(ConfigError, match="api_servers"):
        replace(ROOMY.spec(), api_servers=-1)


def test_a_delay_on_the_way_keeps_no_server() -> None:
    front = FrontEnd(replace(ROOMY.spec(), request_s=0.1, request_delay_s=1.0, api_servers=1))
    assert [front.passed_s(0.0, 1), front.passed_s(0.0, 1)] == pytest.approx([1.1, 1.2])
    assert FrontEnd(replace(ROOMY.spec(), request_s=0.1, request_delay_s=1.0)).passed_s(0.0, 1) == pytest.approx(1.1)
