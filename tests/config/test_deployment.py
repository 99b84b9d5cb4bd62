"""One value says what a deployment is; costs, capacities and instances are made from it and nowhere else."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import simserve
from simserve.config.assemble import assemble, deployment
from simserve.config.deployment import Deployment, host_overheads
from simserve.config.engine_profile import load_engine, names
from simserve.config.schema import KvSection
from simserve.contracts import Step
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.policies.scheduling.sarathi import Sarathi
from simserve.policies.scheduling.vllm_v1 import VllmV1

PACKAGE = Path(simserve.__file__).parent
MODEL, A100 = load_model("llama-2-7b"), load_profile("a100-sxm-80gb")
ALONE = Deployment(MODEL, A100, Parallel(), VllmV1(VllmV1.Params()), kv=KvSection(blocks=100, watermark=0.025))

BUILT_BY_IT = {"StepCost", "PolynomialCost", "InstanceSpec", "kv_capacity", "HostOverheads"}
DEFINED_IN = {"cost/step.py", "cost/polynomial.py", "cost/host.py", "cost/memory.py"}
NO_HOST = {"calibration/replay/prediction.py", "validation/machine.py"}
"""Where a free host stands for no engine, or for kernels alone: `HostOverheads` without an engine's seconds."""


def calls(path: Path) -> set[str]:
    found = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return {name.id for name in found if isinstance(name, ast.Name)} & BUILT_BY_IT


def test_nothing_else_builds_costs_capacities_or_instances():
    by_file = {path.relative_to(PACKAGE).as_posix(): calls(path) for path in PACKAGE.rglob("*.py")}
    builders = {name: made for name, made in by_file.items() if made and name not in DEFINED_IN}
    assert builders.pop("config/deployment.py") == BUILT_BY_IT
    assert all(builders.pop(name) == {"HostOverheads"} for name in NO_HOST)
    assert builders == {}


def test_no_engine_is_known_by_the_beginning_of_its_name():
    """What an engine does of its own is a key of its profile. The launch scripts of published runs, and the words by which measurements
    call an engine, belong to the measurements."""
    beginnings = {name.split("-")[0] for name in names()} - {"orca"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "validation/names.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
                texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                found += [(name, text) for text in texts if text.split("-")[0] in beginnings]
    assert found == []


def test_an_instance_is_what_the_deployment_says():
    spec = ALONE.instance_spec("one", role="decode")
    assert (spec.name, spec.role, spec.policy, spec.kv_blocks, spec.watermark_blocks) == ("one", "decode", "VllmV1", 100, 2)
    assert spec.max_seqs == ALONE.seats == VllmV1.Params().max_seqs and spec.max_model_len == MODEL.max_position_embeddings
    assert spec.scheduler is not ALONE.scheduler and spec.cost is ALONE.cost


def test_the_experiment_asks_it():
    experiment = simserve.load("llama_70b_tp4")
    group = experiment.groups[0]
    deployed = deployment(experiment, group, load_model(experiment.spec.model_section.name))
    (spec, *_) = assemble(experiment).instances
    assert spec.kv_blocks == deployed.kv_blocks == deployed.capacity().blocks
    assert spec.cost is deployed.cost, "tables are built once"


def test_capacity_follows_from_the_scheduler_the_cache_format_and_what_a_run_states():
    free = replace(ALONE, kv=KvSection(memory_utilisation=0.9))
    blocks = free.kv_blocks
    assert free.capacity(step_tokens=60_000).blocks < blocks
    assert replace(free, scheduler=Sarathi(Sarathi.Params(token_budget=60_000))).kv_blocks < blocks
    assert replace(free, activation_tokens=60_000).kv_blocks < blocks
    half = replace(free, options=free.options.model_copy(update={"kv_bits": 8.0}))
    assert half.kv_blocks == pytest.approx(2 * blocks, abs=1) and half.link(simserve.load("quickstart").spec.cluster.network).layers == 32
    assert replace(free, kv_replicas=2).kv_blocks == 2 * blocks
    with pytest.raises(ModelError, match="does not fit"):
        _ = replace(free, model=load_model("llama-2-70b")).kv_blocks


def test_hosts_are_those_of_the_devices():
    engine = load_engine("vllm-2023")
    a100, h100 = (Deployment(MODEL, load_profile(name), Parallel(), engine=engine) for name in ("a100-sxm-80gb", "h100-sxm-80gb"))
    assert h100.host_overheads == host_overheads(engine)
    assert a100.host_overheads.per_step_s == pytest.approx(engine.host.per_step_s / 0.67)
    assert a100.cost.breakdown(Step(1, 10, 10))["host"] > h100.cost.breakdown(Step(1, 10, 10))["host"]


def test_without_a_scheduler_there_are_step_times_only():
    kernels = replace(ALONE, scheduler=None)
    assert kernels.cost.step_time(Step(1, 10, 10)) == ALONE.cost.step_time(Step(1, 10, 10))
    for asked in (lambda: kernels.instance_spec("one"), kernels.capacity, lambda: kernels.step_tokens):
        with pytest.raises(ConfigError, match="without a scheduler"):
            asked()
