"""Command lines: text that a shell takes, at any width; roles, orders and drafts; what has no flag, in words."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from simserve.api import load
from simserve.config.experiment import Experiment
from simserve.deploy.checkpoint import checkpoint
from simserve.deploy.launch import launch
from simserve.deploy.result import Launch, read_launch
from simserve.errors import ConfigError

WORKLOAD = {
    "arrivals": {"kind": "poisson", "rate_per_s": 1},
    "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}},
    "count": 3,
}
APART = {"cluster": {"instances": [{"role": "prefill", "count": 2}, {"role": "decode"}], "network": {"kv_transfer": "pull"}}}
DRAFT = {"speculation": {"method": "draft-model", "draft": "llama-3.2-1b", "tokens": 3, "acceptance": {"rate": 0.6}}}


def experiment(**more: Any) -> Experiment:
    return load({"name": "x", "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb", "workload": WORKLOAD, **more})


def said(found: Launch) -> str:
    return "\n".join(found.notes)


def parsed(text: str) -> list[list[str]]:
    """What a shell makes of it: the words of each command, after a check of its syntax."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, capture_output=True)
    programs = ("vllm", "python", "trtllm-serve")
    functions = "".join(f"{name}() {{ printf '%s\\n' {name} \"$@\" END; }}\n" for name in programs)
    env = {"DRAFT": "d", "POD_IP": "10.0.0.1"}
    done = subprocess.run(["bash"], input=functions + text, text=True, check=True, capture_output=True, env=env)
    return [part.strip("\n").split("\n") for part in done.stdout.split("\nEND") if part.strip()]


@pytest.mark.parametrize("engine", ["vllm-v1", "vllm-0.33", "sglang", "sglang-0.5.23", "tensorrt-llm"])
@pytest.mark.parametrize("more", [{}, APART, {"speculation": {"method": "ngram", "tokens": 3, "acceptance": {"rate": 0.6}}}])
@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_shell_reads_the_words_that_are_meant(engine: str, more: dict[str, Any], width: int) -> None:
    found = launch(experiment(engine=engine, **more))
    text = found.script(width)
    commands = parsed(text)
    assert commands[: len(found.commands)] == [list(one.argv) for one in found.commands]
    assert len(commands) == len(found.commands) + bool(found.router)
    whole = [line for line in text.splitlines() if len(line) > max(width, 40)]
    groups = [shlex.split(line.rstrip("\\")) for line in whole if not line.startswith("#")]
    assert all(len(words) <= 4 for words in groups), "only what stays together is longer"


def test_a_variable_that_is_not_set_stops_the_shell(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(OWN_CONFIG)
    found = launch(load({"name": "x", "model": str(config), "hardware": "h100-sxm-80gb", "workload": WORKLOAD}))
    text = found.script(80)
    assert '"${MODEL:?the checkpoint, a name or a folder}"' in text and "--model-name" in said(found)
    done = subprocess.run(["bash"], input=text, text=True, capture_output=True, env={"PATH": "/bin:/usr/bin"}, check=False)
    assert done.returncode != 0 and "MODEL: the checkpoint" in done.stderr
    assert "$(MODEL)" in found.manifests["kubernetes.yaml"] and "CHANGE-ME" in found.manifests["kubernetes.yaml"]
    named = launch(load({"name": "x", "model": str(config), "hardware": "h100-sxm-80gb", "workload": WORKLOAD}), model_name="me/mine")
    assert named.commands[0].argv[:3] == ("vllm", "serve", "me/mine") and "--model-name" not in said(named)


OWN_CONFIG = """{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_hidden_layers": 16,
 "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 8192,
 "torch_dtype": "bfloat16", "tie_word_embeddings": true}"""


def test_the_checkpoint_is_the_users_the_files_or_a_tuned_one(tmp_path: Path) -> None:
    assert checkpoint("meta-llama/Llama-3.1-8B", tmp_path).name == "meta-llama/Llama-3.1-8B"
    assert checkpoint("llama-3.1-8b", tmp_path).name == "meta-llama/Llama-3.1-8B-Instruct"
    (tmp_path / "config.json").write_text(OWN_CONFIG.replace("{", '{"_name_or_path": "acme/tuned-8b", ', 1))
    assert checkpoint("config.json", tmp_path).name == "acme/tuned-8b"


# ---- roles, orders, drafts ----


def test_prefill_and_decode_apart_in_each_engines_words() -> None:
    vllm = launch(experiment(engine="vllm-0.33", **APART))
    assert all('"NixlConnector"' in " ".join(one.argv) for one in vllm.commands) and "proxy" in said(vllm)
    assert vllm.commands[0].env["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "$POD_IP"
    sglang = launch(experiment(engine="sglang", **APART))
    assert [one.argv[one.argv.index("--disaggregation-mode") + 1] for one in sglang.commands] == ["prefill", "decode"]
    assert " ".join(sglang.router).count("--prefill http") == 2 and "kv_transfer pull: SGLang 0.5.14 moves KV by push" in said(sglang)
    trt = launch(experiment(engine="tensorrt-llm", **APART))
    assert (
        "disable_overlap_scheduler: true" in trt.files()["x-prefill.options.yaml"]
        and "num_instances: 2" in trt.files()["disaggregated.yaml"]
    )
    old = launch(experiment(**APART), version="0.8.5")
    assert "role prefill: vLLM 0.8.5 cannot serve prefill and decode apart (since 0.11.0)" in said(old)
    assert "kv-transfer" not in old.script()


def test_orders_become_policies_or_are_named() -> None:
    def ordered(engine: str, order: str) -> Launch:
        return launch(experiment(engine=engine, cluster={"instances": [{"order": order}]}))

    assert "--scheduling-policy priority" in ordered("vllm-v1", "priority").script()
    assert "--schedule-policy lpm" in ordered("sglang", "longest-prefix").script()
    assert "order 'shortest-job': no flag of vLLM 0.11.0 sets it" in said(ordered("vllm-v1", "shortest-job"))
    old = launch(experiment(engine="sglang-0.5.1", cluster={"instances": [{"order": "priority"}]}))
    assert "order priority: SGLang 0.5.1.post3 has no flag enable_priority_scheduling" in said(old)


def test_a_draft_is_a_checkpoint_too() -> None:
    assert '"model": "meta-llama/Llama-3.2-1B-Instruct"' in launch(experiment(engine="vllm-0.33", **DRAFT)).script()
    assert "--speculative-draft-model-path meta-llama/Llama-3.2-1B-Instruct" in launch(experiment(engine="sglang", **DRAFT)).script()
    eagle = launch(experiment(engine="sglang", speculation={"method": "eagle3", "tokens": 3, "acceptance": {"rate": 0.6}}))
    assert "${DRAFT:?" in eagle.script() and "name a head that was trained for this model" in said(eagle)


# ---- what has no flag ----


def test_settings_without_a_flag_are_said() -> None:
    found = launch(
        experiment(
            model={"name": "llama-3.1-8b", "quantisation": "w4a16_int4", "options": {"kv_bits": 4.25}},
            cluster={"instances": [{"count": 2, "kv": {"watermark": 0.05}}], "router": {"policy": "prefix-affinity"}},
        )
    )
    for words in (
        "kv.watermark 0.05: no flag of vLLM 0.11.0 sets it",
        "model.quantisation 'w4a16_int4': quantization of vLLM 0.11.0 takes fp8; name a checkpoint that is stored so (--model-name)",
        "model.options.kv_bits 4.25: kv_cache_dtype of vLLM 0.11.0 takes fp8",
        "router prefix-affinity: a Kubernetes Service spreads connections evenly",
    ):
        assert words in said(found), said(found)
    assert "--watermark 0.05" in launch(experiment(engine="vllm-0.33", cluster={"instances": [{"kv": {"watermark": 0.05}}]})).script()


def test_another_engines_scheduler_is_said_and_its_budget_is_kept() -> None:
    found = launch(experiment(cluster={"instances": [{"scheduler": {"policy": "sarathi", "token_budget": 640}}]}))
    assert "scheduler.policy sarathi: vLLM 0.11.0 has only its own scheduler" in said(found)
    assert "--max-num-batched-tokens 640" in found.script()


def test_a_budget_that_is_none_is_no_flag() -> None:
    found = launch(experiment(cluster={"instances": [{"scheduler": {"policy": "vllm-v0", "max_num_batched_tokens": None}}]}))
    assert "None" not in found.script()


def test_a_context_that_does_not_fit_is_cut_since_vllm_would_not_start() -> None:
    found = launch(experiment(hardware="l4"))
    assert "--max-model-len" in found.script() and "does not start unless" in said(found)
    assert "--max-model-len" not in launch(experiment()).script()


def test_a_launch_is_read_back_as_it_was() -> None:
    found = launch(experiment(engine="tensorrt-llm", **APART))
    assert read_launch(found.as_dict()) == found


def test_engines_that_nothing_is_written_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="engine orca: no command lines"):
        launch(experiment(engine="orca"))
