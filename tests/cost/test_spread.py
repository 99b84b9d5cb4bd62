"""What the intervals draw from: spreads out of check residuals, and step costs whose operators are scaled."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.spread import UNVALIDATED_SPREAD, spread_log
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.hardware.kernel_model import KernelModel
from simserve.model import load_model
from simserve.model.parallel import Parallel

PROFILE = load_profile("a100-sxm-80gb")
COST = StepCost(load_model("llama-3.1-8b"), PROFILE, HostOverheads(), Parallel(tp=2), backend="vllm", max_context_tokens=8192)
PROMPT = [Slice(2048, 0)]


def test_residuals_of_a_normal_error_give_its_standard_deviation() -> None:
    measured = PROFILE.operator("gemm", "bf16")
    assert measured.entry is not None
    errors = NormalDist(0.02, 0.08)
    entry = measured.entry.model_copy(update={"residual_log": tuple(errors.inv_cdf(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))})
    assert spread_log(KernelModel(measured.operator, measured.context, entry)) == pytest.approx(0.08, rel=1e-3)


def test_an_estimate_is_less_certain_than_a_measured_operator() -> None:
    spreads = COST.spreads()
    measured = {label: spread for label, spread in spreads.items() if "estimate" not in label}
    assert measured and all(0.01 <= spread < 0.25 for spread in measured.values())
    estimates = StepCost(load_model("llama-3.1-8b"), PROFILE, max_context_tokens=8192, analytic=True).spreads()
    assert estimates["gemm bf16, roofline estimate"] == UNVALIDATED_SPREAD["gemm"] > max(s for k, s in measured.items() if "gemm" in k)


def test_a_scaled_operator_takes_longer_and_the_others_do_not() -> None:
    (gemm,) = (label for label in COST.spreads() if label.startswith("gemm"))
    before, after = (cost.breakdown(Step(0, 0, 0, PROMPT)) for cost in (COST, COST.scaled({gemm: 1.5})))
    assert after["gemm"] == pytest.approx(1.5 * before["gemm"])
    assert after["lm_head"] == pytest.approx(1.5 * before["lm_head"])
    same = set(before) - {"gemm", "lm_head"}
    assert {part: after[part] for part in same} == {part: before[part] for part in same}
    assert COST.breakdown(Step(0, 0, 0, PROMPT)) == before, "the central model is not touched"


def test_no_factor_of_one_changes_anything() -> None:
    neutral = COST.scaled(dict.fromkeys(COST.spreads(), 1.0))
    assert neutral.step_time(Step(16, 16_000, 1500, PROMPT)) == COST.step_time(Step(16, 16_000, 1500, PROMPT))


def test_luck_does_not_beat_the_roofline() -> None:
    lucky = COST.scaled(dict.fromkeys(COST.spreads(), 1e-3))
    weights_s = 2 * 7.5e9 / 2 / PROFILE.device.hbm_bytes_per_s
    assert lucky.step_time(Step(1, 100, 100)) > weights_s
    useful = COST.flops(2048, 2048 * 2049 / 2) + COST.logits_flops(1)
    assert useful / lucky.step_time(Step(0, 0, 0, PROMPT)) < COST.peak_flops_per_s
