"""Roles, routers, controllers, network and failures in an experiment: each mistake has its place, and what was resolved runs the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.cli import main
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.config.json_schema import experiment_schema
from simserve.config.reference import reference
from simserve.engine import simulate
from simserve.engine.records import RunRecords
from simserve.errors import ConfigError, PolicyError
from simserve.files.yaml_text import dump
from simserve.policies import registry

TEXT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster:
  instances:
    - {role: prefill, count: 2, kv: {blocks: 600}}
    - {role: decode, count: 1, max_count: 2, boot_s: 3, kv: {blocks: 600}}
    - {count: 1}
  router: {policy: power-of-two, choices: 2, decode_policy: freeness, refresh_s: 0.05}
  network: {bytes_per_s: 2e10, kv_transfer: push, between_nodes: {bytes_per_s: 1e10, node_devices: 2}}
  controllers:
    - {policy: llumnix-migration, threshold: 30, interval_s: 0.2}
    - {policy: llumnix-scaling, interval_s: 2.0, scale_up: 95, scale_down: 400}
  migration: {last_stage_blocks: 4, max_stages: 6}
  failures: {times: [{at_s: 4.0, instance: 0}], mtbf_s: 40.0, restart_s: 2.0, rule: retry}
workload:
  arrivals: {kind: poisson, rate_per_s: 12}
  lengths: {prompt: {kind: fixed, tokens: 300}, output: {kind: fixed, tokens: 200}}
  count: 120
seed: 3
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*changes: tuple[str, str]) -> Path:
        text = TEXT
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "exp.yaml"
        path.write_text(text)
        return path

    return written


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("policy: power-of-two", "policy: @power-of-too", ["router.policy: unknown routing policy 'power-of-too'", "power-of-two"]),
        ("policy: power-of-two", "policy: @2", ["router.policy: found 2, expected text"]),
        ("choices: 2", "@choice: 2", ["cluster.router.choice: policy power-of-two has no parameter", "did you mean 'choices'?"]),
        ("choices: 2", "choices: @0", ["cluster.router.choices: found 0, expected a number >= 1"]),
        ("decode_policy: freeness", "decode_policy: @freenes", ["router.decode_policy: unknown routing", "did you mean 'freeness'?"]),
        ("refresh_s: 0.05", "@refresh: 0.05", ["router.refresh: policy power-of-two has no parameter", "did you mean 'refresh_s'?"]),
        ("refresh_s: 0.05", "refresh_s: @.inf", ["router.refresh_s: found inf, expected a finite number"]),
        ("interval_s: 2.0", "interval_s: @.inf", ["controllers.1.interval_s: found inf, expected a finite number"]),
        ("restart_s: 2.0", "restart_s: @.inf", ["failures.restart_s: found inf, expected a finite number"]),
        ("scale_down: 400", "scale_down: @90", ["controllers.1.scale_down: found 90, expected at least scale_up, which is 95"]),
        ("refresh_s: 0.05", "refresh_s: @-1", ["router.refresh_s: found -1, expected a number >= 0"]),
        ("bytes_per_s: 2e10", "bytes_per_s: @0", ["network.bytes_per_s: found 0, expected a number >= 1"]),
        ("kv_transfer: push", "kv_transfer: @shove", ["network.kv_transfer: found text 'shove'", "push-layerwise"]),
        ("bytes_per_s: 1e10", "bytes_per_s: @0", ["between_nodes.bytes_per_s: found 0, expected a number >= 1"]),
        ("node_devices: 2", "@node_device: 2", ["between_nodes.node_device: unknown key", "did you mean 'node_devices'?"]),
        ("policy: llumnix-migration", "policy: @llumnix", ["controllers.0.policy: unknown controller 'llumnix'", "llumnix-"]),
        ("{policy: llumnix-migration, ", "@{", ["controllers.0.policy: this key is required and missing"]),
        (
            "threshold: 30",
            "@treshold: 30",
            ["controllers.0.treshold: policy llumnix-migration has no parameter", "did you mean 'threshold'?"],
        ),
        ("interval_s: 0.2", "interval_s: @0", ["controllers.0.interval_s: found 0, expected a number >= 1e-05"]),
        ("last_stage_blocks: 4", "last_stage_blocks: @0", ["migration.last_stage_blocks: found 0, expected a number >= 1"]),
        ("instance: 0", "instance: @5", ["failures.times.0.instance: there is no instance 5; instances are 0 to 4"]),
        ("at_s: 4.0", "at_s: @-4.0", ["failures.times.0.at_s: found -4.0, expected a number >= 0"]),
        ("mtbf_s: 40.0", "mtbf_s: @0", ["failures.mtbf_s: found 0, expected a number >= 1"]),
        ("rule: retry", "rule: @retri", ["failures.rule: found text 'retri'", "retry"]),
        ("max_count: 2", "max_count: @0", ["max_count: found 0, expected a number >= 1"]),
        ("count: 1, max_count: 2", "count: 3, max_count: @2", ["max_count: found 2, expected at least count, which is 3"]),
        ("boot_s: 3", "boot_s: @-3", ["boot_s: found -3, expected a number >= 0"]),
        ("role: prefill", "role: @prefil", ["role: found text 'prefil'", "prefill"]),
    ],
)
def test_a_mistake_names_place_key_and_remedy(
    write: Write, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    """`@` stands where the message must point."""
    path = write((old, new))
    before, after = path.read_text().split("@")
    path.write_text(before + after)
    place = f"{before.count(chr(10)) + 1}:{len(before.rsplit(chr(10), 1)[-1]) + 1}"
    assert main(["run", str(path), "--out", str(path.parent / "out")]) == 2
    message = capsys.readouterr().err
    assert f"{path}:{place}: " in message
    for word in words:
        assert word in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("old", "place", "words"),
    [
        ("role: decode", "5:14", "instances.0.role: prefill instances need decode instances: requests could not be finished"),
        ("role: prefill", "6:14", "instances.1.role: decode instances need prefill instances: requests could not be finished"),
    ],
)
def test_roles_that_cannot_finish_a_request(write: Write, capsys: pytest.CaptureFixture[str], old: str, place: str, words: str) -> None:
    path = write((old, "role: mixed"))
    assert main(["run", str(path), "--out", str(path.parent / "out")]) == 2
    assert capsys.readouterr().err == f"error: {path}:{place}: cluster.{words}\n"


ONLY_MIXED = (("role: prefill, ", ""), ("role: decode, ", ""))
NO_MIXED = ("    - {count: 1}\n", "")


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ((*ONLY_MIXED,), "9:45", "network.kv_transfer: found push, but no KV is transferred: no instance has the role prefill"),
        (
            (*ONLY_MIXED, ("policy: power-of-two, choices: 2", "policy: splitwise"), ("kv_transfer: push", "kv_transfer: pull")),
            "8:20",
            "router.policy: splitwise works on a prefill and a decode pool; no instance has one of these roles",
        ),
        (
            (*ONLY_MIXED, ("decode_policy: freeness", "decode_policy: splitwise-decode"), ("kv_transfer: push", "kv_transfer: pull")),
            "8:61",
            "router.decode_policy: splitwise-decode works on a prefill and a decode pool",
        ),
        ((NO_MIXED,), "11:16", "controllers.1.policy: llumnix-scaling counts all instances as one pool: it would stop the last"),
    ],
)
def test_policies_of_pools_need_pools_and_a_policy_of_one_pool_is_not_given_two(
    write: Write, capsys: pytest.CaptureFixture[str], changes: tuple[tuple[str, str], ...], place: str, words: str
) -> None:
    """Each of these ran before, did nothing of what was asked, or left requests that no instance could finish."""
    path = write(*changes)
    assert main(["run", str(path), "--out", str(path.parent / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}:{place}: cluster.{words}")


def test_an_empty_list_of_instances_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "exp.yaml"
    path.write_text("model: llama-2-7b\nhardware: a100-sxm-80gb\ncluster: {instances: []}\n")
    with pytest.raises(ConfigError, match=r"3:22: cluster.instances: found an empty list, expected at least 1 element$"):
        load(path)


def test_a_model_that_does_not_fit_is_said_at_its_instances(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(("{count: 1}", "{count: 1, kv: {memory_utilisation: 0.1}}"))
    assert main(["run", str(path), "--out", str(path.parent / "out")]) == 2
    message = capsys.readouterr().err
    assert f"{path}:7:" in message and "does not fit" in message


def test_decode_instances_that_all_die_for_good_are_an_error_that_says_so(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        ("count: 1, max_count: 2, boot_s: 3", "count: 1"),
        ("times: [{at_s: 4.0, instance: 0}], mtbf_s: 40.0, restart_s: 2.0", "times: [{at_s: 4.0, instance: 2}], restart_s: 1e9"),
        ("    - {count: 1}\n", ""),
        ("    - {policy: llumnix-scaling, interval_s: 2.0, scale_up: 95, scale_down: 400}\n", ""),
    )
    out = path.parent / "out"
    assert main(["run", str(path), "--out", str(out), "--set", "until_s=30", "--quiet", "--no-plots", "--no-report"]) == 0
    stored = json.loads((out / "summary.json").read_text())
    assert stored["requests"]["unfinished"] > 0 and stored["cluster"]["failures"] == 1


def records_of(source: Any, **more: Any) -> RunRecords:
    parts = assemble(load(source))
    return simulate(parts.workload, parts.instances, parts.cluster, **more)


def test_what_was_resolved_is_the_same_experiment_and_the_same_run(write: Write, tmp_path: Path) -> None:
    """Two roles and a mixed instance, migrating, failing and scaling."""
    first = load(write())
    again = tmp_path / "elsewhere" / "experiment.resolved.yaml"
    again.parent.mkdir()
    again.write_text(dump(first.resolved()))
    second = load(again)
    assert second.resolved() == first.resolved() and second.fingerprint() == first.fingerprint()
    one, two = records_of(first.resolved(), check=True), records_of(again)
    for name in ("finish_s", "instance", "first_token_s", "recomputed_tokens"):
        assert np.array_equal(getattr(one.requests, name), getattr(two.requests, name), equal_nan=True)
    assert one.instance_states == two.instance_states and one.counters == two.counters
    assert one.moves is not None and (one.moves.outcome == 0).any()
    assert one.counters["instance_failures"] >= 1 and one.counters["transferred_tokens"] > 0
    assert any(number == 3 and state == "up" for _, number, state in one.instance_states), "the second decode instance was never started"


def test_another_seed_fails_other_instances(write: Write) -> None:
    states = {records_of(write(("seed: 3", f"seed: {seed}"))).instance_states for seed in (3, 4)}
    assert len(states) == 2


@pytest.mark.parametrize(
    ("kind", "section", "names", "class_of", "common"),
    [
        ("router", "RouterSection", registry.router_names(), registry.router_class, {"policy", "decode_policy", "refresh_s"}),
        ("controller", "ControllerSection", registry.controller_names(), registry.controller_class, {"policy"}),
    ],
)
def test_each_router_and_controller_is_a_branch_with_its_own_parameters(
    kind: str, section: str, names: list[str], class_of: Any, common: set[str]
) -> None:
    schema = experiment_schema()["$defs"]
    for name in names:
        branch = schema[f"{kind} {name}"]
        assert {"$ref": f"#/$defs/{kind} {name}"} in schema[section]["oneOf"]
        assert branch["properties"]["policy"] == {"const": name}
        assert set(branch["properties"]) == common | set(class_of(name).Params.model_fields)
        assert branch["additionalProperties"] is False


def test_the_reference_names_every_router_and_controller_with_its_parameters() -> None:
    text = reference()
    for names, class_of in (
        (registry.router_names(), registry.router_class),
        (registry.controller_names(), registry.controller_class),
    ):
        for name in names:
            section = text.split(f"\n### `{name}`\n")[1].split("\n#")[0]
            for parameter in class_of(name).Params.model_fields:
                assert f"| `{parameter}` |" in section, (name, parameter)


def test_routers_and_controllers_without_a_cluster_mapping_are_the_defaults() -> None:
    policies = load("quickstart").policies
    assert (policies.router.policy, policies.decode_router.policy, policies.controllers) == ("round-robin", "least-outstanding", ())


def test_prefilled_requests_that_no_decode_instance_will_ever_take_are_an_error_that_counts_them(write: Write) -> None:
    parts = assemble(load(write()))
    pair = [parts.instances[0], replace(parts.instances[2], starts=False)]
    # As many as the prefill instance's memory holds have been prefilled; the others wait behind them.
    with pytest.raises(PolicyError, match=r"120 requests have not ended: 31 wait for an instance to take them and none does"):
        simulate(parts.workload, pair)


def test_the_engine_itself_refuses_roles_that_cannot_finish() -> None:
    parts = assemble(load("quickstart"))
    for role in ("prefill", "decode"):
        lonely = [replace(spec, role=role) for spec in parts.instances]
        with pytest.raises(ConfigError, match="requests could not be finished"):
            simulate(parts.workload, lonely, parts.cluster)


@pytest.mark.parametrize(
    ("experiment", "where"),
    [
        ("cluster: {instances: [{parallel: {pp: 2}, scheduler: {policy: layered}}]}", "cluster.instances.0.parallel.pp"),
        (
            "engine: {name: vllm-v1, pipeline_parallel_size: 4}\ncluster: {instances: [{scheduler: {policy: layered}}]}",
            "engine.pipeline_parallel_size",
        ),
    ],
)
def test_a_policy_of_one_stage_on_several_is_refused_when_the_experiment_is_read(experiment: str, where: str, tmp_path: Path) -> None:
    lengths = "{prompt: {kind: fixed, tokens: 9}, output: {kind: fixed, tokens: 2}}"
    load_of = f"workload: {{lengths: {lengths}, count: 1, closed_loop: {{concurrency: 1}}}}"
    path = tmp_path / "exp.yaml"
    path.write_text(f"model: llama-3-8b\nhardware: h100-sxm-80gb\n{experiment}\n{load_of}\n")
    with pytest.raises(ConfigError, match=rf"exp.yaml:3.*{where}: found \d, but policy layered works on one pipeline stage only"):
        load(path)


@pytest.mark.parametrize(
    ("controllers", "words"),
    [
        ("[{policy: hpa}]", "controllers.0.targets: this key is required and missing"),
        ("[{policy: forecast, role: mixed}]", "controllers.0.requests_per_s: this key is required and missing"),
        ("[{policy: hpa, targets: {queue: 1}}]", "found text 'queue'. Allowed: kv_usage, requests_per_s, running"),
        ("[{policy: saturation, min_instances: 5}]", "min_instances: found 5, and there are at most 4 mixed instances"),
        ("[{policy: saturation, role: decode}]", "role: saturation scales decode instances, and the cluster has only mixed ones"),
        ("[{policy: keda}, {policy: saturation}]", "controllers.1: controller 0 .keda. scales the mixed instances already"),
    ],
)
def test_autoscalers_that_cannot_work_are_refused_when_the_experiment_is_read(controllers: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load("quickstart", ["cluster.instances.0.max_count=4", f"cluster.controllers={controllers}"])
