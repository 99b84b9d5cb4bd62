"""`simserve validate kernels`: errors by group, skipped rows with reasons, JSON and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.calibration.validate import validate_kernels
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.hardware import load_profile

PROFILE = load_profile("a100-sxm-80gb")
SHARED = Path(__file__).parents[2] / ".." / "shared" / "kernel_profiles"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Measurements that are the profile's own predictions, 10 % slower on unseen shapes, and rows that nothing predicts."""
    folder = tmp_path / "tables"
    folder.mkdir()
    rows = pd.DataFrame({"m": [1, 64, 300, 1000] * 2, "n": [4096] * 4 + [5120] * 4, "k": 4096})
    entry = PROFILE.operator("gemm", "bf16", "vllm").entry
    assert entry is not None
    own = PROFILE.operator("gemm", "bf16", "vllm").seconds(**{c: rows[c].to_numpy() for c in rows}) * 1e6
    rows = rows.assign(dtype="bf16", backend=entry.backend, kernel=entry.kernel, heldout_kind=["point"] * 4 + ["shape"] * 4)
    rows["latency_us"] = own * np.where(rows["heldout_kind"] == "shape", 1.1, 1.0)
    other = rows.iloc[:3].assign(backend="elsewhere 1.0")
    broken = rows.iloc[:2].assign(latency_us=[-1.0, np.nan])
    pd.concat([rows, other, broken]).to_parquet(folder / "gemm.parquet")
    pd.DataFrame({"x": [1.0] * 5}).to_parquet(folder / "riddle.parquet")
    return folder


def test_groups_and_reasons(tables: Path) -> None:
    document = validate_kernels(PROFILE, tables).document()
    groups = {(g["operator"], g["backend"], g["heldout_kind"]): g for g in document["groups"]}
    point, shape = groups["gemm", "vllm 0.14.0", "point"], groups["gemm", "vllm 0.14.0", "shape"]
    assert (point["rows"], point["skipped"], point["mape_percent"]) == (4, 2, pytest.approx(0.0, abs=1e-6))
    assert (shape["rows"], shape["mape_percent"]) == (4, pytest.approx(100 / 11, abs=1e-3))
    assert (groups["gemm", "elsewhere 1.0", "point"]["rows"], groups["gemm", "elsewhere 1.0", "point"]["skipped"]) == (0, 3)
    assert sum(document["skipped_reasons"].values()) == 3 + 2 + 5
    assert {"operator", "dtype", "backend", "heldout_kind", "rows", "skipped", "mape_percent", "p90_percent"} <= set(point)


def test_the_command_prints_pure_json_and_draws(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["validate", "kernels", "a100-sxm-80gb", str(tables), "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["profile"] == "a100-sxm-80gb"
    assert (out / "gemm.png").stat().st_size > 10_000
    assert len(pd.read_csv(out / "predictions.csv")) == 8


def test_transfer_judges_one_backend_by_the_measurements_of_others(tables: Path) -> None:
    """sglang's model must answer for vllm's rows and for another engine's, and for none of its own."""
    result = validate_kernels(PROFILE, tables, backend="sglang")
    assert set(result.rows["backend"]) == {"vllm 0.14.0", "elsewhere 1.0"}
    row = result.rows[result.rows["backend"] == "elsewhere 1.0"].iloc[0]
    model = PROFILE.operator("gemm", "bf16", "sglang")
    assert row["predicted_s"] == model.seconds(m=1, n=4096, k=4096)[0]
    own = validate_kernels(PROFILE, tables, backend="vllm")
    assert set(own.rows["backend"]) == {"elsewhere 1.0"}
    assert own.skipped_reasons["measured by the backend that predicts"] == 8
    with pytest.raises(ConfigError, match="no measurements of backend 'vlm'"):
        validate_kernels(PROFILE, tables, backend="vlm")
    with pytest.raises(ConfigError, match="--analytic"):
        validate_kernels(PROFILE, tables, backend="vllm", analytic=True)


def test_the_command_prints_a_table(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "kernels", "a100-sxm-80gb", str(tables)]) == 0
    text = capsys.readouterr().out
    assert "gemm" in text and "skipped 5: no operator model for table 'riddle'" in text


def test_mistakes_end_with_one_message(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["validate", "kernels", "a100-sxm-80g", str(tables)], "did you mean 'a100-sxm-80gb'"),
        (["validate", "kernels", "a100-sxm-80gb", str(tmp_path / "absent")], "no such directory"),
        (["calibrate", "fit", str(tables), "--facts", "a100-sxm-80gb", "--out", str(tmp_path / "x.json")], ".yaml"),
        (["calibrate", "fit", str(tables), "--facts", "a100-sxm-80gb", "--out", str(tmp_path / "x.yaml"), "--also", "d=gem"], "gem"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error


@pytest.mark.shared
@pytest.mark.parametrize(("name", "folder"), [("a100-sxm-80gb", "a100_sxm"), ("h100-sxm-80gb", "h100_sxm")])
def test_the_shipped_profiles_describe_their_tables(name: str, folder: str) -> None:
    """A coarse net: the coefficients in the repository belong to the profile and to these measurements."""
    if not SHARED.is_dir():
        pytest.skip("the measured tables are not beside the repository")
    judged = frozenset({"gemm", "attention_prefill", "elementwise"})
    worst = {
        g["operator"]: max(g["mape_percent"], 0)
        for g in validate_kernels(load_profile(name), SHARED / folder, only=judged).groups()
        if g["rows"] > 1000 and g["dtype"] in ("bf16", "fp16") and g["backend"].startswith(("vllm", "vidur", "sglang"))
    }
    assert worst["gemm"] < 5 and worst["attention_prefill"] < 4 and worst["elementwise"] < 8
