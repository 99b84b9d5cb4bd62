"""Prompts longer than a step: what each bundled engine profile does with them, from its engine's own rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.config import engine_profile
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.engine import simulate
from simserve.engine.records import RunRecords, Status

WHAT: dict[str, tuple[int, str]] = {
    # cut to max_num_batched_tokens (vllm/v1/core/sched/scheduler.py)
    "vllm-v1": (8192, "cut"),
    "vllm-v1-async": (8192, "cut"),
    "vllm-0.19": (8192, "cut"),
    "vllm-0.24": (8192, "cut"),
    "vllm-0.33": (8192, "cut"),
    "vllm-0.33-async": (8192, "cut"),
    "vllm-ascend": (2048, "cut"),
    "xy-serve": (4096, "cut"),
    # max_num_batched_tokens is the longest sequence unless stated (vllm/config.py SchedulerConfig): nothing is longer than a step
    "vllm-v0": (16384, "whole"),
    "vllm-v0-offline": (16384, "whole"),
    "vllm-ascend-0.9": (16384, "whole"),
    "vllm-2023": (16384, "whole"),
    # chunked_prefill_size 8,192 on 80 GB (sglang/srt/server_args.py)
    "sglang": (8192, "cut"),
    "sglang-0.5.1": (8192, "cut"),
    "sglang-0.5.23": (8192, "cut"),
    "sglang-ascend": (8192, "cut"),
    # half of batch_max_tokens 16,384 (lightllm/server/api_start.py)
    "lightllm": (8192, "cut"),
    # RequestError above max_num_tokens without chunked prefill (tensorrt_llm/llmapi/llm.py, _check_arguments)
    "tensorrt-llm": (8192, "refused"),
    "tensorrt-llm-1.0": (8192, "refused"),
    "sarathi-serve": (512, "cut"),
    "deepspeed-fastgen": (768, "cut"),
    "llama.cpp": (2048, "cut"),
    "orca": (16384, "whole"),
    "fastertransformer": (16384, "whole"),
    "mindie": (40960, "whole"),
}
PROMPT = 12_000


def served(engine: Any, prompts: list[int], **scheduler: Any) -> RunRecords:
    experiment = load(
        {
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "engine": engine,
            "cluster": {"instances": [{"max_model_len": 16384, **({"scheduler": scheduler} if scheduler else {})}]},
            "workload": {
                "lengths": {"prompt": {"kind": "fixed", "tokens": prompts[0]}, "output": {"kind": "fixed", "tokens": 4}},
                "closed_loop": {"concurrency": 1},
                "count": len(prompts),
            },
        }
    )
    parts = assemble(experiment)
    return simulate(parts.workload, parts.instances, parts.cluster, check=True)


def prefill_steps(records: RunRecords) -> list[int]:
    """Prompt tokens of each step that had any."""
    tokens = np.concatenate([lane.span_prefill_tokens for lane in records.lanes])
    return [int(n) for n in tokens[tokens > 0]]


def test_every_bundled_engine_is_listed() -> None:
    assert set(WHAT) == set(engine_profile.names())


@pytest.mark.parametrize("engine", sorted(WHAT))
def test_what_the_engine_does(engine: str) -> None:
    step, what = WHAT[engine]
    records = served(engine, [PROMPT])
    if what == "refused":
        assert list(records.requests.status) == [Status.REJECTED]
        (reason,) = {records.requests.reasons[k] for k in records.requests.reason}
        assert "exceeds the most tokens of a step" in reason
        return
    assert list(records.requests.status) == [Status.COMPLETED]
    expected = [PROMPT] if what == "whole" else [step] * (PROMPT // step) + [PROMPT % step] * (PROMPT % step > 0)
    assert prefill_steps(records) == expected


@pytest.mark.parametrize("flag", ["enable_chunked_prefill", "enable_chunked_context"])
def test_tensorrt_llm_with_chunked_context(flag: str) -> None:
    records = served({"name": "tensorrt-llm-1.0", flag: True}, [PROMPT])
    assert prefill_steps(records) == [8192, PROMPT - 8192]


def test_a_prompt_of_exactly_one_step_is_served() -> None:
    assert list(served("tensorrt-llm", [8192]).requests.status) == [Status.COMPLETED]
    assert list(served("tensorrt-llm", [8193]).requests.status) == [Status.REJECTED]


def test_vllm_v0_refuses_only_below_a_stated_limit() -> None:
    records = served({"name": "vllm-v0", "max_num_batched_tokens": 8192}, [PROMPT])
    assert list(records.requests.status) == [Status.REJECTED]
    assert prefill_steps(served({"name": "vllm-v0", "enable_chunked_prefill": True}, [PROMPT]))[:2] == [512, 512]


def test_vllm_v1_without_chunks_runs_prompts_whole() -> None:
    assert prefill_steps(served({"name": "vllm-v1-async", "enable_chunked_prefill": False}, [PROMPT])) == [PROMPT]


def test_sglang_without_chunks_runs_the_first_prompt_whole_whatever_its_length() -> None:
    assert prefill_steps(served({"name": "sglang", "chunked_prefill_size": -1}, [PROMPT])) == [PROMPT]
    assert prefill_steps(served({"name": "sglang", "chunked_prefill_size": -1, "max_prefill_tokens": 1000}, [PROMPT])) == [PROMPT]
