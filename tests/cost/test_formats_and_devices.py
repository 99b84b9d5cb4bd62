"""Estimates without measurements: 2:4 sparse weights, and a device with little arithmetic for its bandwidth."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import Step
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import load_model


def test_weights_take_nine_sixteenths() -> None:
    dense, sparse = load_model("llama-3.1-8b"), load_model("llama-3.1-8b", quantisation="bf16_2of4")
    embeddings = 2 * 128256 * 4096 * 2  # bytes of the embedding and the LM head, which stay dense
    assert (sparse.weight_bytes() - embeddings) / (dense.weight_bytes() - embeddings) == pytest.approx(9 / 16, rel=0.001)


@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "h100-sxm-80gb"])
def test_faster_than_dense_where_it_matters_but_never_twice(hardware: str) -> None:
    profile = load_profile(hardware)
    shape = {"n": np.array([28672.0]), "k": np.array([8192.0])}
    for m in (1.0, 4096.0):
        columns = {"m": np.array([m]), **shape}
        dense, sparse = (float(profile.operator("gemm", dtype).seconds(**columns)[0]) for dtype in ("bf16", "bf16_2of4"))
        assert dense / 2.05 < sparse < dense


def test_other_hardware_saves_bytes_only() -> None:
    device = load_profile("ascend-910b").device
    assert device.peak("bf16_2of4") == device.peak("bf16")


def test_a_step_is_faster_and_says_that_it_was_not_measured() -> None:
    profile = load_profile("a100-sxm-80gb")
    dense, sparse = (StepCost(load_model("llama-2-7b", quantisation=q), profile) for q in ("none", "bf16_2of4"))
    assert sparse.step_time(Step(8, 8000, 1000)) < dense.step_time(Step(8, 8000, 1000))
    assert any("2of4" in str(entry) for entry in sparse.describe()["unvalidated"])


def test_a_device_with_little_arithmetic_still_reads_its_weights_at_memory_speed() -> None:
    profile, model = load_profile("h20"), load_model("llama-3.1-8b")
    reading_s = model.weight_bytes() / profile.device.hbm_bytes_per_s
    assert reading_s < StepCost(model, profile).step_time(Step(1, 100, 100)) < 1.6 * reading_s
