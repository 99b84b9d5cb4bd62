"""Plans that are held too long, and memory that batches wait for: small runs whose spans went on, or that stood still, under `--check`,
which compares them with the same run step by step (I7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simserve


def _pools(engine: str, arrivals: dict[str, Any], least: int, blocks: tuple[int, int], most: tuple[int, int]) -> dict[str, Any]:
    def pool(role: str, blocks: int, seqs: int, block_tokens: int) -> dict[str, Any]:
        scheduler = {"policy": "vllm-v1", "max_num_batched_tokens": 100, "max_seqs": seqs}
        return {"role": role, "kv": {"blocks": blocks, "block_tokens": block_tokens}, "max_model_len": 2048, "scheduler": scheduler}

    tokens = 4 if blocks[1] > 100 else 16
    lengths = {
        "prompt": {"kind": "uniform", "low_tokens": least, "high_tokens": 200},
        "output": {"kind": "fixed", "tokens": 66},
    }
    return {
        "model": "deepseek-v2-lite",
        "hardware": "h100-sxm-80gb",
        "engine": engine,
        "workload": {"arrivals": arrivals, "count": 3, "lengths": lengths},
        "cluster": {"instances": [pool("prefill", blocks[0], most[0], tokens), pool("decode", blocks[1], most[1], tokens)]},
    }


@pytest.mark.parametrize("engine", ["vllm-v1-async", "vllm-0.33-async"])
def test_a_slot_that_was_held_is_for_a_request_from_elsewhere(engine: str) -> None:
    pools = _pools(engine, {"kind": "constant", "rate_per_s": 20.0}, 1, (69, 335), (2, 2))
    assert simserve.run(pools | {"name": "slots", "seed": 300034}, check=True).records.end_s > 0


def test_memory_that_was_held_is_for_a_request_from_elsewhere() -> None:
    pools = _pools("vllm-v1-async", {"kind": "poisson", "rate_per_s": 1000.0}, 100, (20, 26), (8, 64))
    assert simserve.run(pools | {"name": "memory", "seed": 300283}, check=True).records.end_s > 0


def test_sglang_looks_at_its_queue_again_when_its_batch_is_not_full_any_more(tmp_path: Path) -> None:
    rows = [(16, 1), (7, 6), (1, 4), (3, 3), (14, 4), (15, 4), (2, 4)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"arrival_s": 0.0, "prompt_tokens": p, "output_tokens": o}) + "\n" for p, o in rows))
    group = {
        "kv": {"blocks": 4, "block_tokens": 16},
        "max_model_len": 2048,
        "scheduler": {"policy": "sglang", "chunked_prefill_size": -1, "max_seqs": 3},
    }
    workload = {"closed_loop": {"concurrency": 3}, "max_output_tokens": 5, "trace": {"path": str(trace), "format": "simserve"}}
    about = {"name": "queue", "model": "qwen2-7b", "hardware": "h100-sxm-80gb", "engine": "sglang-0.5.1", "seed": 300162}
    assert simserve.run(about | {"workload": workload, "cluster": {"instances": [group]}}, check=True).records.end_s > 0


@pytest.mark.parametrize("engine", ["sglang", "sglang-0.5.1", "sglang-0.5.23"])
def test_prompts_under_way_on_stages_do_not_wait_for_each_others_memory(engine: str) -> None:
    """Three prompts of up to 200 tokens in chunks of 64, two micro-batches, memory for one and a half: all end."""
    lengths = {
        "prompt": {"kind": "uniform", "low_tokens": 100, "high_tokens": 200},
        "output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 66},
    }
    group = {
        "parallel": {"pp": 2},
        "scheduler": {"policy": "sglang", "max_seqs": 3, "chunked_prefill_size": 64},
        "max_model_len": 2048,
        "kv": {"blocks": 19, "block_tokens": 16},
    }
    workload = {"count": 3, "lengths": lengths, "arrivals": {"kind": "constant", "rate_per_s": 1000.0}}
    about = {"name": "stages", "model": "qwen2-7b", "hardware": "h100-sxm-80gb", "engine": engine, "seed": 300027}
    result = simserve.run(about | {"workload": workload, "cluster": {"instances": [group]}}, check=True)
    assert result.summary_dict()["requests"]["completed"] == 3
