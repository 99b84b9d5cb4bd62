"""The dated lists of flags: what they hold together with the profiles, and that the check against an engine's source can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import engine_flags
from simserve.api import load
from simserve.config import engine_profile
from simserve.deploy.flag_list import FlagList, bundled, of_profile, order
from simserve.errors import ConfigError

LISTS = {found.engine: found for found in bundled()}
SOURCES = os.environ.get("SIMSERVE_ENGINE_SOURCES", "")


def test_every_list_is_of_profiles_that_exist_and_versions_that_it_holds() -> None:
    for found in LISTS.values():
        assert sorted(found.versions, key=order) == found.versions
        for name, entry in found.profiles.items():
            assert engine_profile.load_engine(name) and entry.version in found.versions
            assert all(found.has(flag, entry.version) for flag in entry.flags), name
        stated = [*found.orders.values(), found.roles.prefill if found.roles else {}, found.metrics.flags, found.server]
        assert all(flag in found.flags for flags in stated for flag in flags), found.engine


def test_settings_that_plans_choose_have_a_flag_in_every_version() -> None:
    chosen = {
        "parallel.tp",
        "parallel.pp",
        "scheduler.max_seqs",
        "kv.memory_utilisation",
        "kv.prefix_caching",
        "kv.block_tokens",
        "max_model_len",
    }
    for found in LISTS.values():
        for name, entry in found.profiles.items():
            table = engine_profile.load_engine(name).all_flags()
            sets = {table[flag] for flag in found.flags if flag in table and found.has(flag, entry.version)}
            missing = chosen - sets - ({"parallel.pp", "kv.block_tokens"} if name == "vllm-ascend" else set())
            assert not missing, f"{name}: {missing}"


def test_a_version_between_two_listed_ones_has_what_both_have() -> None:
    vllm = LISTS["vllm"]
    assert vllm.has("async_scheduling", "0.14.0") and not vllm.has("watermark", "0.20.0") and vllm.has("watermark", "0.30.1")
    assert not vllm.has("async_scheduling", "0.9.0"), "0.8.5 lacks it and 0.11.0 has it"
    chosen, note = vllm.version("vllm-v1", "0.14.0")
    assert chosen == "0.14.0" and "0.11.0 and 0.19.1" in note
    assert vllm.version("vllm-0.33", "v0.33.0") == ("0.33.0", "") and vllm.version("vllm-v1", None)[0] == "0.11.0"


@pytest.mark.parametrize(
    ("asked", "says"),
    [("newest", "expected one such as 0.33.0"), ("0.3.2", "the list .* goes from 0.8.5 to 0.33.0"), ("1.0", "its flags are not known")],
)
def test_versions_that_are_none_or_outside_are_refused(asked: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LISTS["vllm"].version("vllm-v1", asked)


def test_engines_without_command_lines_are_refused_with_those_that_have_them() -> None:
    for name in ("orca", "mindie", "vllm-v0"):
        with pytest.raises(ConfigError, match=f"engine {name}: no command lines for .* they are written for the profiles .*vllm-0.33"):
            of_profile(engine_profile.load_engine(name))


def test_a_profile_of_ones_own_has_the_flags_of_the_engine_it_names(tmp_path: Path) -> None:
    text = (engine_profile.FOLDER / "vllm-v1.yaml").read_text().replace("name: vllm-v1", "name: tuned", 1)
    (tmp_path / "tuned.yaml").write_text(text)
    profile = engine_profile.load_engine(str(tmp_path / "tuned.yaml"))
    found = of_profile(profile)
    assert found.engine == "vllm" and "profile tuned is not listed" in found.version(profile.name, None)[1]


# ---- the check against sources ----

SERVER = """
class EngineArgs:
    model: str = "x"
    tensor_parallel_size: int = 1
    enable_prefix_caching: bool | None = None
    quantization: str | None = None

    def add_cli_args(parser):
        parser.add_argument("--headless", action="store_true")
        parser.add_argument("--port", type=int)
"""


def listed(**flags: dict[str, object]) -> FlagList:
    return LISTS["vllm"].model_copy(update={"flags": {name: type(LISTS["vllm"].flags["port"])(**flag) for name, flag in flags.items()}})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "vllm" / "engine").mkdir(parents=True)
    (tmp_path / "vllm" / "engine" / "arg_utils.py").write_text(SERVER)
    return tmp_path


def test_flags_are_found_in_a_source_with_their_kinds(source: Path) -> None:
    found = engine_flags.flags(source, "vllm")
    assert found["tensor_parallel_size"] == "integer" and found["enable_prefix_caching"] == "switch" and found["headless"] == "switch"


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        ({"port": {"kind": "integer"}, "headless": {"kind": "switch"}}, None),
        ({"port": {"kind": "integer"}, "max_num_seqs": {"kind": "integer"}}, "max_num_seqs is listed, the source lacks it"),
        ({"headless": {"kind": "switch", "since": "0.33.0"}}, "headless is not listed, the source has it"),
        ({"tensor_parallel_size": {"kind": "text"}}, "tensor_parallel_size is listed as text, the source has integer"),
    ],
)
def test_a_list_that_is_wrong_is_told(source: Path, flags: dict[str, dict[str, object]], wrong: str | None) -> None:
    told = engine_flags.differences(listed(**flags), "0.11.0", engine_flags.flags(source, "vllm"))
    assert (not told) if wrong is None else any(wrong in line for line in told)


@pytest.mark.skipif(not SOURCES, reason="SIMSERVE_ENGINE_SOURCES names no folder of engines' sources")
def test_the_lists_say_what_the_sources_say() -> None:
    assert engine_flags.main(Path(SOURCES)) == 0


def test_flags_of_the_lists_that_an_experiment_may_state_are_read(tmp_path: Path) -> None:
    """Attention replicas inside the tensor-parallel ranks: flags of three engines, one layout."""
    base = {
        "model": "qwen3-30b-a3b", "hardware": "h200-sxm-141gb",
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": 1},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 9}, "output": {"kind": "fixed", "tokens": 9}},
            "count": 3,
        },
    }  # fmt: skip
    for engine in (
        {"name": "sglang", "tp_size": 8, "dp_size": 8, "enable_dp_attention": True},
        {"name": "sglang-0.5.23", "tp_size": 8, "attn_dp_size": 8},
        {"name": "tensorrt-llm", "tp_size": 8, "enable_attention_dp": True},
    ):
        layout = load({**base, "engine": engine}).groups[0].parallel
        assert (layout.tp, layout.dp) == (1, 8), engine["name"]
    with pytest.raises(ConfigError, match="8 tensor-parallel ranks, which 3 attention replicas do not divide"):
        load({**base, "engine": {"name": "sglang-0.5.23", "tp_size": 8, "attn_dp_size": 3}})
    with pytest.raises(ConfigError, match=r"parallel\.tp: found 8, but the engine's flag 'attn_dp_size' makes it 2"):
        stated = {"cluster": {"instances": [{"parallel": {"tp": 8}}]}}
        load({**base, **stated, "engine": {"name": "sglang-0.5.23", "tp_size": 8, "attn_dp_size": 4}})
