from __future__ import annotations

from dataclasses import replace

from benchmarks.measured_runs.checkpoints import cache_settings
from benchmarks.measured_runs.lessons import ENGINES, LESSONS, PARAMETERS, ROWS_OF_A_GROUP, SERVED, cases_to_learn
from simserve.config.engine_profile import load_engine, names
from simserve.validation import physical
from simserve.validation.case import Case
from simserve.validation.split import is_check
from tests.validation.builders import case


def runs(count: int, check: bool, **changes: object) -> list[Case]:
    """Runs of one side of the split."""
    found = [case(run=f"run {i}", label=f"{i}", **changes) for i in range(10 * count)]
    return [one for one in found if is_check(one) == check][:count]


def test_every_lesson_is_of_a_bundled_profile_and_of_overheads_that_have_a_range() -> None:
    assert set(PARAMETERS) <= set(names()) and set(ENGINES) == set(PARAMETERS) and len(LESSONS) == len(PARAMETERS)
    assert {name for parameters in PARAMETERS.values() for name in parameters} <= set(physical.RANGES)


def test_profiles_with_a_front_end_have_an_api_server() -> None:
    assert {load_engine(profile).request_path.api_servers for profile in SERVED} == {1}


def test_the_check_part_teaches_nothing_where_there_are_other_runs() -> None:
    fit, check = runs(3, False), runs(3, True)
    assert {one.run for one in cases_to_learn([*fit, *check])} == {one.run for one in fit}
    assert len(cases_to_learn(check)) == 3, "the only runs of a profile"


def test_no_model_teaches_more_than_its_rows() -> None:
    many, few = runs(20, False), runs(2, False, model="qwen3-32b")
    taken = cases_to_learn([*many, *few, replace(many[0], skip="why")])
    assert len(taken) == ROWS_OF_A_GROUP + 2


def test_versions_before_v1_are_another_program() -> None:
    before = {"vllm-2023", "vllm-v0", "vllm-v0-offline"}
    assert {profile for profile, engine in ENGINES.items() if engine == ENGINES["vllm-v0"]} == before
    assert ENGINES["vllm-v1"] == ENGINES["vllm-v1-async"] == ENGINES["vllm-0.19"] != ENGINES["vllm-v0"]


def test_a_server_short_of_cores_teaches_nothing() -> None:
    few = runs(2, False, settings={"host_cores": 1})
    assert not cases_to_learn(few) and len(cases_to_learn(runs(2, False))) == 2


def test_a_cache_follows_its_checkpoint_where_the_engine_says_so() -> None:
    assert [cache_settings(name, "fp8") for name in ("tensorrt-llm", "tensorrt-llm-1.0")] == [{"kv_bits": 8.0}] * 2
    assert [cache_settings(*given) for given in (("tensorrt-llm", "fp8_block"), ("vllm-v1", "fp8"), ("", "fp8"))] == [{}] * 3
