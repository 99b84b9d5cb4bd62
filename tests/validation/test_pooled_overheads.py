"""Overheads of many profiles are learned together: inside what they can be, versions like their engine, without what is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import case

from simserve.config.engine_profile import load_engine
from simserve.validation import physical
from simserve.validation.case import Lengths, Load
from simserve.validation.leave_out import POOLINGS, best_pooling, left_out, values_without
from simserve.validation.machine import overheads_of
from simserve.validation.pooled import PooledFit, Pooling, _Problem
from simserve.validation.responses import Response, responses
from simserve.validation.split import GROUPINGS, device_group, model_group, version_group

MODELS = ("llama-3.1-8b", "qwen3-32b", "qwen3-14b", "mistral-7b")
PARAMETERS = {"old": ("request_s",), "new": ("request_s",), "other": ("request_s",)}
ENGINES = {"old": "a", "new": "a", "other": "b"}
LOOSE = Pooling(1.0, 1.0)


def answers(profile: str, truth_s: float, models: tuple[str, ...] = MODELS, **changes: object) -> list[Response]:
    """A first token of 2 ms and the request path, in runs of several models."""
    found = []
    for model in models:
        one = replace(case(profile=profile, model=model, run=f"{profile} {model}"), **changes)  # type: ignore[arg-type]
        found.append(Response(one, "ttft_mean", 0.002 + truth_s, 0.003, {"request_s": 1e-3}, {"request_s": 1.0}))
    return found


def test_a_profile_with_runs_keeps_what_they_say() -> None:
    fit = PooledFit(PARAMETERS, ENGINES)
    found = fit.values(answers("old", 0.005) + answers("new", 0.001), LOOSE)
    assert found["old"]["request_s"] == pytest.approx(0.005, rel=0.25) and found["new"]["request_s"] == pytest.approx(0.001, rel=0.5)


def test_a_version_without_runs_is_like_its_engine_and_not_like_the_others() -> None:
    fit = PooledFit(PARAMETERS, ENGINES)
    found = fit.values(answers("old", 0.005) + answers("other", 0.0008), Pooling(0.1, 0.3))
    usual = physical.RANGES["request_s"].typical_s
    assert abs(math.log(found["new"]["request_s"] / found["old"]["request_s"])) < 0.1
    assert found["other"]["request_s"] < usual < found["new"]["request_s"]


def test_tight_pooling_makes_versions_alike() -> None:
    fit, both = PooledFit(PARAMETERS, ENGINES), answers("old", 0.005) + answers("new", 0.001)
    tight, loose = fit.values(both, Pooling(0.02, 1.0)), fit.values(both, LOOSE)
    apart = [math.log(found["old"]["request_s"] / found["new"]["request_s"]) for found in (tight, loose)]
    assert apart[0] < 0.1 < 1.0 < apart[1]


def test_no_run_takes_an_overhead_out_of_its_range() -> None:
    """218 ms to the first token of a short prompt are no HTTP server: what the range cannot hold stays an error."""
    found = PooledFit(PARAMETERS, ENGINES).values(answers("old", 0.2), LOOSE)["old"]["request_s"]
    assert found == physical.RANGES["request_s"].largest_s and physical.at_bound("request_s", found) == "largest"


def test_a_model_whose_kernels_are_off_does_not_bend_the_host() -> None:
    fit, good = PooledFit(PARAMETERS, ENGINES), answers("old", 0.004)
    with_one_off = fit.values(good + answers("old", 0.3, ("gpt-oss-120b",)), LOOSE)["old"]["request_s"]
    assert with_one_off == pytest.approx(fit.values(good, LOOSE)["old"]["request_s"], rel=0.5)


def test_many_rows_of_one_model_outweigh_no_other() -> None:
    fit = PooledFit(PARAMETERS, ENGINES)
    many = [a for a in answers("old", 0.005, MODELS[:1]) for _ in range(20)] + answers("old", 0.001, MODELS[1:])
    assert fit.values(many, LOOSE)["old"]["request_s"] < 0.0035, "nearer to the three other models"


def test_what_grows_with_the_batch_is_seen_within_a_model_whose_level_is_off() -> None:
    """Kernels 15 % too slow throughout, and 100 us for each sequence: the sequences are found, not the level."""
    fit, batches = PooledFit({"old": ("per_decode_request_s",)}, {"old": "a"}), (1, 8, 32, 128)
    found = []
    for model in MODELS[:2]:
        for batch in batches:
            one = case(profile="old", model=model, run=f"{model} {batch}")
            measured = (0.02 + 1e-4 * batch) / 1.15
            found.append(Response(one, "tpot_mean", measured, 0.02, {"per_decode_request_s": 0.0}, {"per_decode_request_s": float(batch)}))
    assert fit.values(found, LOOSE)["old"]["per_decode_request_s"] == pytest.approx(1e-4, rel=0.25)


def test_the_derivatives_are_those_of_the_residuals() -> None:
    fit = PooledFit(PARAMETERS, ENGINES)
    problem = _Problem(answers("old", 0.005) + answers("other", 0.002), fit._place, fit._priors(LOOSE))
    x = np.array([math.log(physical.RANGES[name].typical_s) for _, _, name in fit._place]) + 0.1
    given, step = problem.jacobian(x), 1e-6
    for k in range(len(x)):
        moved = x.copy()
        moved[k] += step
        assert (problem.residuals(moved) - problem.residuals(x)) / step == pytest.approx(given[:, k], abs=1e-4)


def test_nothing_of_a_group_that_is_left_out_is_learned() -> None:
    fit = PooledFit(PARAMETERS, ENGINES)
    for grouping, change in (("model", {}), ("device", {"gpu": "a100-sxm-80gb"}), ("version", {"version": "0.12.1"})):
        own = answers("old", 0.004, MODELS[:1], **change)
        rest = answers("old", 0.004, MODELS[1:])
        group = GROUPINGS[grouping](own[0].case)
        found = [
            values_without(fit, [*rest, *(replace(a, measured=seconds) for a in own)], LOOSE, [a.case for a in own], grouping)[group]
            for seconds in (0.01, 10.0)
        ]
        assert found[0] == found[1] == fit.values(rest, LOOSE)


def test_the_pooling_taken_is_the_one_that_predicts_best_what_it_has_not_seen() -> None:
    """Two versions of one engine that do the same: runs of the one say what the other does, so they are pooled."""
    fit = PooledFit(PARAMETERS, ENGINES)
    alike = answers("old", 0.006, MODELS[:2], version="1.0") + answers("new", 0.006, MODELS[2:], version="2.0")
    taken, errors = best_pooling(fit, alike)
    assert set(errors) == set(POOLINGS) and errors[taken] == min(errors.values())
    assert taken.between_versions < 1.0


def test_a_warm_up_is_told_from_the_request_path_by_runs_of_other_lengths() -> None:
    """c first requests of n: with five requests a client the warm-up weighs twice as much as with ten, the path the same."""
    fit = PooledFit({"old": ("request_s", "first_request_s")}, {"old": "a"})
    found = []
    for model, a_client in zip((*MODELS, *MODELS), (5, 10, 5, 10, 20, 40, 40, 20), strict=True):
        one = case(profile="old", model=model, run=f"{model} {a_client}", gpu=f"gpu {a_client}")
        slopes = {"request_s": 1.0, "first_request_s": 1.0 / a_client}
        measured = 0.02 + 0.003 + 1.6 / a_client
        found.append(Response(one, "ttft_mean", measured, 0.02, {"request_s": 0.0, "first_request_s": 0.0}, slopes))
    learned = fit.values(found, LOOSE)["old"]
    assert learned["first_request_s"] == pytest.approx(1.6, rel=0.15) and learned["request_s"] < 0.01


def test_responses_are_the_simulated_lines() -> None:
    at = replace(overheads_of(load_engine("vllm-v1")), request_s=2e-3)
    one = case(load=Load("closed", Lengths(256.0), Lengths(16.0), requests=16, concurrency=2))
    found = responses([one, case(skip="why")], {"vllm-v1": at}, {"vllm-v1": ("per_step_s", "first_request_s")})
    by_metric = {answer.metric: answer for answer in found}
    assert set(by_metric) == {"ttft_mean", "tpot_mean"}
    assert by_metric["tpot_mean"].slopes["per_step_s"] == pytest.approx(1.0, rel=0.2)
    assert by_metric["ttft_mean"].slopes["first_request_s"] == pytest.approx(2 / 16)


def test_groups_are_models_devices_and_releases() -> None:
    assert model_group(case(model="deepseek-ai/DeepSeek-V3")) == model_group(case(model="deepseek-ai/DeepSeek-R1"))
    assert model_group(case(model="qwen3-32b", quantisation="fp8")) == model_group(case(model="qwen3-32b"))
    assert model_group(case(model="qwen3-32b")) != model_group(case(model="qwen3-14b"))
    assert device_group(case(gpu="l40s")) == "l40s"
    assert version_group(case(engine="trtllm", version="1.1.0rc2.post2")) == version_group(case(engine="TensorRT-LLM", version="v1.1.0"))
    assert version_group(case(version="")) == "vllm vllm-v1"


def test_a_group_is_judged_by_what_was_learned_without_it() -> None:
    one = case(load=Load("open", Lengths(64.0), Lengths(4.0), requests=4, rate_per_s=0.1))
    values = {model_group(one): {"vllm-v1": {"request_s": 0.3}}}
    slow, plain = left_out([one], values, "model"), left_out([one], {}, "model")
    assert slow[0].predicted["ttft_mean"] - plain[0].predicted["ttft_mean"] == pytest.approx(0.3, abs=0.02)
