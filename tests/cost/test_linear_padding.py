"""Rows of linear operators padded to whole tiles: in memory with copies, or on chip."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from simserve.cost.cores.linear import linear_seconds
from simserve.cost.kernels import KernelChoice
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

ASCEND = load_profile("ascend-910b")
N, K = 4608.0, 3584.0


def seconds(padding: str, m: float, rows: float = 32.0, profile: str = "ascend-910b") -> float:
    kernels = KernelChoice(load_profile(profile), options=CostOptions.model_validate({"padding": padding}))
    return float(linear_seconds(kernels, "bf16", *(np.array([x]) for x in (m, N, K, rows)))[0])


@functools.cache
def gemm(padding: str, name: str = "qwen2-7b", hardware: str = "ascend-910b", tp: int = 1, rows: int = 32) -> np.ndarray:
    """Seconds of all linear operators by token count, from 1."""
    tiles = dict.fromkeys(("qkv", "output", "gate_up", "down", "other"), rows)
    options = CostOptions.model_validate({"padding": padding} | ({} if padding == "none" else {"linear_tiles": tiles}))
    cost = StepCost(load_model(name), load_profile(hardware), parallel=Parallel(tp=tp), max_context_tokens=8192, options=options)
    return np.array([cost._stages[0].tokens.parts["gemm"][m] for m in range(1, 4097)])


def test_physical_padding_pays_both_copies() -> None:
    """m x k read, padded and written; rows x n read, m x n written; two launches."""
    device = ASCEND.device
    copies = 2.0 * (417 + 448) * (K + N) / (device.hbm_share * device.hbm_bytes_per_s) + 2 * device.launch_s
    assert seconds("physical", 417) == pytest.approx(seconds("none", 448, 32) + copies)


@pytest.mark.parametrize("profile", ["ascend-910b", "a100-sxm-80gb"])
def test_virtual_padding_multiplies_whole_tiles_and_moves_only_its_rows(profile: str) -> None:
    assert seconds("virtual", 448, profile=profile) == pytest.approx(seconds("none", 448, profile=profile))
    for m in (1, 33, 417, 3000):
        padded = np.ceil(m / 32) * 32
        assert seconds("virtual", m, profile=profile) <= seconds("none", padded, profile=profile)
        assert seconds("virtual", m, profile=profile) < seconds("physical", m, profile=profile)


def test_larger_tiles_multiply_more() -> None:
    assert seconds("virtual", 257, 256) > seconds("virtual", 257, 32)
    assert seconds("virtual", 256, 256) == pytest.approx(seconds("virtual", 256, 32))


def test_no_padding_is_the_kernel() -> None:
    plain = StepCost(load_model("qwen2-7b"), ASCEND, max_context_tokens=8192)._stages[0].tokens.parts["gemm"]
    assert (gemm("none") == plain[1:4097]).all()


@pytest.mark.parametrize("padding", ["physical", "virtual"])
def test_more_tokens_never_take_less_time(padding: str) -> None:
    assert (np.diff(gemm(padding)) >= 0).all()


@pytest.mark.parametrize("rows", [16, 32, 128])
def test_mean_gain_of_the_papers_sweep(rows: int) -> None:
    """arXiv 2412.18106: SmoothGEMM is 14.6 % faster on average; held to 9 to 20 %, whether of the speed or of the time."""
    gain = gemm("physical", rows=rows) / gemm("virtual", rows=rows)
    assert 0.09 < gain.mean() - 1 < 0.20
    assert 0.09 < 1 - (1 / gain).mean() < 0.20


def test_narrow_matrices_gain_more() -> None:
    """The copies are of the rows, so they weigh more the less is multiplied for each: a rank's part of a model gains more."""
    whole, rank = ((gemm("physical", "qwen2-72b", tp=tp) / gemm("virtual", "qwen2-72b", tp=tp)).mean() for tp in (2, 8))
    assert rank > whole
