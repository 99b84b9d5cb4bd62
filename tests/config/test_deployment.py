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
from simserve.config.schema import KvSection, NetworkSection
from simserve.contracts import Step
from simserve.engine.kv_groups import KvGroups, KvWindow
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
    assert builders.pop("config/shared_costs.py") == {"StepCost"}
    assert builders.pop("config/deployment.py") == BUILT_BY_IT - {"StepCost"}
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
    assert spec.max_seqs == ALONE.slots == VllmV1.Params().max_seqs and spec.max_model_len == MODEL.max_position_embeddings
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


def kept(model: str, engine: str, hardware: str = "h100-sxm-80gb", tp: int = 1) -> Deployment:
    """A model as an engine keeps it, with steps of 8,192 tokens."""
    params = VllmV1.Params(max_num_batched_tokens=8192, max_seqs=1024)
    layout = Parallel(tp=tp)
    return Deployment(load_model(model), load_profile(hardware), layout, VllmV1(params), engine=load_engine(engine), kv=KvSection())


def test_windows_are_kept_where_the_engine_keeps_them():
    """60,200 tokens of gpt-oss-20b take 12 layers x 2,048 bytes each and 144 tokens of windows, 1.48 GB: 36 to 40 fit. SGLang keeps all."""
    window, full = kept("gpt-oss-20b", "vllm-v1"), kept("gpt-oss-20b", "sglang")
    assert window.kv_groups == KvGroups(1, (KvWindow(1, 521, 9),))
    assert window.kv_blocks // window.kv_groups.pool_blocks(-(-60_200 // 16), True) in range(36, 41)
    assert window.sequences_that_fit(window.capacity(), 60_200) in range(36, 41)
    assert full.kv_groups is None and full.sequences_that_fit(full.capacity(), 60_200) in (19, 20, 21)
    # The same bytes, in blocks of half the layers.
    assert window.kv_blocks // 2 == kept("gpt-oss-20b", "vllm-v0").kv_blocks


@pytest.mark.parametrize(
    ("model", "engine", "groups"),
    [
        ("llama-4-scout", "vllm-v1", KvGroups(1, (KvWindow(3, 1025, 513),))),
        ("mistral-7b", "vllm-v1", KvGroups(0, (KvWindow(1, 769, 257),))),
        ("mistral-7b", "vllm-v0", KvGroups(0, (KvWindow(1, 258, 258),))),
        ("mistral-7b", "sglang", None),
        ("llama-4-scout", "sglang", None),
        ("mistral-7b-v0.3", "vllm-v1", None),
        ("llama-3.1-8b", "vllm-v1", None),
    ],
)
def test_what_an_engine_keeps_of_a_model(model, engine, groups):
    deployed = kept(model, engine, "h200-sxm-141gb", tp=4 if "llama-4" in model else 1)
    assert deployed.kv_groups == groups and deployed.instance_spec("one").kv_groups == groups


def test_recurrent_state_is_charged_on_every_engine():
    """Qwen3.5 35B-A3B: 64 MB a sequence beside 20,480 bytes a token; half of both on two ranks."""
    for engine in ("vllm-v1", "sglang", "tensorrt-llm"):
        one = kept("qwen3.5-35b-a3b", engine, "h200-sxm-141gb")
        assert one.kv_groups == KvGroups(1, (), 197) and 196 * 16 * 20_480 < 64_389_120 <= 197 * 16 * 20_480
    two = kept("qwen3.5-35b-a3b", "vllm-v1", "h200-sxm-141gb", tp=2)
    assert two.kv_groups == one.kv_groups and two.kv_layout.block_bytes == 8 * 20_480
    assert two.sequences_that_fit(two.capacity(), 1) == two.kv_blocks // (1 + 197), "so many sequences of one token"


def test_a_model_whose_state_does_not_fit_is_refused():
    tight = replace(kept("qwen3.5-35b-a3b", "vllm-v1", "a100-sxm-80gb"), kv=KvSection(memory_utilisation=0.9))
    weights, most = tight.capacity(), tight.hardware.device.hbm_bytes
    fraction = (weights.weight_bytes + weights.activation_bytes + weights.context_bytes + 50e6) / most
    with pytest.raises(ModelError, match="recurrent state"):
        _ = replace(tight, kv=KvSection(memory_utilisation=fraction)).kv_blocks


def test_copies_are_of_what_is_kept():
    """Beside the tokens of 12 layers, the last 128 of the others; of every layer where the engine keeps them; a state with its sequence."""
    network = NetworkSection()
    windows, full = (kept("gpt-oss-20b", engine).link(network) for engine in ("vllm-v1", "sglang"))
    assert (windows.kv_bytes_per_token, windows.windows, windows.state_bytes) == (12 * 2048, ((128, 12 * 2048),), 0.0)
    assert (full.kv_bytes_per_token, full.windows) == (24 * 2048, ())
    assert windows.beside_bytes(100) == 100 * 12 * 2048 and windows.beside_bytes(5000) == 128 * 12 * 2048
    assert kept("qwen3.5-35b-a3b", "vllm-v1", "h200-sxm-141gb", tp=2).link(network).state_bytes == 64_389_120


def test_host_memory_holds_blocks_of_the_same_size():
    kv = KvSection(host_memory_gib=4.0)
    assert replace(kept("gpt-oss-20b", "vllm-v1"), kv=kv).host_kv_blocks == 4 * 2**30 // (12 * 2048 * 16)
    assert replace(kept("gpt-oss-20b", "sglang"), kv=kv).host_kv_blocks == 4 * 2**30 // (24 * 2048 * 16)
