"""What a package may add to the metrics, what an SLO may be stated of, and which figures tables begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simserve.catalogue import METRICS, SHOWN_FIGURES, TARGETS, Metric, _checked
from simserve.errors import ConfigError

GOOD = Metric("wait_s", "wait", "Wait", "wait", "Wait", "how long it waits", formula=lambda records, gaps: None)
A_METRIC = "it must be a simserve.catalogue.Metric over requests with a formula"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (GOOD, ""),
        ({"name": "wait_s"}, A_METRIC),
        (replace(GOOD, formula=None), A_METRIC),
        (replace(GOOD, over="token"), A_METRIC),
        (replace(GOOD, name="Wait_s"), "its name must be lower case and end in _s"),
        (replace(GOOD, name="wait"), "its name must be lower case and end in _s"),
        (replace(GOOD, unit="s/token"), "its name must be lower case and end in _s_per_token"),
        (replace(GOOD, name="wait_s_per_token", unit="s/token"), ""),
        (replace(GOOD, quantity="Wait.s"), "its quantity must be a lower-case word"),
        (replace(GOOD, name="ttft_s"), "the name 'ttft_s' is taken"),
        (replace(GOOD, quantity="ttft"), "the name 'ttft' is taken"),
        (replace(GOOD, quantity="goodput"), "the name 'goodput' is taken"),
        (replace(GOOD, quantity="throughput"), "the name 'throughput' is taken"),
        (replace(GOOD, name="itl_p99_s"), "the name 'itl_p99_s' is taken"),
        (replace(GOOD, name="arrival_period_s"), "the name 'arrival_period_s' is taken"),
        (replace(GOOD, name="finish_s"), "the name 'finish_s' is taken"),
    ],
)
def test_a_metric_of_a_package_stands_beside_the_known_ones(found: Any, problem: str) -> None:
    if not problem:
        assert _checked("metric 'it'", found, METRICS) is found
        return
    with pytest.raises(ConfigError) as caught:
        _checked("metric 'it'", found, METRICS)
    assert str(caught.value) == f"metric 'it': {problem}"


def test_what_an_slo_may_be_stated_of() -> None:
    names = [target.name for target in TARGETS]
    assert names[:6] == ["ttft_s", "ttft_s_per_prompt_token", "tpot_s", "e2e_s", "queueing_s", "normalized_latency_s_per_token"]
    assert names[6:11] == ["itl_p90_s", "itl_p95_s", "itl_p99_s", "itl_max_s", "itl_ema16_s"] and len(set(names)) == len(names)
    assert all(target.meaning for target in TARGETS) and [m.name for m in METRICS if m.over != "request"] == ["itl_s", "itl_emission_s"]
    first = [figure.column for figure in SHOWN_FIGURES][:5]
    assert first == ["requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "goodput_per_s", "attainment"]
    assert SHOWN_FIGURES[22].column == "acceptance_length", "those that speculate come after all others"
