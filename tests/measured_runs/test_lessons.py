from __future__ import annotations

from benchmarks.measured_runs.checkpoints import cache_settings
from benchmarks.measured_runs.lessons import LESSONS, is_held_out
from simserve.config.engine_profile import names
from simserve.validation.split import is_check
from tests.validation.builders import case


def test_every_lesson_is_of_a_bundled_profile() -> None:
    assert {lesson.profile for lesson in LESSONS} <= set(names())


def test_a_profile_that_learned_from_its_only_run_is_not_judged_by_it() -> None:
    kept = next(case(run=f"run {i}") for i in range(50) if is_check(case(run=f"run {i}")))
    assert is_held_out(kept) and not is_held_out(case(run=kept.run, profile="vllm-0.19"))


def test_a_cache_follows_its_checkpoint_where_the_engine_says_so() -> None:
    assert [cache_settings(name, "fp8") for name in ("tensorrt-llm", "tensorrt-llm-1.0")] == [{"kv_bits": 8.0}] * 2
    assert [cache_settings(*given) for given in (("tensorrt-llm", "fp8_block"), ("vllm-v1", "fp8"), ("", "fp8"))] == [{}] * 3
