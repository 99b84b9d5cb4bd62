"""Reading measured tables: what is usable is used, what is not is counted, and what cannot be a table is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.calibration.tables import read_tables
from simserve.errors import ConfigError


def gemm_rows(rows: int = 50) -> pd.DataFrame:
    m = 2 ** np.arange(rows) % 4096 + 1
    return pd.DataFrame({"m": m, "n": 4096, "k": 4096, "dtype": "bf16", "latency_us": 10.0 + m, "backend": "lab 1.0", "source": "lab@1:x"})


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    table = gemm_rows().astype({"m": float})
    table.loc[0, "latency_us"] = -1.0
    table.loc[1, "latency_us"] = np.nan
    table.loc[2, "latency_us"] = np.inf
    table.loc[3, "m"] = -8
    table.loc[4, "m"] = np.nan
    table.to_parquet(tmp_path / "gemm.parquet")
    gemm_rows(7).to_csv(tmp_path / "sorting.csv")
    read = read_tables(tmp_path)
    assert len(read.frames["gemm"]) == 45
    assert read.skipped == {
        "time is missing, not finite or not positive": 3,
        "an input is missing, negative or not finite": 2,
        "no operator model for table 'sorting'": 7,
    }
    assert sum(read.skipped_groups.values()) == 12


def test_narrow_integers_do_not_overflow(tmp_path: Path) -> None:
    """The published element-wise tables hold head counts in 8 bits: 64 + 64 must not become -128."""
    row = {"op": "attn_rope", "num_tokens": 8, "tensor_parallel": 1, "hidden_size": 8192, "mlp_hidden_size": 24576, "num_heads": 64}
    table = pd.DataFrame([row | {"num_kv_heads": 64, "dtype": "fp16", "latency_us": 5.0, "backend": "lab"}])
    table.astype({"num_heads": "int8", "num_kv_heads": "int8"}).to_parquet(tmp_path / "elementwise_model_layers.parquet")
    (width,) = read_tables(tmp_path).frames["elementwise"]["width"]
    assert width == (64 + 64) * 128


def test_a_total_of_kv_tokens_becomes_that_of_one_sequence(tmp_path: Path) -> None:
    row = {"batch": 8, "kv_tokens": 8192, "num_q_heads": 16, "num_kv_heads": 2, "dtype": "bf16", "kv_dtype": "bf16", "latency_us": 9.0}
    table = pd.DataFrame([row | {"backend": "LLMServingSim v0 profiler (vLLM)"}, row | {"backend": "vllm 0.24.0"}])
    table.to_parquet(tmp_path / "attention_decode.parquet")
    assert read_tables(tmp_path).frames["attention_decode"]["kv_tokens"].tolist() == [1024.0, 8192.0]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        read_tables(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"no \.parquet or \.csv"):
        read_tables(tmp_path)
    (tmp_path / "gemm.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ConfigError, match=r"gemm\.parquet: cannot be read"):
        read_tables(tmp_path)
    gemm_rows().drop(columns=["k", "backend"]).to_parquet(tmp_path / "gemm.parquet")
    with pytest.raises(ConfigError, match="column k, backend is missing; found m, n"):
        read_tables(tmp_path)
