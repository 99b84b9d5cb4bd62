"""Figures of a run by hand: rates of a measured window, and what is noted on requests that were served."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import simserve
from simserve.engine.records import Status
from simserve.report.metrics import measure, throughput
from tests.report.synthetic import serve
from tests.study.conftest import TINY


def test_requests_per_s_counts_what_completes_in_the_window_whenever_it_was_released():
    """Five short requests a second apart, a long one released just before the window opens, one that failed at its source inside it."""
    arrival_s = [0.0, 1.0, 1.4, 2.0, 3.0, 3.5, 4.0]
    output = [2, 2, 40, 2, 2, 0, 2]
    records, times = serve(arrival_s, [10] * 7, output)
    finish_s = np.array([of[-1] if of else np.nan for of in times])
    assert finish_s[2] > 1.5 and records.requests.status[5] == Status.FAILED
    end_s = records.end_s
    assert end_s == pytest.approx(finish_s[6])
    warm = throughput(measure(records, {}, warmup_s=1.5))
    assert warm["requests_per_s"] == pytest.approx(4 / (end_s - 1.5))  # the long one, and those of 2, 3 and 4 s
    assert warm["arrivals_per_s"] == pytest.approx(4 / (end_s - 1.5))  # 2, 3, 3.5 and 4 s: the failed one arrived, the long one before
    both = throughput(measure(records, {}, warmup_s=1.5, cooldown_s=0.5))
    assert both["requests_per_s"] == pytest.approx(3 / (end_s - 2.0))  # the last one ends in the cool-down
    assert throughput(measure(records, {}))["requests_per_s"] == pytest.approx(6 / end_s)


@pytest.mark.parametrize(("lengths", "truncated"), [([(4090, 20), (100, 5), (4000, 500)], 2), ([(100, 5), (200, 3)], 0)])
def test_a_completed_request_that_met_the_context_limit_is_noted(lengths, truncated, tmp_path):
    """Llama-2-7B attends 4,096 tokens: a prompt of 4,090 leaves room for few tokens, and the answer is complete as far as it can be."""
    rows = "\n".join(f"{10 * at},GPT-4,{prompt},{output},{prompt + output},Conversation log" for at, (prompt, output) in enumerate(lengths))
    path = tmp_path / "t.csv"
    path.write_text(f"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{rows}\n")
    experiment = copy.deepcopy(TINY)
    experiment["workload"] = {"trace": {"format": "burstgpt", "path": str(path)}}
    result = simserve.run(experiment)
    counts = result.summary_dict()["requests"]
    assert counts["completed"] == len(lengths)
    assert counts["reasons"]["completed"] == ({"stopped at the context limit": truncated} if truncated else {})
    generated = result.requests.set_index("prompt_tokens")["generated_tokens"]
    for prompt, output in lengths:
        assert generated[prompt] == min(output, 4096 - prompt) or (prompt + output > 4096 and 0 < generated[prompt] < output)


def test_reasons_stand_by_how_a_request_ended(tmp_path):
    """Two rejected for their length, one failed in the trace, one served: each under its own heading, none under another."""
    rows = "\n".join(f"{at},GPT-4,{prompt},{output},{prompt + output},Conversation log" for at, prompt, output in
                     ((0, 5000, 10), (1, 6000, 10), (2, 100, 0), (3, 100, 10)))  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text(f"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{rows}\n")
    experiment = copy.deepcopy(TINY)
    experiment["workload"] = {"trace": {"format": "burstgpt", "path": str(path)}}
    reasons = simserve.run(experiment).summary_dict()["requests"]["reasons"]
    assert reasons["completed"] == {} and reasons["failed"] == {"failed in the trace": 1}
    assert list(reasons["rejected"].values()) == [2]
