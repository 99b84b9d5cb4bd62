"""Fitting: a known law is found again, with an honest error; garbage is not fitted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.calibration import split as splits
from simserve.calibration.build import build_profile
from simserve.calibration.fit_curves import fit_curves
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.hardware import HardwareProfile, load_profile

FACTS = load_profile("a100-sxm-80gb")


def law_us(m: np.ndarray, n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """A machine with 128-row tiles, 250 TFLOP/s, 1.6 TB/s and a floor of 5 us."""
    padded = np.ceil(m / 128) * 128
    return 5.0 + 1e6 * np.maximum(2 * padded * n * k / 250e12, 2 * (m * k + n * k + m * n) / 1.6e12)


def gemm_table(noise: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sizes = [512, 1024, 2048, 3072, 4096, 6144, 8192, 12288]
    rows = (1, 2, 4, 8, 16, 32, 64, 96, 128, 129, 192, 256, 257, 384, 512, 1024, 2048, 4096)
    grid = [(m, n, k) for n in sizes for k in sizes for m in rows]
    m, n, k = np.array(grid, dtype=float).T
    us = law_us(m, n, k) * np.exp(noise * rng.standard_normal(len(m)))
    table = pd.DataFrame({"m": m, "n": n, "k": k, "latency_us": us})
    return table.assign(dtype="bf16", backend="lab 1.0", kernel="x", source="lab@1:x")


def build(tmp_path: Path, table: pd.DataFrame, stem: str = "gemm") -> tuple[HardwareProfile, dict[str, int]]:
    folder = tmp_path / "tables"
    folder.mkdir(exist_ok=True)
    table.to_parquet(folder / f"{stem}.parquet")
    return build_profile(FACTS.path, [(folder, None)], tmp_path / "mine.yaml", lambda _: None)


def test_a_known_law_is_found_again(tmp_path: Path) -> None:
    profile, left_out = build(tmp_path, gemm_table())
    assert not left_out and profile.name == "mine"
    (entry,) = profile.entries()
    assert entry.check.points and entry.check.shapes
    assert entry.check.points.mape_percent < 3 and entry.check.shapes.mape_percent < 5
    model = profile.operator("gemm", "bf16")
    m = np.array([40.0, 300.0, 3000.0])
    assert model.seconds(m=m, n=5120.0, k=5120.0) * 1e6 == pytest.approx(law_us(m, 5120.0, 5120.0), rel=0.12)


def test_the_check_error_is_that_of_unseen_rows(tmp_path: Path) -> None:
    """Noise of 10 % cannot be predicted: an error below it would mean that the check rows were seen."""
    profile, _ = build(tmp_path, gemm_table(noise=0.1))
    (entry,) = profile.entries()
    assert entry.check.points and 6 < entry.check.points.mape_percent < 14
    assert entry.residual_log[0] < -0.1 and entry.residual_log[4] > 0.1


def test_the_same_tables_give_the_same_files(tmp_path: Path) -> None:
    first, _ = build(tmp_path, gemm_table())
    sha = first.entries()[0].model.sha256
    second, _ = build(tmp_path, gemm_table())
    assert second.entries()[0].model.sha256 == sha
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_the_split_holds_out_whole_shapes_and_does_not_depend_on_order() -> None:
    table = gemm_table().assign(seconds=1.0)
    part = splits.split(table, ("n", "k"), ["m", "n", "k"])
    of_shape = pd.Series(part == splits.SHAPES).groupby([table["n"], table["k"]]).nunique()
    assert (of_shape == 1).all()
    assert 0.02 < (part == splits.SHAPES).mean() < 0.25 and 0.05 < (part == splits.POINTS).mean() < 0.2
    shuffled = table.sample(frac=1.0, random_state=1)
    assert (splits.split(shuffled, ("n", "k"), ["m", "n", "k"]) == part[shuffled.index]).all()


def test_another_unit_is_noticed(tmp_path: Path) -> None:
    """Milliseconds labelled as microseconds are faster than the device can be."""
    table = gemm_table()
    table["latency_us"] /= 1000.0
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, table)
    half = gemm_table()
    half.loc[half.index[::2], "latency_us"] /= 1000.0
    _, left_out = build(tmp_path, half)
    assert left_out["faster than the device can be: another unit or another device?"] > 200


def test_mixed_units_are_refused_and_a_few_strays_left_out(tmp_path: Path) -> None:
    """Nanoseconds among microseconds are slower, not faster, than a device can be: only the other rows tell."""
    table = gemm_table()
    mixed = table.copy()
    mixed.loc[mixed.index[::3], "latency_us"] *= 1000.0
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, mixed)
    strays = table.copy()
    strays.loc[strays.index[::100], "latency_us"] *= 1000.0
    profile, left_out = build(tmp_path, strays)
    assert left_out == {"hundreds of times slower or faster than the other sizes of its kernel": len(table) // 100 + 1}
    (entry,) = profile.entries()
    assert entry.check.points and entry.check.points.mape_percent < 3


def test_constants_are_not_fitted(tmp_path: Path) -> None:
    """The same time whatever the size is a broken timer; the same size with other times is one measurement, repeated."""
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, gemm_table().assign(latency_us=2e5))
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, gemm_table().assign(m=64.0, n=4096.0, k=4096.0))


def test_a_report_shows_the_rows_that_the_fit_did_not_see(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    gemm_table().to_parquet(folder / "gemm.parquet")
    build_profile(FACTS.path, [(folder, None)], tmp_path / "mine.yaml", lambda _: None, report=tmp_path / "report")
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["gemm.png"]
    assert 5_000 < (tmp_path / "report" / "gemm.png").stat().st_size < 100_000


def test_repeated_rows_become_one_and_single_points_are_not_fitted(tmp_path: Path) -> None:
    table = gemm_table()
    _, left_out = build(tmp_path, pd.concat([table, table.iloc[:100]], ignore_index=True))
    assert left_out == {"repeated measurements, merged into their median": 100}
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, table.iloc[:1])
    with pytest.raises(ConfigError, match="no operator could be fitted"):
        build(tmp_path, pd.concat([table.iloc[:1]] * 500, ignore_index=True))


def test_a_failed_fit_leaves_the_old_profile(tmp_path: Path) -> None:
    profile, _ = build(tmp_path, gemm_table())
    before = profile.path.read_bytes()
    with pytest.raises(ConfigError):
        build(tmp_path, gemm_table().iloc[:3])
    assert profile.path.read_bytes() == before
    assert load_profile(profile.path).operator("gemm", "bf16").seconds(m=1, n=512, k=512)[0] > 0


def test_curves_go_through_their_points_but_not_through_spikes() -> None:
    size = 2.0 ** np.arange(10, 28)
    seconds = 1e-5 + size / 2e11
    rows = pd.DataFrame({"num_gpus": 8.0, "num_nodes": 1.0, "gpus_per_node_used": 0.0, "message_bytes": size, "seconds": seconds})
    rows.loc[5, "seconds"] *= 30
    fitted = fit_curves(rows, ("num_gpus", "num_nodes", "gpus_per_node_used"), "message_bytes")
    columns = {c: rows[c].to_numpy() for c in rows.columns}
    assert fitted.seconds(columns) == pytest.approx(seconds, rel=0.05)
    assert (np.diff(fitted.seconds(columns)) >= 0).all()


def test_what_is_too_small_to_fit_is_named_and_so_is_what_stays_an_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    gemm_table().to_parquet(folder / "gemm.parquet")
    rows = {"batch": 1, "new_tokens": np.arange(45) + 1, "prefix_tokens": 0, "num_q_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    names = {"dtype": "bf16", "kv_dtype": "bf16", "backend": "lab 1.0", "kernel": "flash", "source": "lab", "window_tokens": 0}
    pd.DataFrame(rows).assign(latency_us=500.0 + np.arange(45), **names).to_parquet(folder / "attention_prefill.parquet")
    assert main(["calibrate", "fit", str(folder), "--facts", "a100-sxm-80gb", "--out", str(tmp_path / "mine.yaml")]) == 0
    said = capsys.readouterr()
    assert "left out 45 rows: attention_prefill bf16 lab 1.0 flash: too few measurements of one kernel to fit, 60 needed" in said.out
    assert "roofline estimates, not fitted: attention_prefill, attention_decode," in said.out
    assert "warning: attention_prefill and attention_decode decide most of a step" in said.err
    (folder / "gemm.parquet").unlink()
    assert main(["calibrate", "fit", str(folder), "--facts", "a100-sxm-80gb", "--out", str(tmp_path / "none.yaml")]) == 2
    assert "no operator could be fitted" in (said := capsys.readouterr().err) and "60 needed" in said


def test_one_unreadable_table_of_a_folder_is_told_and_the_others_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, gemm_table())
    folder = tmp_path / "tables"
    (folder / "moe.parquet").write_bytes(b"PAR1 no")
    pd.DataFrame({"batch": [1]}).to_parquet(folder / "attention_decode.parquet")
    arguments = ["validate", "kernels", str(tmp_path / "mine.yaml"), str(folder)]
    assert main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert set(document["unreadable_files"]) == {"moe.parquet", "attention_decode.parquet"}
    assert any(g["operator"] == "gemm" and g["rows"] for g in document["groups"])
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out.count("not read: ") == 2 and "2 of the files could not be read" in said.err
    assert main(["calibrate", "fit", str(folder), "--facts", "a100-sxm-80gb", "--out", str(tmp_path / "other.yaml")]) == 2, (
        "a profile is not made from half of its tables"
    )
