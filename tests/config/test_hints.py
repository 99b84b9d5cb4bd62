"""What a wrong word was meant to say: by meaning first, by spelling last, and never another thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from simserve import hints, resources
from simserve.config import engine_profile
from simserve.config.experiment import load
from simserve.config.schema import ExperimentSpec
from simserve.errors import MOST_LISTED, ConfigError, nearest
from simserve.model import model_names

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def complaint(path: Path, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("gpu=h100", "'hardware'"),
        ("tensor_parallel_size=2", "'cluster.instances.0.parallel.tp'"),
        ("cluster.instances.0.tp=2", "'cluster.instances.0.parallel.tp'"),
        ("cluster.instances.0.parallel.tensor_parallel_size=2", "'tp'"),
        ("cluster.instances.0.scheduler.max_num_seqs=2", "'max_seqs'"),
        ("cluster.instances.0.kv.page_size=2", "'block_tokens'"),
        ("cluster.instances.0.kv.gpu_memory_utilization=0.9", "'memory_utilisation'"),
        ("replicas=2", "'cluster.instances.0.count'"),
        ("slo.ttft=1", "'ttft_s'"),
        ("slo.ttft_ms=200", "'ttft_s', in seconds, not milliseconds"),
        ("slo.tpot_ms=20", "'tpot_s', in seconds, not milliseconds"),
        ("slo.tbt=1", "'itl_p99_s'"),
        ("rps=3", "'workload.arrivals.rate_per_s'"),
        ("workload.qps=3", "'workload.arrivals.rate_per_s'"),
        ("workload.arrivals.qps=3", "'rate_per_s'"),
        ("workload.num_prompts=3", "'count'"),
        ("num_prompts=3", "'workload.count'"),
        ("max_concurrency=3", "'workload.max_concurrency'"),
        ("workload.users=3", "'workload.closed_loop.concurrency'"),
        ("metrics.warmup=3", "'warmup_s'"),
        ("engine=vllm", "'vllm-v1' or 'vllm-v1-async'"),
        ("engine=trt-llm", "'tensorrt-llm' or 'tensorrt-llm-1.0'"),
        ("engine=tensorrt", "'tensorrt-llm' or 'tensorrt-llm-1.0'"),
        ("engine=SGLang", "'sglang'"),
        ("engine=sglng", "'sglang'"),
        ("hardware=h100", "'h100-pcie' or 'h100-sxm-80gb'"),
        ("hardware=NVIDIA H100 80GB HBM3", "'h100-sxm-80gb'"),
        ("hardware=a100", "'a100-sxm-40gb' or 'a100-sxm-80gb'"),
        ("hardware=RTX4090", "'rtx-4090'"),
        ("model=llamma3-8b", "'llama-3-8b'"),
        ("model=Llamma-2-7B-hf", "'llama-2-7b'"),
        ("speculative={}", "'speculation'"),
        ("numSpeculativeTokens=4", "'speculation.tokens'"),
        ("engine.num_speculative_tokens=4", "'speculation.tokens'"),
        ("speculation.num_speculative_tokens=4", "'tokens'"),
        ("speculation.accept_length=2.5", "'acceptance'"),
        ("price=3", "'prices'"),
        ("cluster.instances.0.cost_per_hour=2.5", "'prices.usd_per_hour'"),
    ],
)
def test_other_names_of_the_same_thing(write: Write, change: str, meant: str) -> None:
    assert f"did you mean {meant}?" in complaint(write(), change)


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ("lora=1", "LoRA adapters"),
        ("engine.enable_lora=true", "LoRA adapters"),
        ("adapters=[a]", "LoRA adapters"),
        ("medusa={}", "Medusa heads, lookahead and suffix decoding"),
        ("cluster.instances.0.kv.kv_offload=true", "a host or disk tier of the KV cache"),
        ("cluster.instances.0.kv.lmcache=true", "a host or disk tier of the KV cache"),
        ("workload.images=2", "images, audio and video"),
        ("workload.timeout_s=2", "clients that give up or try again"),
        ("workload.beam_width=2", "beam search"),
    ],
)
def test_known_absent_features_are_named_as_such(write: Write, change: str, feature: str) -> None:
    message = complaint(write(), change)
    assert f"not modelled: {feature} (docs/fidelity.md, Mechanisms)" in message
    assert "did you mean" not in message


def test_the_page_names_every_absent_feature_as_not_modelled() -> None:
    lines = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").split("\n## ")
    section = next(part for part in lines if part.startswith("Mechanisms"))
    for feature in hints.ABSENT:
        assert any(feature in line and "not modelled" in line for line in section.splitlines()), feature


def test_every_meaning_is_a_key_that_exists() -> None:
    properties = ExperimentSpec.model_json_schema()["properties"]
    for target in hints.KEYS:
        assert target.split(".")[0] in properties, target
    for start in hints.ENGINES.values():
        assert any(name.startswith(start) for name in engine_profile.names()), start
    words = [word for names in hints.KEYS.values() for word in names]
    assert len(words) == len(set(words)), "a word means one thing"


@pytest.mark.parametrize("name", ["b200", "mi300x", "H200-NVL-999GB", "gb300", "tpu-v5e", "b100", "l4", "rtx-3090", "h1000"])
def test_unknown_hardware_is_never_another_device(name: str) -> None:
    tail = hints.hardware(name, resources.available("hardware_profiles"))
    suggested = re.findall(r"'([^']+)'", tail)
    assert all(one.split("-")[0] == name.split("-")[0].lower() for one in suggested)
    assert "a path to a profile of your own" in tail
    for one in resources.available("hardware_profiles"):
        assert one in tail


@pytest.mark.parametrize("word", ["llama-3-9b", "qwen3-33b", "gpt-4", "claude", "opt-14b"])
def test_another_size_is_no_misspelling(word: str) -> None:
    assert "did you mean" not in nearest(word, model_names())


def test_a_list_of_names_is_bounded_and_begins_with_the_family() -> None:
    tail = nearest("qwen3-33b", model_names())
    assert len(tail) < MOST_LISTED + 50 and re.search(r"Allowed: qwen3.* and \d+ more", tail)
    assert len(nearest("x" * 100_000, model_names())) < MOST_LISTED + 50
