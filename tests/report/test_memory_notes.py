"""A reader is told where the KV cache is not the engine's, and that a summary with refusals is of the survivors."""

from __future__ import annotations

from typing import Any

import simserve


def warnings(model: str, engine: Any, prompts: list[int]) -> list[str]:
    experiment = {
        "model": model,
        "hardware": "h100-sxm-80gb",
        "engine": engine,
        "workload": {
            "lengths": {
                "prompt": {"kind": "uniform", "low_tokens": prompts[0], "high_tokens": prompts[-1]},
                "output": {"kind": "fixed", "tokens": 4},
            },
            "closed_loop": {"concurrency": 2},
            "count": 12,
        },
    }
    return list(simserve.run(experiment).summary_dict()["warnings"])


def test_refusals_say_whom_the_figures_are_of() -> None:
    found = warnings("llama-3.1-8b", "tensorrt-llm", [6000, 12_000])
    refused = next(text for text in found if "were rejected" in text)
    assert "prompt exceeds the most tokens of a step, and prompts are not cut" in refused
    number = int(refused.split()[0])
    assert f"Latencies and rates are of the {12 - number} requests that were completed, not of those refused." in found
    assert not any("Latencies and rates" in text for text in warnings("llama-3.1-8b", "sglang", [6000, 12_000]))


def test_a_prefix_cache_of_windows_alone_is_said_to_be_left_out() -> None:
    said = "All attention layers of mistral-7b have a window: its prefix cache is not simulated."
    assert said in warnings("mistral-7b", "vllm-v1", [100, 200])
    assert not any("have a window" in text for text in warnings("mistral-7b", "sglang", [100, 200]))
    assert not any("have a window" in text for text in warnings("gpt-oss-20b", "vllm-v1", [100, 200]))


def test_an_eight_bit_latent_cache_is_timed_as_sixteen() -> None:
    found = warnings("deepseek-v2-lite", {"name": "vllm-v1", "kv_cache_dtype": "fp8"}, [100, 200])
    assert any("stored in 8 bits an element; its latent attention is timed as reading 16" in text for text in found)
