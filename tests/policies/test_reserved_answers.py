"""TensorRT-LLM's GUARANTEED_NO_EVICT: a newcomer must find memory for its whole answer, and is then never preempted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.engine import simulate
from simserve.engine.records import RunRecords, Status


def served(limit: Any, **scheduler: Any) -> RunRecords:
    """12 requests of 100 + 100 tokens at once on a cache of 1,000 tokens."""
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 100}}
    experiment = load(
        {
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "engine": "tensorrt-llm-1.0",
            "cluster": {
                "instances": [
                    {
                        "max_model_len": 400,
                        "kv": {"blocks": 100, "block_tokens": 10},
                        **({"scheduler": scheduler} if scheduler else {}),
                    }
                ]
            },
            "workload": {"lengths": lengths, "closed_loop": {"concurrency": 12}, "count": 12, "max_output_tokens": limit},
        }
    )
    parts = assemble(experiment)
    return simulate(parts.workload, parts.instances, parts.cluster, check=True)


def most_running(records: RunRecords) -> int:
    return max(int(lane.span_decode_requests.max()) for lane in records.lanes)


@pytest.mark.parametrize(("limit", "at_once"), [("output", 5), (150, 4)])
def test_as_many_run_as_whole_answers_fit(limit: Any, at_once: int) -> None:
    records = served(limit)
    assert (records.requests.status == Status.COMPLETED).all()
    assert most_running(records) == at_once
    assert int(np.sum(records.requests.preemptions)) == 0


def test_prompts_that_are_cut_reserve_too() -> None:
    assert most_running(served("output", chunked=True, token_budget=64)) == 5


def test_without_a_stated_limit_answers_grow_until_memory_ends() -> None:
    for records in (served(None), served("output", reserve="step")):
        assert (records.requests.status == Status.COMPLETED).all()
        assert most_running(records) > 5
        assert int(np.sum(records.requests.preemptions)) > 0
