"""What a policy does when nothing else is said, and the least that may be said: defaults are those of the papers and the public engines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from simserve.policies import registry
from tests.frozen import changeable

HPA: dict[str, Any] = {
    "role": "mixed", "interval_s": 15.0, "tolerance": 0.1, "metric_lag_s": 15.0, "window_s": 60.0, "min_instances": 1,
    "max_instances": None, "scale_down_stabilisation_s": 300.0, "scale_up_stabilisation_s": 0.0,
    "up_percent": 100.0, "up_instances": 4, "down_percent": 100.0,
    "down_instances": 0, "period_s": 15.0,
}  # fmt: skip

DEFAULTS: dict[str, dict[str, Any]] = {
    # SchedulerConfig of vLLM before V1: max_num_seqs 256; a step as long as the model's longest sequence
    "vllm-v0": {"max_num_batched_tokens": None, "max_seqs": 256, "padded": False, "chunked": False},
    "vllm-v1": {
        "max_num_batched_tokens": 2048,
        "max_seqs": 256,
        "long_prefill_token_threshold": 0,
        "chunked": True,
        # as version 0.11 has it
        "victim_in_step": "stays",
        "overruns": "unforeseen",
        "passes_over": False,
        "reserve_full_prompt": False,
        "threshold_alone": True,
        "adaptive_threshold": False,
        "interval_alone": True,
        "prefill_schedule_interval": 1,
        "max_active_seqs": 0,
        "max_queued": 0,
        "max_queued_tokens": 0,
    },
    # server_args.py of SGLang
    "sglang": {
        "chunked_prefill_size": 8192,
        "max_prefill_tokens": 16384,
        "max_seqs": 1024,
        "schedule_conservativeness": 1.0,
        "mixed_chunk": False,
        "prefill_max_requests": 0,
        "clip_max_new_tokens": 4096,
        "rules": "0.5.23",
        "priority_preemption_threshold": -1,
    },
    # arXiv 2403.02310: chunks of 512, batches of 128
    "sarathi": {"token_budget": 512, "max_seqs": 128, "hybrid": True, "chunked": True, "longer_prompts": "run", "reserve": "step"},
    # RaggedInferenceEngineConfig of DeepSpeed-MII: 768 tokens, 512 sequences
    "fastgen": {"token_budget": 768, "max_seqs": 512},
    "orca": {"max_seqs": 16, "reserve": "max"},
    "static": {"max_seqs": 8, "reserve": "max"},
    # the authors' evaluation scripts of arXiv 2401.09670
    "distserve": {"max_num_batched_tokens": 8192, "max_batch_prompts": 128, "max_seqs": 1024},
    # LightLLM's command line
    "past-future": {
        "max_num_batched_tokens": 16384, "max_seqs": 1000, "wait_steps": 6, "window": 200, "reserve": 0.05, "predict": "history", "seed": 0,
    },
    # arXiv 2412.18106: a chunk of 4,096 tokens; beside vLLM, whose max_num_seqs is 256
    "xy-serve": {"token_budget": 4096, "reserved_tokens": 0, "max_seqs": 256},
    # arXiv 2510.08055
    "layered": {"max_num_batched_tokens": 8192, "max_seqs": 256, "group_rule": "tokens", "group_tokens": 512, "max_groups": 16},
    # sgl-router: cache-aware
    "prefix-affinity": {"min_match": 0.5, "balance_requests": 32, "balance_ratio": 1.5, "remembered_blocks": 1_000_000},
    "power-of-two": {"choices": 2, "seed": 0},
    "random": {"seed": 0},
    "shortest-queue": {"ties": "outstanding"},
    # arXiv 2311.18677
    "splitwise": {"cap_tokens": 8192},
    "splitwise-decode": {"reserve": 0.1},
    # the public code of arXiv 2406.03243
    "llumnix-migration": {
        "interval_s": 0.05, "threshold": 3.0, "pairing": "defrag", "request": "shortest", "concurrent": 1, "headroom_blocks": 0,
    },
    "llumnix-scaling": {"interval_s": 10.0, "scale_up": 10.0, "scale_down": 60.0, "min_instances": 1, "most": 100.0},
    # kubernetes.io, HorizontalPodAutoscaler v2: sync period, tolerance, downscale stabilisation, default behaviour
    "hpa": {"targets": {"waiting": 5.0}, **HPA},
    # keda.sh, ScaledObject: pollingInterval, cooldownPeriod, minReplicaCount
    "keda": {"targets": {"waiting": 5.0}, **HPA, "min_instances": 0, "polling_s": 30.0, "cooldown_s": 300.0, "activation": 0},
    # llm-d workload variant autoscaler: deploy/configmap-saturation-scaling.yaml, a decision a minute
    "saturation": {
        "role": "mixed", "kv_threshold": 0.8, "queue_threshold": 5.0, "kv_spare": 0.1, "queue_spare": 3.0, "interval_s": 15.0,
        "decide_s": 60.0, "metric_lag_s": 15.0, "min_instances": 1, "max_instances": None,
    },
    "forecast": {
        "requests_per_s": 2.0, "utilisation": 0.8, "role": "mixed", "interval_s": 15.0, "horizon_s": 60.0, "level": 0.5, "trend": 0.1,
        "season_s": None, "scale_down_stabilisation_s": 300.0, "min_instances": 1, "max_instances": None,
    },
}  # fmt: skip

STATED: dict[str, dict[str, Any]] = {"hpa": {"targets": {"waiting": 5.0}}, "forecast": {"requests_per_s": 2.0}}
"""Parameters without a default."""

FROM_MINUS_1 = {"chunked_prefill_size", "priority_preemption_threshold"}
"""-1 = off."""

FROM_0 = {
    "long_prefill_token_threshold",
    "reserved_tokens",
    "balance_requests",
    "seed",
    "headroom_blocks",
    "min_instances",
}
FROM_0 |= {"up_instances", "down_instances", "activation"}
FROM_0 |= {"prefill_max_requests", "max_active_seqs", "max_queued", "max_queued_tokens"}
"""Whole numbers that may be 0; of all others a policy needs one at least."""

FROM_1 = {("hpa", "min_instances"), ("saturation", "min_instances"), ("forecast", "min_instances")}
"""Kubernetes' autoscalers do not scale to nothing."""


def params(name: str) -> Any:
    for names, find in (
        (registry.scheduler_names(), registry.scheduler_class),
        (registry.router_names(), registry.router_class),
        (registry.controller_names(), registry.controller_class),
    ):
        if name in names:
            return find(name).Params
    raise AssertionError(name)


def test_every_policy_with_parameters_is_listed() -> None:
    names = [*registry.scheduler_names(), *registry.router_names(), *registry.controller_names()]
    assert {name for name in names if params(name).model_fields} == set(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_sources(name: str) -> None:
    assert params(name)(**STATED.get(name, {})).model_dump() == DEFAULTS[name]


WHOLE = [(name, key) for name, values in DEFAULTS.items() for key, value in values.items() if type(value) is int or value is None]


@pytest.mark.parametrize(("name", "key"), WHOLE)
def test_the_least_of_a_whole_number(name: str, key: str) -> None:
    least = -1 if key in FROM_MINUS_1 else 0 if key in FROM_0 and (name, key) not in FROM_1 else 1
    least, stated = (None, STATED.get(name, {})) if key == "season_s" else (least, STATED.get(name, {}))
    assert getattr(params(name)(**stated, **{key: least}), key) == least
    with pytest.raises(ValidationError, match=key):
        params(name)(**stated, **{key: 0 if least is None else least - 1})


@pytest.mark.parametrize(
    ("name", "key", "inside", "outside"),
    [
        ("past-future", "reserve", (0.0, 0.999), (-1e-9, 1.0)),
        ("splitwise-decode", "reserve", (0.0, 0.999), (-1e-9, 1.0)),
        ("prefix-affinity", "min_match", (0.0, 1.0), (-1e-9, 1.001)),
        ("prefix-affinity", "balance_ratio", (1.0, 1.25), (0.999,)),
        ("llumnix-migration", "interval_s", (1e-5, 0.5), (0.0, 9e-6)),
        ("llumnix-scaling", "interval_s", (1e-5, 0.5), (0.0, 9e-6)),
        ("llumnix-scaling", "most", (1e-9, 0.5), (0.0,)),
    ],
)
def test_the_range_of_a_fraction(name: str, key: str, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    for value in inside:
        assert getattr(params(name)(**{key: value}), key) == value
    for value in (*outside, math.nan):
        with pytest.raises(ValidationError, match=key):
            params(name)(**{key: value})


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("sglang", {"chunked_prefill_size": 0}, "found 0"),
        ("sarathi", {"hybrid": False, "chunked": False}, "cannot both be off"),
        ("vllm-v1", {"chunked": False, "long_prefill_token_threshold": 1}, "give one of them"),
    ],
)
def test_parameters_that_contradict_each_other(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        params(name)(**given)


@pytest.mark.parametrize(
    ("name", "given", "longest", "tokens"),
    [
        # as many as the budget says, whatever the longest sequence
        ("sarathi", {}, 4096, 512), ("sarathi", {"hybrid": False}, 4096, 512), ("fastgen", {}, 4096, 768), ("distserve", {}, 9999, 8192),
        ("layered", {}, 9999, 8192), ("past-future", {}, 99_999, 16384), ("vllm-v1", {}, 4096, 2048), ("sglang", {}, 99_999, 8192),
        ("sarathi", {"chunked": False, "longer_prompts": "refuse"}, 4096, 512),
        # where prompts run whole, as many as the longest, if that is more
        ("sarathi", {"chunked": False}, 4096, 4096), ("sarathi", {"chunked": False}, 500, 512),
        ("vllm-v1", {"chunked": False}, 4096, 4096), ("vllm-v1", {"chunked": False}, 2000, 2048),
        ("sglang", {"chunked_prefill_size": -1}, 99_999, 99_999), ("sglang", {"chunked_prefill_size": -1}, 9999, 16384),
        ("sglang", {"chunked_prefill_size": 1}, 9999, 1),
        # vLLM before V1: the longest sequence, at least 2,048; with chunks 512
        ("vllm-v0", {}, 4096, 4096), ("vllm-v0", {}, 1000, 2048), ("vllm-v0", {"max_num_batched_tokens": 100}, 4096, 100),
        ("vllm-v0", {"chunked": True}, 4096, 512), ("vllm-v0", {"chunked": True, "max_num_batched_tokens": 100}, 4096, 100),
    ],
)  # fmt: skip
def test_most_tokens_of_a_step(name: str, given: dict[str, Any], longest: int, tokens: int) -> None:
    """What the activations beside the KV cache are sized for."""
    assert params(name)(**given).step_tokens(longest) == tokens


def test_vllm_v1_without_chunks_does_not_start_where_a_prompt_may_not_fit() -> None:
    whole = params("vllm-v1")(chunked=False, max_num_batched_tokens=1000)
    assert whole.refused(1000) == "" and params("vllm-v1")(max_num_batched_tokens=1000).refused(1001) == ""
    assert "max_num_batched_tokens is 1,000, less than the longest sequence of 1,001 tokens" in whole.refused(1001)


def test_parameters_do_not_change_under_way() -> None:
    assert changeable("simserve.policies") == set()
