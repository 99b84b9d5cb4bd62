"""An experiment has every default filled in, can be written down explicitly, and has a fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simserve import resources
from simserve.config import engine_profile
from simserve.config.experiment import Experiment, load
from simserve.files import yaml_text

Write = Callable[..., Path]


def params(experiment: Experiment, group: int = 0) -> dict[str, object]:
    return experiment.groups[group].params.model_dump()


def test_flags_go_over_the_profile_and_instances_over_flags(write: Write) -> None:
    experiment = load(write(("count: 2", "scheduler: {max_seqs: 7}")))
    assert experiment.groups[0].policy == "sarathi"
    assert params(experiment, 0)["max_seqs"] == 64, "the flag max_num_seqs holds for any policy that has sequence slots"
    assert experiment.groups[1].policy == "vllm-v1", "the engine's own policy where none is given"
    assert params(experiment, 1)["max_seqs"] == 7


def test_an_engine_changes_its_defaults_on_larger_devices(write: Write) -> None:
    small = load(write(("engine: {name: vllm-v1, max_num_seqs: 64}", "engine: vllm-v1")))
    large = load(
        write(("engine: {name: vllm-v1, max_num_seqs: 64}", "engine: vllm-v1"), ("hardware: a100-sxm-80gb", "hardware: h100-sxm-80gb"))
    )
    assert (params(small, 1)["max_num_batched_tokens"], params(small, 1)["max_seqs"]) == (2048, 256)
    assert (params(large, 1)["max_num_batched_tokens"], params(large, 1)["max_seqs"]) == (8192, 1024)


def test_the_cache_comes_from_the_profile_until_the_experiment_says_otherwise(write: Write) -> None:
    path = write(("count: 2", "kv: {block_tokens: 32}"))
    group = load(path, ["engine=vllm-v0"]).groups[1]
    assert (group.kv.block_tokens, group.kv.watermark, group.kv.memory_utilisation) == (32, 0.01, 0.9)
    blocks = load(path, ["cluster.instances.1.kv.blocks=100"]).groups[1].kv
    assert (blocks.blocks, blocks.memory_utilisation) == (100, None)
    flagged = load(path, ["engine.num_gpu_blocks_override=50", "engine.max_model_len=4096", "engine.tensor_parallel_size=2"]).groups[1]
    assert (flagged.kv.blocks, flagged.max_model_len, flagged.parallel.tp) == (50, 4096, 2)


def test_host_overheads_can_be_replaced_one_by_one(write: Write) -> None:
    before, after = load(write()).engine.host, load(write(), ["engine.host.per_step_s=0.5"]).engine.host
    assert after.per_step_s == 0.5
    assert after.per_decode_request_s == before.per_decode_request_s


def test_names_default_to_the_file(write: Write) -> None:
    assert load(write()).name == "exp"
    assert load(write(), ["name=other"]).name == "other"


def test_the_resolved_experiment_is_the_same_experiment(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(write())
    text = yaml_text.dump(experiment.resolved())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "resolved.yaml").write_text(text)
    monkeypatch.chdir(elsewhere)
    again = load(elsewhere / "resolved.yaml")
    assert again.resolved() == experiment.resolved()
    assert again.fingerprint() == experiment.fingerprint()
    assert [group.params for group in again.groups] == [group.params for group in experiment.groups]


def test_the_resolved_experiment_does_not_depend_on_engine_defaults(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(write())
    resolved = experiment.resolved()
    other = engine_profile.load_engine("vllm-v1").model_copy(update={"kv": engine_profile.KvDefaults(block_tokens=99, watermark=0.5)})
    monkeypatch.setattr(engine_profile, "load_engine", lambda *_: other)
    assert load(resolved).resolved() == resolved


def test_the_fingerprint_changes_with_what_changes_results_only(write: Write) -> None:
    base = load(write()).fingerprint()
    assert load(write()).fingerprint() == base
    for same in ("name=other", "description=text", "output.plots=false"):
        assert load(write(), [same]).fingerprint() == base
    for different in ("seed=4", "workload.count=21", "cluster.instances.0.count=2", "engine.host.per_step_s=1", "slo.ttft_s=3"):
        assert load(write(), [different]).fingerprint() != base


def test_the_fingerprint_sees_the_content_of_a_trace(write: Write, tmp_path: Path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:01:51.10,100,10\n")
    change = ["workload={trace: {format: azure, path: mine.csv}}"]
    experiment = load(write(), change)
    first = experiment.fingerprint()
    assert experiment.resolved()["workload"]["trace"]["path"] == str(trace.resolve()), "the user's own files become absolute"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:01:51.10,100,11\n")
    assert load(write(), change).fingerprint() != first


def test_bundled_files_keep_their_names(write: Write) -> None:
    trace = resources.find_trace("burstgpt-sample")
    for path in ("traces/burstgpt-sample.csv", str(trace)):
        resolved = load(write(), [f"workload={{trace: {{format: burstgpt, path: {path}}}}}"]).resolved()
        assert resolved["workload"]["trace"]["path"] == "traces/burstgpt-sample.csv"
        assert resolved["hardware"] == "a100-sxm-80gb"


def test_a_mapping_is_an_experiment_too(write: Write) -> None:
    data = yaml_text.read(write()).data
    assert load(data, {"seed": 8}).spec.seed == 8


@pytest.mark.parametrize("name", resources.available("experiments"))
def test_bundled_experiments_load_and_resolve(name: str) -> None:
    experiment = load(name)
    assert experiment.name == name, "a bundled experiment is called like its file"
    assert experiment.spec.description
    assert load(experiment.resolved()).resolved() == experiment.resolved()


@pytest.mark.parametrize("name", engine_profile.names())
def test_engine_profiles_are_complete(name: str, write: Write) -> None:
    profile = engine_profile.load_engine(name)
    assert profile.name == name
    assert profile.sources
    experiment = load(write(("engine: {name: vllm-v1, max_num_seqs: 64}", f"engine: {name}")))
    assert experiment.groups[1].policy == profile.scheduler.policy
    for key, value in profile.scheduler.parameters.items():
        assert params(experiment, 1)[key] == value
    alone = ("      scheduler: {policy: sarathi, token_budget: 512}\n", "")
    for flag, key in profile.flags.items():
        if key.startswith("speculation."):  # one flag alone is not enough to speculate: test_speculation_section.py
            continue
        value = {
            "kv.preemption": "recompute",
            "kv.memory_utilisation": 0.5,
            "kv.host_memory_gib": 8,
            "kv.prefix_caching": "true",
            "scheduler.chunked": "true",
            "scheduler.reserve_full_prompt": "true",
            "kv.watermark": 0.5,
            "scheduler.adaptive_threshold": "true",
            "parallel.dp": 1,
            "parallel.ep": 1,
        }.get(key, 8)
        group = load(write(("engine: {name: vllm-v1, max_num_seqs: 64}", f"engine: {{name: {name}, {flag}: {value}}}"), alone)).groups[1]
        section, _, field = key.partition(".")
        found = {"scheduler": group.params, "kv": group.kv, "parallel": group.parallel}.get(section)
        wanted = True if value == "true" else value
        assert (getattr(found, field) if found is not None else getattr(group, key)) == wanted, flag
