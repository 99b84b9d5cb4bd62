"""Every mistake is answered with its place, its key, what was found, what is allowed and the nearest right name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simserve.config.experiment import load
from simserve.errors import ConfigError

Write = Callable[..., Path]


def complaint(path: Path | str, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("seed: 3", "sede: 3", "15:1", ["sede: unknown key", "did you mean 'seed'?", "fast_forward"]),
        ("seed: 3", "seed: three", "15:7", ["seed: found text 'three', expected a whole number"]),
        ("seed: 3", "seed: '3'", "15:7", ["found text '3', expected a whole number (without quotes)"]),
        ("seed: 3", "seed: 1.5", "15:7", ["found 1.5, expected a whole number"]),
        ("seed: 3", "seed: true", "15:7", ["found true, expected a whole number"]),
        ("seed: 3", "seed: -1", "15:7", ["found -1, expected a number >= 0"]),
        ("seed: 3", "seed: [3]", "15:7", ["found a list of 1, expected a whole number"]),
        ("seed: 3", "fast_forward: yes", "15:15", ["fast_forward: found text 'yes', expected true or false"]),
        ("seed: 3", "fast_forward: 1", "15:15", ["found 1, expected true or false"]),
        ("seed: 3", "until_s: .nan", "15:10", ["until_s: found nan"]),
        ("seed: 3", "name: ../../etc", "15:7", ["name: found text '../../etc'"]),
        ("ttft_s: 2.0", "ttft: 2.0", "14:7", ["slo.ttft: unknown key", "did you mean 'ttft_s'?"]),
        ("ttft_s: 2.0", "ttft_s: 0", "14:15", ["slo.ttft_s: found 0, expected a number > 0"]),
        ("slo: {ttft_s: 2.0}", "slo: 2.0", "14:6", ["slo: found 2.0, expected a mapping"]),
        ("model: llama-2-7b", "model: lama-2-7b", "1:8", ["model: unknown model 'lama-2-7b'", "did you mean 'llama-2-7b'?"]),
        ("model: llama-2-7b", "model: ./nowhere/config.json", "1:8", ["model: ", "nowhere/config.json", "does not exist"]),
        ("hardware: a100-sxm-80gb", "hardware: a100-sxm-80g", "2:11", ["hardware: ", "'a100-sxm-80g'", "did you mean 'a100-sxm-80gb'?"]),
        ("hardware: a100-sxm-80gb", "hardware: mine.yaml", "2:11", ["hardware profile 'mine.yaml': no such file"]),
        ("name: vllm-v1", "name: vlm-v1", "3:16", ["engine.name: unknown engine 'vlm-v1'", "did you mean 'vllm-v1'?"]),
        ("max_num_seqs: 64", "max_num_seq: 64", "3:25", ["engine.max_num_seq: vllm-v1 has no flag", "did you mean 'max_num_seqs'?"]),
        ("max_num_seqs: 64", "max_num_seqs: 0", "3:39", ["engine.max_num_seqs: found 0, expected a number > 0"]),
        ("max_num_seqs: 64", "gpu_memory_utilization: 90", "3:49", ["engine.gpu_memory_utilization: found 90, expected a number <= 1"]),
        ("max_num_seqs: 64", "cuda_graph_sizes: [8, 4]", "3:43", ["engine.cuda_graph_sizes: batch sizes must be ascending"]),
        ("policy: sarathi", "policy: sarati", "8:27", ["scheduler.policy: unknown policy 'sarati'", "did you mean 'sarathi'?"]),
        (
            "token_budget: 512",
            "token_bugdet: 512",
            "8:36",
            ["policy sarathi has no parameter 'token_bugdet'", "did you mean 'token_budget'?"],
        ),
        ("token_budget: 512", "token_budget: 0", "8:50", ["instances.0.scheduler.token_budget: found 0, expected a number > 0"]),
        ("token_budget: 512", "max_num_batched_tokens: 512", "8:36", ["policy sarathi has no parameter 'max_num_batched_tokens'"]),
        ("count: 2", "order: fcf", "9:14", ["order: unknown order 'fcf'", "did you mean 'fcfs'?"]),
        ("count: 2", "role: prefil", "9:13", ["role: found text 'prefil'", "mixed"]),
        ("count: 2", "count: 0", "9:14", ["count: found 0, expected a number >= 1"]),
        ("count: 2", "kv: {blocks: 5, memory_utilisation: 0.5}", "9:11", ["blocks and memory_utilisation both state"]),
        ("tp: 1", "tp: 3", "7:17", ["cluster.instances.0.parallel: ", "llama-2-7b", "tp 3", "32"]),
        ("workload:\n", "workload: {}\nwork:\n", "11:1", ["work: unknown key; did you mean 'workload'?"]),
    ],
)
def test_a_mistake_names_place_key_and_remedy(write: Write, old: str, new: str, place: str, words: list[str]) -> None:
    path = write((old, new))
    message = complaint(path)
    assert f"{path}:{place}: " in message
    for word in words:
        assert word in message


def test_several_mistakes_are_listed_together_in_the_order_of_the_file(write: Write) -> None:
    path = write(("seed: 3", "sede: 3"), ("token_budget: 512", "token_budget: few"), ("model: llama-2-7b", "model: lama-2-7b"))
    lines = complaint(path).splitlines()
    assert lines[0] == f"3 mistakes in {path}:"
    assert [line.split(":")[1] for line in lines[1:]] == ["1", "8", "15"]


def test_a_missing_key_is_named(write: Write) -> None:
    message = complaint(write(("model: llama-2-7b\n", "")))
    assert "model: this key is required and missing" in message


def test_a_mistake_from_an_override_names_the_override(write: Write) -> None:
    message = complaint(write(), "cluster.instances.0.scheduler.token_budgt=256")
    assert message.startswith("--set cluster.instances.0.scheduler.token_budgt=256: ")
    assert "did you mean 'token_budget'?" in message


def test_a_bad_engine_flag_is_said_once_though_two_groups_use_it(write: Write) -> None:
    assert "\n" not in complaint(write(("max_num_seqs: 64", "max_num_seq: 64")))


@pytest.mark.parametrize("section", ["cluster", "workload", "slo", "metrics", "output", "engine", "model"])
@pytest.mark.parametrize("value", ["3", "[1, 2]", "text", "null", "{x: 1}", "[{x: [1]}]"])
def test_no_shape_of_nonsense_escapes_as_anything_but_a_config_error(write: Write, section: str, value: str) -> None:
    if (section, value) == ("model", "null"):
        value = "{}"
    try:
        load(write(), [f"{section}={value}"])
    except ConfigError as error:
        assert section in str(error)


def test_a_missing_file_and_a_misspelt_bundled_name(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "absent.yaml")
    assert "did you mean 'quickstart'?" in complaint("quikstart")
    assert "is a directory" in complaint(tmp_path)
