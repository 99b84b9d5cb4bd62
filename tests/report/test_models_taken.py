"""A run says which bundled architecture a name stood for, and computes what that architecture in that format computes."""

from __future__ import annotations

import json
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError


def summary(model: Any, **more: Any) -> dict[str, Any]:
    lengths = {"prompt": {"kind": "fixed", "tokens": 300}, "output": {"kind": "fixed", "tokens": 8}}
    workload = {"lengths": lengths, "closed_loop": {"concurrency": 2}, "count": 8}
    experiment = {"model": model, "hardware": "h100-sxm-80gb", "engine": "vllm-v1", "workload": workload} | more
    found = simserve.run(experiment).summary_dict()
    assert isinstance(found, dict)
    return found


def test_a_copy_runs_as_the_model_in_its_format_and_the_result_says_so() -> None:
    named = summary("RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8")
    stated = summary({"name": "llama-3.1-8b", "quantisation": "w8a8_int8"})
    assert named["latency"] == stated["latency"] and named["throughput"] == stated["throughput"]
    cost = named["simulated"][0]["cost"]
    sentence = "The model 'RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8' is taken as the bundled llama-3.1-8b"
    assert cost["model"] == "llama-3.1-8b" and cost["quantisation"] == "w8a8_int8"
    assert cost["model_taken"].startswith(sentence) and cost["model_taken"].endswith("weights w8a8_int8 from the name.")
    assert named["warnings"].count(cost["model_taken"]) == 1
    assert "model_taken" not in stated["simulated"][0]["cost"] and not any("taken as" in text for text in stated["warnings"])


def test_a_format_that_is_stated_comes_before_the_name() -> None:
    found = summary({"name": "Qwen/Qwen3-8B-AWQ", "quantisation": "fp8"})
    assert found["simulated"][0]["cost"]["quantisation"] == "fp8"
    assert "weights" not in found["simulated"][0]["cost"]["model_taken"]


def test_a_draft_is_named_alike() -> None:
    acceptance = {"rate": 0.7}
    speculation = {"method": "draft-model", "draft": "unsloth/Llama-3.2-1B-Instruct-FP8", "tokens": 3, "acceptance": acceptance}
    found = summary("llama-3.1-8b", engine="vllm-v0", speculation=speculation)
    taken = found["simulated"][0]["cost"]["draft"]["model_taken"]
    assert "is taken as the bundled llama-3.2-1b" in taken and taken in found["warnings"]


def test_a_format_that_is_not_simulated_is_a_mistake_at_its_key() -> None:
    with pytest.raises(ConfigError, match=r"model: model 'unsloth/Qwen3-8B-GGUF': weights in GGUF are not simulated"):
        summary("unsloth/Qwen3-8B-GGUF")


def test_the_command_looks_names_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "vllm-ascend/Qwen3-32B-W8A8"]) == 0
    assert "is taken as the bundled qwen3-32b (qwen3" in " ".join(capsys.readouterr().out.split())
    main(["models", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["model"], found["weights"], found["context_tokens"]) == ("qwen3-235b-a22b-2507", "fp8_block128", 262144)
    assert main(["models", "Qwen3-33B"]) == 2
    assert "unknown model 'Qwen3-33B'" in capsys.readouterr().err
