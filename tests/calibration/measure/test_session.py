"""Measuring on the CPU: the tables, resuming, and everything that goes wrong on a real device."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import pandas as pd

from simserve.calibration.measure import operators, table_files
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.operators.gemm import prepare as real_gemm
from simserve.calibration.measure.options import MeasureOptions
from simserve.calibration.measure.session import DeviceLostError, MeasureResult, measure
from simserve.calibration.tables import read_tables
from simserve.errors import ConfigError

ONE_DEVICE = ("gemm", "attention_prefill", "attention_decode", "elementwise", "moe", "host_copy", "launch_overhead", "hbm_stream")
COLUMNS = {
    "gemm": {"m", "n", "k", "dtype"},
    "attention_prefill": {"batch", "new_tokens", "prefix_tokens", "num_q_heads", "num_kv_heads", "head_dim", "window_tokens", "kv_dtype"},
    "attention_decode": {"batch", "kv_tokens", "num_q_heads", "num_kv_heads", "head_dim", "window_tokens", "dtype", "kv_dtype"},
    "elementwise_model_layers": {"op", "num_tokens", "tensor_parallel", "hidden_size", "mlp_hidden_size", "num_heads", "num_kv_heads"},
    "moe": {"num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "tensor_parallel", "expert_parallel", "distribution"},
    "hbm_stream": {"op", "size_bytes", "bytes_moved", "gbytes_per_s"},
    "host_copy": {"direction", "memory", "size_bytes", "bytes_moved", "gbytes_per_s"},
    "launch_overhead": {"mode", "kernel_class", "chain_length_kernels", "makespan_us", "period_per_kernel_us", "host_issue_per_kernel_us"},
    "all_reduce": {"collective", "num_gpus", "num_nodes", "message_bytes", "dtype", "library"},
    "p2p": {"collective", "num_gpus", "num_nodes", "message_bytes", "dtype", "library"},
}
"""Columns of the public tables (see docs/calibration.md)."""


def run(out: Path, *ops: str, **options: Any) -> MeasureResult:
    settings = {"quick": True, "repeats": 3} | options
    return measure(MeasureOptions("cpu", out, operators=ops or ("gemm",), **settings), io.StringIO())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured")
    result = run(out, *ONE_DEVICE)
    assert not result.failures and not result.left
    return out


def test_every_table_has_the_columns_of_the_public_ones(measured: Path) -> None:
    for stem in set(COLUMNS) - {"all_reduce", "p2p"}:
        table = pd.read_parquet(measured / f"{stem}.parquet")
        assert COLUMNS[stem] | {"latency_us", "backend", "source", "spread_percent"} <= set(table.columns), stem
        assert (table["latency_us"] > 0).all() and table["backend"].str.startswith("torch ").all()


def test_the_fit_reads_the_tables(measured: Path) -> None:
    tables = read_tables(measured)
    assert {"gemm", "attention_prefill", "attention_decode", "elementwise"} <= set(tables.frames)
    assert all("no operator model" in reason for reason in tables.skipped)


def test_more_work_takes_longer(measured: Path) -> None:
    gemm = pd.read_parquet(measured / "gemm.parquet").groupby("m")["latency_us"].sum()
    assert gemm[256] > gemm[1]
    decode = pd.read_parquet(measured / "attention_decode.parquet").query("num_q_heads == 8")
    by_size = decode.set_index(["batch", "kv_tokens"])["latency_us"]
    assert by_size[4, 512] > by_size[1, 128]
    copies = pd.read_parquet(measured / "hbm_stream.parquet").query("op == 'copy'").sort_values("size_bytes")
    assert copies["latency_us"].iloc[-1] > copies["latency_us"].iloc[0]


def test_environment_says_on_what_and_whether_the_clock_moved(measured: Path) -> None:
    environment = json.loads((measured / "environment.json").read_text())
    assert environment["device"] == "cpu" and environment["torch"] and environment["options"]["quick"]
    assert len(environment["clock_checks"]) >= 2 and environment["clock_drift_percent"] >= 0
    assert environment["tables"]["gemm.parquet"] == len(pd.read_parquet(measured / "gemm.parquet"))


def test_the_draft_of_device_facts_is_a_profile(measured: Path) -> None:
    from simserve.hardware.profile import load_profile

    device = load_profile(measured / "facts.yaml").device
    gemm = pd.read_parquet(measured / "gemm.parquet")
    assert device.peak("bf16") >= (2 * gemm.m * gemm.n * gemm.k / gemm.latency_us * 1e6).max()  # nothing measured beats the roof


def test_a_second_run_measures_nothing_again(measured: Path) -> None:
    before = pd.read_parquet(measured / "gemm.parquet")
    again = run(measured, *ONE_DEVICE)
    assert again.measured == 0 and again.resumed > 100
    columns = [c for c in before.columns if c != "source"]  # the source names the day
    pd.testing.assert_frame_equal(pd.read_parquet(measured / "gemm.parquet")[columns], before[columns])


def test_ctrl_c_keeps_what_was_measured_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def interrupted(bench: Any, point: Any) -> Any:
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real_gemm(bench, point)

    monkeypatch.setitem(operators.PREPARE, "gemm", interrupted)
    first = run(tmp_path)
    assert first.interrupted and first.measured == 5 and first.tables == {"gemm.parquet": 5} and first.left > 0
    second = run(tmp_path)
    assert not second.interrupted and second.resumed == 5 and second.left == 0
    assert second.tables["gemm.parquet"] == first.left + 5


def test_a_killed_process_loses_at_most_the_point_in_hand(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--ops", "gemm", "--repeats", "3", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "simserve.calibration.measure", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 8):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes().count(b"\n") - 1
    assert kept >= 7
    with open(journal, "ab") as file:
        file.write(b'{"key":"[\\"gemm\\",{\\"dty')  # as if the last write had been cut
    resumed = run(tmp_path, time_budget_s=120.0)
    assert resumed.left == 0 and resumed.resumed + resumed.measured == resumed.tables["gemm.parquet"] - _beyond_quick(tmp_path)


def _quick_gemms(out: Path, m: int | None = None) -> int:
    """How many matrices a quick measurement takes, of all or of so many rows."""
    from simserve.calibration.measure.session import planned

    points = planned(MeasureOptions("cpu", out, operators=("gemm",), quick=True), TorchDevice("cpu"))
    return sum(m is None or p.values["m"] == m for p in points)


def _beyond_quick(out: Path) -> int:
    """Rows that the killed run had measured outside the quick grid: they stay in the table."""
    from simserve.calibration.measure.session import planned

    quick = {p.key for p in planned(MeasureOptions("cpu", out, operators=("gemm",), quick=True), TorchDevice("cpu"))}
    keys = [json.loads(line).get("key") for line in (out / "journal.jsonl").read_text().splitlines()[1:]]
    return len(set(keys) - quick)


def test_out_of_memory_is_counted_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(bench: Any, point: Any) -> Any:
        if point.values["m"] == 4:
            bench.data.one((1 << 26, 1 << 26), "bf16")  # 8 PiB: a real allocation that really fails
        return real_gemm(bench, point)

    monkeypatch.setitem(operators.PREPARE, "gemm", hungry)
    result = run(tmp_path)
    shapes = _quick_gemms(tmp_path, 4)
    assert result.failures == {"out of memory": shapes} and result.left == 0
    assert 4 not in set(pd.read_parquet(tmp_path / "gemm.parquet")["m"])
    monkeypatch.setitem(operators.PREPARE, "gemm", real_gemm)
    assert run(tmp_path).measured == 0  # a failure is settled
    assert run(tmp_path, retry_failed=True).measured == shapes  # until it is asked for again


def test_a_driver_error_is_named_and_a_lost_device_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(bench: Any, point: Any) -> Any:
        if point.values["m"] == 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")
        return real_gemm(bench, point)

    monkeypatch.setitem(operators.PREPARE, "gemm", faulty)
    result = run(tmp_path / "survives")
    assert result.failures == {"failed: RuntimeError: CUDA error: an illegal memory access was encountered": _quick_gemms(tmp_path, 2)}
    monkeypatch.setattr(TorchDevice, "healthy", lambda self: False)
    with pytest.raises(DeviceLostError, match=r"gemm m=2 .*illegal memory access.*kept"):
        run(tmp_path / "lost")
    assert len(pd.read_parquet(tmp_path / "lost" / "gemm.parquet")) == 1
    with pytest.raises(DeviceLostError):  # goes on after the point that broke it, to the next one that does
        run(tmp_path / "lost")
    assert len(pd.read_parquet(tmp_path / "lost" / "gemm.parquet")) > 1


def test_a_time_budget_ends_in_time_with_the_coarse_points(tmp_path: Path) -> None:
    start = time.monotonic()
    result = run(tmp_path, "gemm", "attention_decode", quick=False, time_budget_s=1.0)
    assert time.monotonic() - start < 10 and result.left > 0 and result.measured > 0
    levels = json.loads((tmp_path / "environment.json").read_text())["points"]
    assert levels["left"] == result.left


def test_collectives_between_processes(tmp_path: Path) -> None:
    result = run(tmp_path, "all_reduce", "p2p")
    assert not result.failures
    for stem in ("all_reduce", "p2p"):
        table = pd.read_parquet(tmp_path / f"{stem}.parquet")
        assert COLUMNS[stem] <= set(table.columns) and set(table["num_gpus"]) == {2} and set(table["library"]) == {"gloo"}
    frames = read_tables(tmp_path).frames
    assert len(frames["all_reduce"]) == result.tables["all_reduce.parquet"]


def test_graph_and_eager_rows_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device with graphs a kernel launched one by one is another kernel to the fit: its launch gaps are in the number."""
    real = TorchDevice.__init__

    def with_graphs(self: TorchDevice, kind: str, index: int = 0) -> None:
        real(self, kind, index)
        self.has_graphs = True

    monkeypatch.setattr(TorchDevice, "__init__", with_graphs)
    monkeypatch.setattr(TorchDevice, "capture", lambda self, work: work)
    run(tmp_path, "gemm", "launch_overhead", "host_copy", graphs="both")
    gemm = pd.read_parquet(tmp_path / "gemm.parquet")
    assert dict(gemm.groupby("mode")["kernel"].first()) == {
        "eager": "torch.nn.functional.linear, eager",
        "graph": "torch.nn.functional.linear",
    }
    assert set(pd.read_parquet(tmp_path / "launch_overhead.parquet")["mode"]) == {"eager", "graph"}
    assert set(read_tables(tmp_path).frames["gemm"]["kernel"]) == {"torch.nn.functional.linear", "torch.nn.functional.linear, eager"}


def test_flushing_the_cache_is_not_timed(tmp_path: Path) -> None:
    result = run(tmp_path, flush_l2=True)
    assert result.tables == {"gemm.parquet": _quick_gemms(tmp_path)}
    small = pd.read_parquet(tmp_path / "gemm.parquet").query("m == 1")["latency_us"]
    assert small.min() < 150  # writing the 16 MiB of a flush takes longer than that


def test_csv_where_pyarrow_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "load_optional", lambda name: None)
    assert list(run(tmp_path).tables) == ["gemm.csv"]
    assert len(read_tables(tmp_path).frames["gemm"]) == _quick_gemms(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cdua"}, r"--device cdua: unknown device; did you mean 'cuda'"),
        ({"operators": ("gem",)}, r"--ops gem: unknown; did you mean 'gemm'"),
        ({"dtypes": ("bf61",)}, r"--dtype bf61: unknown; did you mean 'bf16'"),
        ({"time_budget_s": 0.0}, r"--time-budget-s is 0.0"),
        ({"repeats": 1}, r"--repeats is 1"),
        ({"tp": (2,)}, r"--for-model"),
        ({"graphs": "maybe"}, r"--graphs maybe"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure(MeasureOptions(**{"device": "cpu", "out": tmp_path / "o"} | options), io.StringIO())


def test_an_absent_device_is_one_clear_message(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"--device cuda: PyTorch .* sees no such device"):
            measure(MeasureOptions("cuda", tmp_path / "o"), io.StringIO())
    with pytest.raises(ConfigError, match="torch_npu"):
        measure(MeasureOptions("npu", tmp_path / "o"), io.StringIO())
    assert not (tmp_path / "o").exists()
