"""Engine flags by their real names: what each becomes, and what contradicts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.config import engine_profile
from simserve.config.experiment import Experiment, load
from simserve.config.speculation_section import SpeculationSection
from simserve.errors import ConfigError

Write = Callable[..., Path]
ENGINE = "engine: {name: vllm-v1, max_num_seqs: 64}"
OWN_SCHEDULER = ("      scheduler: {policy: sarathi, token_budget: 512}\n", "")


def loaded(write: Write, engine: str, *changes: tuple[str, str]) -> Experiment:
    return load(write((ENGINE, f"engine: {engine}"), OWN_SCHEDULER, *changes))


def params(experiment: Experiment, group: int = 0) -> dict[str, Any]:
    return experiment.groups[group].params.model_dump()


@pytest.mark.parametrize(
    ("engine", "word", "bits"),
    [
        ("vllm-v1", "fp8", 8),
        ("vllm-v1", "fp8_e5m2", 8),
        ("vllm-v1", "auto", None),
        ("vllm-v0", "fp8_e4m3", 8),
        ("sglang", "fp8_e5m2", 8),
        ("tensorrt-llm", "nvfp4", 4.5),
    ],
)
def test_the_cache_type_is_bits_of_a_stored_element(write: Write, engine: str, word: str, bits: float | None) -> None:
    experiment = loaded(write, f"{{name: {engine}, kv_cache_dtype: {word}}}")
    assert experiment.spec.model_section.options.kv_bits == bits
    assert load(experiment.resolved()).resolved() == experiment.resolved()


def test_the_cache_type_may_not_contradict_the_model(write: Write) -> None:
    stated = ("model: llama-2-7b", "model: {name: llama-2-7b, options: {kv_bits: 4}}")
    with pytest.raises(ConfigError, match=r"exp\.yaml:3.*kv_cache_dtype: 'fp8' sets model\.options\.kv_bits to 8.*states 4"):
        loaded(write, "{name: vllm-v1, kv_cache_dtype: fp8}", stated)
    same = ("model: llama-2-7b", "model: {name: llama-2-7b, options: {kv_bits: 8}}")
    assert loaded(write, "{name: vllm-v1, kv_cache_dtype: fp8}", same).spec.model_section.options.kv_bits == 8
    assert loaded(write, "{name: vllm-v1, kv_cache_dtype: auto}", stated).spec.model_section.options.kv_bits == 4


def test_a_mistake_in_the_model_is_still_found_where_it_is(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"exp\.yaml:1:8: model.*unknown model 'llama-2-7x'"):
        loaded(write, "{name: vllm-v1, kv_cache_dtype: fp8}", ("model: llama-2-7b", "model: llama-2-7x"))
    with pytest.raises(ConfigError, match=r"model\.options: found 3, expected a mapping"):
        loaded(write, "{name: vllm-v1, kv_cache_dtype: fp8}", ("model: llama-2-7b", "model: {name: llama-2-7b, options: 3}"))


def test_words_that_the_engine_does_not_have(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"kv_cache_dtype: found 'fp7'.*Allowed: auto, bfloat16, fp8"):
        loaded(write, "{name: vllm-v1, kv_cache_dtype: fp7}")
    with pytest.raises(ConfigError, match=r"enable_expert_parallel: found 'true', expected it without quotes"):
        loaded(write, "{name: vllm-v1, enable_expert_parallel: 'true'}")
    with pytest.raises(ConfigError, match=r"kv_cache_dtype: found a list of 1"):
        loaded(write, "{name: vllm-v1, kv_cache_dtype: [fp8]}")
    with pytest.raises(ConfigError, match="vllm-2023 has no flag 'kv_cache_dtype'"):
        loaded(write, "{name: vllm-2023, kv_cache_dtype: fp8}")


MOE = ("model: llama-2-7b", "model: qwen3-30b-a3b")


def layout(write: Write, flag: str, parallel: str) -> tuple[int, int, int]:
    found = loaded(write, f"{{name: vllm-v1, enable_expert_parallel: {flag}}}", MOE, ("parallel: {tp: 1}", f"parallel: {parallel}")).groups
    return found[0].parallel.tp, found[0].parallel.dp, found[0].parallel.ep


def test_expert_parallelism_has_as_many_ranks_as_attention(write: Write) -> None:
    """vLLM has no degree of its own for it: EP size = TP x DP."""
    assert layout(write, "true", "{tp: 4}") == (4, 1, 4)
    assert layout(write, "true", "{tp: 2, dp: 4}") == (2, 4, 8)
    assert layout(write, "true", "{tp: 2, ep: 2}") == (2, 1, 2)
    assert layout(write, "false", "{tp: 4}") == (4, 1, 1)
    for flag, parallel in (("true", "{tp: 4, ep: 2}"), ("false", "{tp: 4, ep: 4}")):
        with pytest.raises(ConfigError, match=r"parallel\.ep: found \d, but the engine's flag 'enable_expert_parallel' makes it"):
            layout(write, flag, parallel)


def test_a_tensor_parallel_flag_counts_for_expert_parallelism(write: Write) -> None:
    engine = "{name: vllm-v1, tensor_parallel_size: 4, enable_expert_parallel: true}"
    experiment = loaded(write, engine, MOE, ("      parallel: {tp: 1}\n", ""))
    assert experiment.groups[0].parallel.ep == 4


def test_a_dense_model_has_no_experts_to_spread(write: Write) -> None:
    with pytest.raises(ConfigError, match="has no experts"):
        loaded(write, "{name: vllm-v1, enable_expert_parallel: true}", ("parallel: {tp: 1}", "parallel: {tp: 2}"))


def test_sglang_cuts_prompts_by_the_memory_of_the_device(write: Write) -> None:
    """server_args.py since 0.5.4: 2,048 tokens below 35 GiB, 4,096 below 60, 8,192 below 160."""
    for hardware, tokens in (("a10", 2048), ("a100-sxm-40gb", 4096), ("h100-sxm-80gb", 8192), ("h200-sxm-141gb", 8192)):
        device = ("hardware: a100-sxm-80gb", f"hardware: {hardware}")
        assert params(loaded(write, "sglang", device))["chunked_prefill_size"] == tokens, hardware
    assert params(loaded(write, "sglang-0.5.1", ("hardware: a100-sxm-80gb", "hardware: a100-sxm-40gb")))["chunked_prefill_size"] == 8192
    assert params(loaded(write, "{name: sglang, chunked_prefill_size: -1}"))["chunked_prefill_size"] == -1
    with pytest.raises(ConfigError, match=r"chunked_prefill_size: found 0, expected a number of tokens, or -1"):
        loaded(write, "{name: sglang, chunked_prefill_size: 0}")


def test_what_each_vllm_does_without_chunked_prefill(write: Write) -> None:
    assert params(loaded(write, "{name: vllm-v1-async, enable_chunked_prefill: false}"))["chunked"] is False
    assert params(loaded(write, "{name: vllm-v0, enable_chunked_prefill: true}"))["chunked"] is True
    assert params(loaded(write, "{name: vllm-v1, enable_chunked_prefill: true}"))["chunked"] is True
    with pytest.raises(ConfigError, match=r"enable_chunked_prefill: found false: vLLM 0\.8 to 0\.11 cuts prompts whatever this says"):
        loaded(write, "{name: vllm-v1, enable_chunked_prefill: false}")


def test_flags_with_rules_may_not_be_contradicted_and_two_flags_may_not_differ(write: Write) -> None:
    group = ("    - count: 2\n", "    - {count: 2, scheduler: {chunked: true}}\n")
    with pytest.raises(ConfigError, match=r"instances\.1\.scheduler\.chunked: found true, but the engine's flag 'enable_chunked_prefill'"):
        loaded(write, "{name: tensorrt-llm, enable_chunked_prefill: false}", group)
    with pytest.raises(ConfigError, match=r"found 0\.6, but engine\.free_gpu_memory_fraction sets the same thing"):
        loaded(write, "{name: tensorrt-llm, free_gpu_memory_fraction: 0.5, kv_cache_free_gpu_memory_fraction: 0.6}")


def test_every_rule_sets_a_key_that_exists(write: Write) -> None:
    for name in engine_profile.names():
        for flag, rule in engine_profile.load_engine(name).flag_rules.items():
            if rule.sets.startswith("speculation."):  # no flag states an acceptance: test_speculation_section.py
                assert rule.sets.removeprefix("speculation.") in SpeculationSection.model_fields
                continue
            free = {"engine.cuda_graph_sizes": "[1, 2]", "engine.request_path.api_servers": "8", "parallel.dp": "1"}.get(rule.sets, "4096")
            values = [v for v in rule.values if rule.values[v] is not None] or [free]
            for value in values:
                written = value if value != "false" or rule.sets != "parallel.ep" else "true"
                change = MOE if rule.sets.startswith("parallel") else ("seed: 3", "seed: 3")
                loaded(write, f"{{name: {name}, {flag}: {written}}}", change)


# ---- the fraction that an engine takes ----


@pytest.mark.parametrize(
    ("engine", "hardware", "tp", "fraction"),
    [
        # 81,034 MiB; 0.4.7 to 0.5.3 leave (9.5 + tp / 2) GiB below 90 GiB, (12 + tp / 2) below 160
        ("sglang-0.5.1", "h100-sxm-80gb", 1, (81034 - 10240) / 81034),
        ("sglang-0.5.1", "h100-sxm-80gb", 4, (81034 - 11776) / 81034),
        ("sglang-0.5.1", "h200-sxm-141gb", 8, (143147 - 16384) / 143147),
        # since 0.5.4: 512 MiB, 1.5 for each of 8,192 tokens, 2 for each of 256 requests, 128 for each device
        ("sglang", "h100-sxm-80gb", 1, (81034 - 13440) / 81034),
        ("sglang", "h100-sxm-80gb", 8, (81034 - 14336) / 81034),
        ("vllm-v1", "h100-sxm-80gb", 8, 0.9),
        ("tensorrt-llm", "h100-sxm-80gb", 8, 0.9),
    ],
)
def test_sglang_leaves_what_its_rule_says(write: Write, engine: str, hardware: str, tp: int, fraction: float) -> None:
    changes = (("hardware: a100-sxm-80gb", f"hardware: {hardware}"), ("parallel: {tp: 1}", f"parallel: {{tp: {tp}}}"))
    found = loaded(write, engine, *changes).groups[0].kv.memory_utilisation
    assert found == pytest.approx(fraction, abs=0.0006)


def test_a_larger_chunk_or_a_stated_fraction_changes_it(write: Write) -> None:
    device = ("hardware: a100-sxm-80gb", "hardware: h100-sxm-80gb")
    larger = loaded(write, "{name: sglang, chunked_prefill_size: 16384}", device).groups[0].kv.memory_utilisation
    assert larger == pytest.approx((81034 - 13440 - 8192 * 1.5) / 81034, abs=0.0006)
    small = loaded(write, "{name: sglang, chunked_prefill_size: 512}", device).groups[0].kv.memory_utilisation
    assert small == pytest.approx((81034 - 10240) / 81034, abs=0.0006), "10 GiB at least on devices above 60 GiB"
    assert loaded(write, "{name: sglang, mem_fraction_static: 0.7}", device).groups[0].kv.memory_utilisation == 0.7
    blocks = ("    - count: 2\n", "    - {count: 2, kv: {blocks: 100}}\n")
    assert loaded(write, "sglang", device, blocks).groups[1].kv.memory_utilisation is None


def test_vllm_without_chunks_does_not_start_when_a_prompt_may_not_fit_in_a_step(tmp_path: Path) -> None:
    from simserve import run

    base = {
        "model": "llama-3-8b",
        "hardware": "h100-sxm-80gb",
        "workload": {
            "lengths": {"prompt": {"kind": "fixed", "tokens": 3000}, "output": {"kind": "fixed", "tokens": 2}},
            "closed_loop": {"concurrency": 1},
            "count": 1,
        },
    }
    engine = {"name": "vllm-v1-async", "enable_chunked_prefill": False}
    with pytest.raises(ConfigError, match=r"max_num_batched_tokens is 1,024, less than the longest sequence of 8,192 tokens"):
        run({**base, "engine": {**engine, "max_num_batched_tokens": 1024}})
    # The engine's own default adapts itself to the longest sequence, and a shorter one fits in what is stated.
    assert (run({**base, "engine": engine}).requests.status == "completed").all()
    assert (run({**base, "engine": {**engine, "max_num_batched_tokens": 4096, "max_model_len": 4096}}).requests.status == "completed").all()
