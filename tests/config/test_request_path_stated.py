"""An experiment that states a time of the request path states the whole of it; other keys change alone."""

from __future__ import annotations

import pytest

from simserve.config import engine_profile
from simserve.config.engine_profile import RequestPathSection

LEARNED = RequestPathSection(
    per_request_s=0.005, per_prompt_token_s=1e-6, per_output_token_s=1e-5, delay_s=0.001, api_servers=1, steps_ahead=1
)


@pytest.mark.parametrize("key", ["per_request_s", "per_prompt_token_s", "per_output_token_s", "delay_s"])
@pytest.mark.parametrize("value", [0.0, 0.002])
def test_a_stated_time_replaces_those_that_were_learned_with_it(key: str, value: float) -> None:
    """A measured 2 ms is 2 ms, not 2 ms beside what a fit found for the other parts; 0 is no request path."""
    path = LEARNED.restated(RequestPathSection(**{key: value}))
    assert path == RequestPathSection(**{key: value}, steps_ahead=1)


def test_servers_and_steps_ahead_change_alone() -> None:
    assert LEARNED.restated(RequestPathSection(api_servers=4)) == LEARNED.model_copy(update={"api_servers": 4})
    assert LEARNED.restated(RequestPathSection(steps_ahead=0)) == LEARNED.model_copy(update={"steps_ahead": 0})
    assert LEARNED.restated(RequestPathSection(per_request_s=0.004, api_servers=2)) == RequestPathSection(
        per_request_s=0.004, api_servers=2, steps_ahead=1
    )


@pytest.mark.parametrize("name", engine_profile.names())
def test_a_path_of_nothing_delays_nothing(name: str) -> None:
    path = engine_profile.load_engine(name).request_path.restated(RequestPathSection(per_request_s=0.0))
    assert path.model_dump(exclude={"steps_ahead"}) == RequestPathSection().model_dump(exclude={"steps_ahead"})
