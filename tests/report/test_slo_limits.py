"""Limits that are not columns: first tokens in proportion to the prompt, moving averages of gaps."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.errors import ConfigError
from simserve.policies.scheduling.vllm_v0 import VllmV0
from simserve.report.itl_average import highest_average_s
from simserve.report.result import Result
from simserve.report.slo import normalize_limits
from simserve.workload.requests import RequestTable, Workload
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost


@pytest.fixture(scope="module")
def records() -> RunRecords:
    """Forty requests that hold each other up and are preempted now and then."""
    rng = np.random.default_rng(5)
    table = RequestTable.build(np.sort(rng.uniform(0, 20, 40)), rng.integers(1, 60, 40), rng.integers(1, 50, 40))
    spec = InstanceSpec("i0", VllmV0(VllmV0.Params()), JaggedCost(), kv_blocks=60, block_tokens=4, max_seqs=8)
    return simulate(Workload(table), [spec])


def test_moving_averages_are_those_of_the_gaps(records: RunRecords) -> None:
    assert records.counters["preemptions"] > 0
    found = highest_average_s(records, 16)
    for row, times in enumerate(token_times(records)):
        gaps = np.diff(times)
        if len(gaps) == 0:
            assert np.isnan(found[row])
            continue
        averages = []
        for end in range(1, len(gaps) + 1):
            weights = (15 / 17) ** np.arange(end)[::-1]
            averages.append(np.average(gaps[:end], weights=weights))
        assert found[row] == pytest.approx(max(averages), rel=1e-12)


def test_limits_are_judged_by_them(records: RunRecords) -> None:
    served = records.requests.generated_tokens > 1
    limit = float(np.nanmedian(highest_average_s(records, 16)))
    result = Result(records, {}, {"itl_ema16_s": limit})
    violating = (highest_average_s(records, 16) > limit).sum()
    assert served.any() and result.summary_dict()["slo"]["all"]["attainment"] == pytest.approx(1 - violating / 40)


def test_first_tokens_in_proportion_to_the_prompt(records: RunRecords) -> None:
    ttft = records.requests.first_token_s - records.requests.released_s
    fraction = ttft / records.table.prompt_tokens
    limit = float(np.sort(fraction)[9])
    result = Result(records, {}, {"ttft_s_per_prompt_token": limit * (1 + 1e-12)})
    assert result.summary_dict()["slo"]["all"]["attainment"] == pytest.approx(0.25)


def test_names_are_checked() -> None:
    assert normalize_limits({"itl_ema4_s": 1.0, "ttft_s_per_prompt_token": 0.002})
    with pytest.raises(ConfigError, match="did you mean 'itl_ema16_s'"):
        normalize_limits({"itl_ema16": 1.0})
