"""Flags that are written, read back by the experiment language: the same settings. What cannot be written is said, never dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from simserve.api import load
from simserve.config import engine_profile
from simserve.config.experiment import Experiment
from simserve.deploy.flag_list import bundled
from simserve.deploy.launch import launch
from simserve.deploy.result import Launch
from simserve.model import load_model

WORKLOAD = {
    "arrivals": {"kind": "poisson", "rate_per_s": 1},
    "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}},
    "count": 3,
}
DENSE, EXPERTS = "llama-3.1-8b", "qwen3-30b-a3b"
PROFILES = sorted(name for found in bundled() for name in found.profiles)
BUDGETS = {"vllm-v1": "max_num_batched_tokens", "sglang": "chunked_prefill_size", "sarathi": "token_budget"}
NO_SETTING = {
    "model_path", "host", "port", "enable_metrics", "async_scheduling", "device", "attention_backend", "extra_llm_api_options",
}  # fmt: skip
"""Flags that say nothing which an experiment states as a setting."""

GROUP = {
    "tp": {"parallel": {"tp": 2}},
    "pp": {"parallel": {"pp": 2}},
    "max_num_seqs": {"scheduler": {"max_seqs": 77}},
    "budget": {"scheduler": {"BUDGET": 3456}},
    "prefix cache off": {"kv": {"prefix_caching": False}},
    "prefix cache on": {"kv": {"prefix_caching": True}},
    "block": {"kv": {"block_tokens": 64}},
    "memory": {"kv": {"memory_utilisation": 0.777}},
    "blocks": {"kv": {"blocks": 1234}},
    "watermark": {"kv": {"watermark": 0.02}},
    "length": {"max_model_len": 4096},
    "threshold": {"scheduler": {"long_prefill_token_threshold": 512}},
    "reserve": {"scheduler": {"reserve_full_prompt": False}},
    "chunked": {"scheduler": {"chunked": True}},
    "whole": {"scheduler": {"chunked": False, "BUDGET": 200_000}},
    "eviction": {"kv": {"eviction": "contents-last"}},
    "swap": {"kv": {"preemption": "swap", "host_memory_gib": 4}},
    "everything": {
        "parallel": {"tp": 4}, "scheduler": {"max_seqs": 32, "BUDGET": 2048}, "kv": {"prefix_caching": False, "memory_utilisation": 0.6},
        "max_model_len": 8192,
    },
}  # fmt: skip
LAYOUTS = {
    "attention replicas": {"dp": 4},
    "experts spread": {"tp": 2, "ep": 2},
    "both": {"dp": 4, "ep": 4},
    "replicas of two": {"tp": 2, "dp": 2, "ep": 4},
    "some experts spread": {"tp": 4, "ep": 2},
}
MODELS = {
    "fp8": {"quantisation": "fp8"},
    "int4": {"quantisation": "w4a16_int4"},
    "kv8": {"options": {"kv_bits": 8}},
    "kv4": {"options": {"kv_bits": 4.5}},
    "kv8 and fp8": {"quantisation": "fp8", "options": {"kv_bits": 8}},
    "a paper's": {"options": {"prefill_layer_fraction": 0.5}},
}
DRAFTS = {
    "ngram": {"method": "ngram", "tokens": 4},
    "eagle3": {"method": "eagle3", "tokens": 3},
    "small model": {"method": "draft-model", "tokens": 5, "draft": "llama-3.2-1b"},
    "by batch": {"method": "ngram", "tokens": 3, "by_batch": [{"from": 1, "tokens": 3}, {"from": 33, "tokens": 1}]},
    "off above": {"method": "ngram", "tokens": 3, "by_batch": [{"from": 1, "tokens": 3}, {"from": 65, "tokens": 0}]},
}


def experiment(profile: str, group: dict[str, Any] | None = None, model: Any = DENSE, **more: Any) -> Experiment:
    cluster = {"cluster": {"instances": [group]}} if group else {}
    return load({"name": "x", "model": model, "hardware": "h100-sxm-80gb", "engine": profile, "workload": WORKLOAD, **cluster, **more})


def flags_of(written: Launch) -> dict[str, Any]:
    """A command line, and its options file, as a mapping of flags, read without the code that wrote them."""
    command, found = written.commands[0], {}
    words = [word for word in command.argv if word.startswith("--") or True]
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name = word.removeprefix("--").replace("-", "_")
        value = words[place + 1] if place + 1 < len(words) and not words[place + 1].startswith("--") else None
        if value is None:
            found[name.removeprefix("no_")] = not name.startswith("no_")
        else:
            found[name] = json.loads(value) if value.startswith(("{", "[")) else yaml.safe_load(value)
    for text in command.files.values():
        found |= yaml.safe_load(text)
    return {name: value for name, value in found.items() if name not in NO_SETTING}


def settings(of: Experiment) -> dict[str, Any]:
    """What an instance has, as values."""
    resolved = of.groups[0].resolved()
    speculation = dict(resolved.get("speculation", {}))
    if speculation:
        speculation = {"top_k": 1, "verify_tokens": speculation["tokens"] + 1, **speculation}
        if "draft" in speculation:
            speculation["draft"] = load_model(speculation["draft"]).name
    model = of.spec.model_section
    return {**resolved, "speculation": speculation, "quantisation": model.quantisation, "options": model.options.changed()}


def check(profile: str, group: dict[str, Any] | None = None, model: Any = DENSE, drafts: dict[str, Any] | None = None) -> None:
    """The law: what is written and read back differs only in what a note names."""
    accepted = {"acceptance": {"rate": 0.6}}
    more = {"speculation": {**drafts, **accepted}} if drafts else {}
    try:
        asked = experiment(profile, group, model, **more)
    except Exception as problem:  # the engine does not have it: refused before anything is written
        pytest.skip(str(problem)[:80])
    written = launch(asked)
    flags = flags_of(written)
    name = model["name"] if isinstance(model, dict) else model
    read = load(
        {
            "name": "x", "model": name, "hardware": "h100-sxm-80gb", "engine": {"name": profile, **flags}, "workload": WORKLOAD,
            **({"speculation": accepted} if drafts and any("speculative" in flag for flag in flags) else {}),
        }
    )  # fmt: skip
    expected, found = settings(asked), settings(read)
    notes = "\n".join(written.notes)
    for section, value in expected.items():
        if value == found[section]:
            continue
        inner = value if isinstance(value, dict) else {"": value}
        theirs = found[section] if isinstance(found[section], dict) else {"": found[section]}
        for key, one in inner.items():
            if one != theirs.get(key) and (section, key) != ("parallel", "tp"):
                said = {"options": f"model.options.{key}", "quantisation": "quantisation"}.get(section, f"{section}.{key}".rstrip("."))
                assert said in notes, f"{profile}: {section}.{key} {one} became {theirs.get(key)}, and no note says so\n{flags}\n{notes}"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GROUP)
def test_settings_of_an_instance(profile: str, name: str) -> None:
    policy = engine_profile.load_engine(profile).scheduler.policy
    group = {key: dict(value) if isinstance(value, dict) else value for key, value in GROUP[name].items()}
    if "BUDGET" in group.get("scheduler", {}):
        group["scheduler"][BUDGETS[policy]] = group["scheduler"].pop("BUDGET")
    check(profile, group)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(profile: str, name: str) -> None:
    check(profile, {"parallel": LAYOUTS[name]}, EXPERTS)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", MODELS)
def test_formats(profile: str, name: str) -> None:
    check(profile, None, {"name": DENSE, **MODELS[name]})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", DRAFTS)
def test_speculation(profile: str, name: str) -> None:
    check(profile, None, DENSE, DRAFTS[name])


@pytest.mark.parametrize("profile", PROFILES)
def test_settings_of_the_engine(profile: str) -> None:
    """Captured batch sizes, API servers, graphs cut at the attention: what an experiment changes in its engine and a server is told."""
    changes = {"cuda_graph_sizes": [1, 2, 4], "request_path": {"api_servers": 3}, "host": {"per_graph_piece_s": 0.0}}
    asked = load({"name": "x", "model": DENSE, "hardware": "h100-sxm-80gb", "engine": {"name": profile, **changes}, "workload": WORKLOAD})
    written = launch(asked)
    flags = flags_of(written)
    read = load({"name": "x", "model": DENSE, "hardware": "h100-sxm-80gb", "engine": {"name": profile, **flags}, "workload": WORKLOAD})
    notes = "\n".join(written.notes)
    assert read.engine.cuda_graph_sizes == [1, 2, 4] or "engine.cuda_graph_sizes" in notes
    assert read.engine.request_path.api_servers == 3 or "engine.request_path.api_servers 3" in notes
    assert not read.engine.host.per_graph_piece_s or "engine.host.per_graph_piece_s" in notes
    if profile.startswith("vllm-0.33"):
        assert read.engine.cuda_graph_sizes == [1, 2, 4] and read.engine.request_path.api_servers == 3


def test_what_plans_choose_really_is_written() -> None:
    """The law above would hold for notes alone."""
    group = {"parallel": {"tp": 2}, "scheduler": {"max_seqs": 32}, "kv": {"prefix_caching": False}}
    for profile in PROFILES:
        flags = flags_of(
            launch(experiment(profile, group, {"name": DENSE, "options": {"kv_bits": 8}} if "ascend" not in profile else DENSE))
        )
        keys = {engine_profile.load_engine(profile).all_flags().get(flag) for flag in flags}
        nested = {f"{head}.{part}" for head, parts in flags.items() if isinstance(parts, dict) for part in parts}
        keys |= {engine_profile.load_engine(profile).all_flags().get(flag) for flag in nested}
        wanted = {"parallel.tp", "scheduler.max_seqs", "kv.prefix_caching", "kv.memory_utilisation"}
        assert wanted <= keys, profile
        assert "ascend" in profile or "model.options.kv_bits" in keys, profile
