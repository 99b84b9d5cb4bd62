"""Damaged tables end in a result, a skipped run with its reason, or one message, like damaged results of load generators."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measured_runs import TABLES
from tests.validation.judging import judge

FIXED = {
    "id": "x_h200_sxm_vllm_agg_256x32_c4_tp1_1", "backend": "vllm", "backend_version": "0.12", "model_path": "meta-llama/Llama-3.1-8B",
    "system": "h200_sxm", "precision": "bf16", "mode": "agg", "input_tokens": 256, "output_tokens": 32, "gemm_quant_mode": "bfloat16",
    "tp_size": 1.0, "pp_size": 1.0, "attention_dp_size": 1.0, "moe_tp_size": 1.0, "moe_ep_size": 1.0, "ttft_ms": 40.0, "tpot_ms": 8.0,
    "concurrency": 4.0, "collection": "mine",
}  # fmt: skip


def test_damaged_tables_are_told(tmp_path: Path) -> None:
    rng = random.Random(3)
    seen = set()
    for i in range(60):
        table = pd.DataFrame([FIXED])
        column = rng.choice(list(FIXED))
        odd = rng.choice(
            [None, "abc", "", -1.0, 0.0, 1e30, float("inf"), float("nan"), True, 2**62, b"\xff", [1, 2], np.datetime64("2020-01-01")]
        )
        table[column] = pd.Series([odd], dtype=object)
        if rng.random() < 0.15:
            table = table.drop(columns=[rng.choice(list(FIXED))])
        try:
            table.to_parquet(tmp_path / "t.parquet")
        except (OverflowError, ValueError, TypeError):
            continue
        seen.add(judge(tmp_path / "t.parquet", f"{column} = {odd!r} ({i})", TABLES))
    assert seen == {"predicted", "skipped", "refused"}
