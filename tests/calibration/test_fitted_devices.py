"""Which rows of others' tables a bundled profile is fitted on, and which measured rows the GPUs themselves set the pace of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.fitted_devices import MOST_ROWS, Source, _kept
from benchmarks.measured_power import quiet
from simserve.calibration import split


def matrices(rows: int, **columns: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sizes = pd.DataFrame({name: rng.integers(1, 60_000, rows) for name in ("m", "n", "k")})
    named = {"dtype": "bf16", "backend": "vllm 0.24.0", "kernel": "linear"} | columns
    return sizes.assign(latency_us=10.0, **named)


def test_rows_are_thinned_without_touching_the_check_split() -> None:
    kept = _kept(matrices(40_000), Source("any"), "gemm")
    assert len(kept) == pytest.approx(MOST_ROWS, rel=0.03)
    part = split.split(kept.astype({"m": float, "n": float, "k": float}), ("n", "k"), ("m", "n", "k"))
    assert (part == split.POINTS).mean() == pytest.approx(0.12 * 0.9, abs=0.01)
    assert len(_kept(matrices(5_000), Source("any"), "gemm")) == 5_000


def test_older_backends_and_odd_tables_are_left_out() -> None:
    old = matrices(10, backend="vllm 0.19.0", kernel="vllm_fused_moe")
    assert _kept(old, Source("any"), "moe").empty
    assert len(_kept(old, Source("any", ("vllm 0.19.0", "vllm_fused_moe")), "moe")) == 10
    assert _kept(matrices(10), Source("any", without=("vllm 0.24.0", "gemm", "bf16")), "gemm").empty
    assert len(_kept(matrices(10), Source("any", without=("vllm 0.24.0", "gemm", "bf16")), "moe")) == 10
    layers = matrices(10).assign(scope=["kernel", "module"] * 5)
    assert len(_kept(layers, Source("any"), "mla")) == 5


def test_a_row_and_all_larger_batches_wait_for_a_host_that_disturbs_it() -> None:
    row = {"model_id": "a", "task": "chat", "gpu_model": "B200", "num_gpus": 1, "avg_output_len": 1000.0, "median_itl_ms": 10.0}
    batches = pd.DataFrame([row | {"avg_batch_size": b, "p90_itl_ms": p} for b, p in ((8, 10.5), (16, 14.0), (32, 10.5), (200, 30.0))])
    assert quiet(batches).tolist() == [True, False, False, False]
    prompts = batches.assign(p90_itl_ms=[10.5, 10.5, 10.5, 30.0])
    assert quiet(prompts).all(), "where prompts are common, long gaps are theirs"
    other = pd.concat([batches, batches.assign(num_gpus=2, p90_itl_ms=10.5)], ignore_index=True)
    assert quiet(other).tolist() == [True, False, False, False, True, True, True, True], "series are judged apart"
