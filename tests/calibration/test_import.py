"""Published tables come out with the numbers they went in with, in our names and units; what is not such a table is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from simserve.calibration.imports import import_tables
from simserve.calibration.tables import read_tables
from simserve.cli import main
from simserve.errors import ConfigError, OutputError

ENGINE = {"framework": "VLLM", "version": "0.24.0", "device": "NVIDIA H100 80GB HBM3", "kernel_source": "fa3"}
HEADS = {"batch_size": 4, "num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "attn_dtype": "bfloat16", "kv_cache_dtype": "fp8"}


def aiconfigurator(folder: Path, system_name: str = "h100_sxm", /, **tables: list[dict[str, object]]) -> Path:
    system = folder / "data" / system_name
    for name, rows in tables.items():
        place = system / "family" / "vllm" / "0.24.0"
        place.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([ENGINE | row for row in rows]).to_parquet(place / f"{name}_perf.parquet")
    return system


def vidur(folder: Path, device: str = "h100") -> Path:
    """One model on one tensor-parallel size, and an all-reduce that two ranks timed."""
    model = folder / "compute" / device / "acme" / "Toy-7B"
    model.mkdir(parents=True)
    row = {"n_head": 32, "n_kv_head": 8, "n_embd": 4096, "n_expanded_embd": 11008, "vocab_size": 32000, "use_gated_mlp": True}
    row |= {"num_tokens": 256, "num_tensor_parallel_workers": 2}
    for operation, ms in (("attn_pre_proj", 0.1), ("attn_post_proj", 0.2), ("mlp_up_proj", 0.3), ("mlp_down_proj", 0.4), ("mlp_act", 0.05)):
        row[f"time_stats.{operation}.median"] = ms
    pd.DataFrame([row]).to_csv(model / "mlp.csv", index=False)
    times = {"time_stats.attn_prefill.median": [1.5, None], "time_stats.attn_decode.median": [None, 0.02]}
    attention = pd.DataFrame(times).assign(n_embd=4096, n_q_head=32, n_kv_head=8, num_tensor_parallel_workers=2, batch_size=[1, 16])
    attention = attention.assign(prefill_chunk_size=[512, 0], kv_cache_size=[1024, 2048], attention_backend="AttentionBackend.FLASHINFER")
    attention.to_csv(model / "attention.csv", index=False)
    network = folder / "network" / f"{device}_dgx"
    network.mkdir(parents=True)
    ranks = pd.DataFrame({"time_stats.all_reduce.median": [0.030, 0.034], "rank": [0, 1]})
    ranks.assign(num_workers=8, size=2048, devices_per_node=8, collective="all_reduce").to_csv(network / "all_reduce.csv", index=False)
    return folder


def test_aiconfigurator_times_are_milliseconds_and_message_sizes_elements(tmp_path: Path) -> None:
    system = aiconfigurator(
        tmp_path,
        gemm=[{"gemm_dtype": "fp8_block", "m": 8, "n": 4096, "k": 2048, "latency": 0.025}],
        context_attention=[HEADS | {"isl": 1024, "step": 0, "latency": 0.5, "window_size": 128}],
        generation_attention=[HEADS | {"isl": 1, "step": 4095, "latency": 0.04}],
        nccl=[{"op_name": "alltoall", "num_gpus": 8, "message_size": 1000, "nccl_dtype": "half", "latency": 0.012}],
    )
    made = import_tables("aiconfigurator", system, tmp_path / "out")
    assert not made.skipped
    frames = read_tables(tmp_path / "out").frames
    (gemm,) = frames["gemm"].to_dict("records")
    assert (gemm["m"], gemm["n"], gemm["k"], gemm["dtype"], gemm["backend"]) == (8, 4096, 2048, "fp8_block128", "vllm 0.24.0")
    assert gemm["seconds"] == pytest.approx(25e-6)
    (decode,) = frames["attention_decode"].to_dict("records")
    assert (decode["kv_tokens"], decode["num_kv_heads"], decode["kv_dtype"]) == (4096, 8, "fp8")
    (prefill,) = frames["attention_prefill"].to_dict("records")
    assert (prefill["new_tokens"], prefill["prefix_tokens"], prefill["window_tokens"]) == (1024, 0, 128)
    (exchange,) = frames["all_to_all"].to_dict("records")
    assert exchange["message_bytes"] == 2000 and exchange["seconds"] == pytest.approx(12e-6)


def test_aiconfigurator_tables_without_an_operator_are_counted(tmp_path: Path) -> None:
    good = {"gemm_dtype": "bfloat16", "m": 8, "n": 64, "k": 64, "latency": 0.003}
    system = aiconfigurator(tmp_path, gemm=[good, good | {"latency": None}], gdn=[{"latency": 1.0}] * 3)
    made = import_tables("aiconfigurator", tmp_path, tmp_path / "out", device=system.name)
    assert made.rows == {("gemm", "bf16", "vllm 0.24.0"): 1}
    assert sorted(made.skipped.values()) == [1, 3]


def test_rows_measured_on_another_device_than_the_systems_are_counted_and_every_way_to_name_it_works(tmp_path: Path) -> None:
    """The h200_sxm folder of aiconfigurator-core 0.12 holds 23 DeepEP rows of an H100 among 1.5 million of an H200."""
    h200, h100 = {"device": "NVIDIA H200"}, {"device": "NVIDIA H100 80GB HBM3"}
    good = {"gemm_dtype": "bfloat16", "m": 8, "n": 64, "k": 64, "latency": 0.003}
    exchange = {"node_num": 1, "hidden_size": 7168, "num_token": 64, "num_topk": 8, "num_experts": 256}
    timed = {f"{way}_{part}_us": 9.0 for way in ("dispatch", "combine") for part in ("transmit", "notify")}
    system = aiconfigurator(
        tmp_path, "h200_sxm", gemm=[good | h200, good | h200 | {"m": 9}], wideep_deepep_normal=[exchange | timed | h100]
    )
    aiconfigurator(tmp_path, "h100_sxm", gemm=[good | h100])
    for i, (path, device) in enumerate(
        [(system, None), (system, "h200_sxm"), (system.parent, "h200_sxm"), (tmp_path, "h200_sxm"), (system.parent, "NVIDIA H200")]
    ):
        made = import_tables("aiconfigurator", path, tmp_path / f"out{i}", device=device)
        assert made.rows == {("gemm", "bf16", "vllm 0.24.0"): 2}, (path, device)
        left = {reason: rows for reason, rows in made.skipped.items() if "NVIDIA H100" in reason}
        assert sum(left.values()) == (2 if device == "NVIDIA H200" else 1), left


def test_deepep_counts_trays_of_four_on_grace_blackwell(tmp_path: Path) -> None:
    row = {"node_num": 2, "hidden_size": 7168, "num_token": 64, "num_topk": 8, "num_experts": 256}
    row |= {"dispatch_avg_t_us": 20.0, "combine_avg_t_us": 21.0}
    for system, device, gpus in (("gb200", "NVIDIA GB200", 8), ("b200_sxm", "NVIDIA B200", 16)):
        made = aiconfigurator(tmp_path / system, system, wideep_deepep_ll=[row | {"device": device}])
        import_tables("aiconfigurator", made, tmp_path / f"out-{system}")
        assert set(read_tables(tmp_path / f"out-{system}").frames["moe_dispatch"]["num_gpus"]) == {gpus}


def test_an_exchange_over_a_rack_is_prepared_before_it_is_sent(tmp_path: Path) -> None:
    row = {"moe_dtype": "fp8", "num_tokens": 64, "hidden_size": 7168, "topk": 8, "num_experts": 256, "moe_ep_size": 64}
    row |= {"device": "NVIDIA GB200"}
    parts = {"alltoall_prepare": 0.012, "alltoall_dispatch": 0.014, "alltoall_combine": 0.03}
    rows = [row | {"op_name": name, "latency": ms, "kernel_source": "NVLinkTwoSided"} for name, ms in parts.items()]
    one_sided = row | {"op_name": "alltoall_combine", "latency": 0.01, "kernel_source": "NVLinkOneSided"}
    import_tables("aiconfigurator", aiconfigurator(tmp_path, "gb200", trtllm_alltoall=[*rows, one_sided]), tmp_path / "out")
    frames = read_tables(tmp_path / "out").frames
    (dispatch,), (combine,) = (frames[f"moe_{part}"].to_dict("records") for part in ("dispatch", "combine"))
    assert (dispatch["dtype"], combine["dtype"], dispatch["kernel"], dispatch["num_gpus"]) == ("fp8", "bf16", "nvlink", 64)
    assert dispatch["seconds"] == pytest.approx(26e-6) and combine["seconds"] == pytest.approx(30e-6)


def test_types_of_blackwells_tables(tmp_path: Path) -> None:
    sizes = {"num_tokens": 64, "hidden_size": 2880, "inter_size": 2880, "topk": 4, "num_experts": 128, "moe_tp_size": 1, "moe_ep_size": 1}
    moe = sizes | {"distribution": "balanced", "moe_dtype": "w4a8_mxfp4_mxfp8", "latency": 0.1, "device": "NVIDIA B200"}
    gemm = {"gemm_dtype": "nvfp4", "m": 8, "n": 4096, "k": 4096, "latency": 0.01, "device": "NVIDIA B200"}
    import_tables("aiconfigurator", aiconfigurator(tmp_path, "b200_sxm", gemm=[gemm], moe=[moe]), tmp_path / "out")
    frames = read_tables(tmp_path / "out").frames
    assert frames["gemm"]["dtype"].item() == "w4a4_nvfp4" and frames["moe"]["dtype"].item() == "w4a8_mxfp4"


@pytest.mark.parametrize("scope", ["kernel", "module"])
def test_aiconfigurator_latent_attention(tmp_path: Path, scope: str) -> None:
    row = {"mla_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "gemm_type": "fp8_block", "num_heads": 16, "batch_size": 2}
    name = "generation_mla" if scope == "kernel" else "mla_generation_module"
    system = aiconfigurator(tmp_path, **{name: [row | {"isl": 1, "step": 1023, "latency": 0.02}]})
    import_tables("aiconfigurator", system, tmp_path / "out")
    (mla,) = read_tables(tmp_path / "out").frames["mla"].to_dict("records")
    assert (mla["kv_tokens"], mla["decode"]) == (1024, 1)
    assert mla["projection_bytes"] == (0 if scope == "kernel" else 1)


def test_vidur_layers_become_matrices_of_one_rank(tmp_path: Path) -> None:
    made = import_tables("vidur", vidur(tmp_path / "data"), tmp_path / "out")
    frames = read_tables(tmp_path / "out").frames
    shapes = {row["seconds"]: (row["m"], row["n"], row["k"]) for row in frames["gemm"].to_dict("records")}
    assert {round(s * 1e6): shape for s, shape in shapes.items()} == {
        100: (256, (32 + 2 * 8) * 128 / 2, 4096),
        200: (256, 4096, 32 * 128 / 2),
        300: (256, 2 * 11008 / 2, 4096),
        400: (256, 4096, 11008 / 2),
    }
    (prefill,) = frames["attention_prefill"].to_dict("records")
    assert (prefill["new_tokens"], prefill["prefix_tokens"], prefill["num_q_heads"], prefill["num_kv_heads"]) == (512, 1024, 16, 4)
    (decode,) = frames["attention_decode"].to_dict("records")
    assert (decode["batch"], decode["kv_tokens"]) == (16, 2048) and decode["seconds"] == pytest.approx(20e-6)
    (reduce,) = frames["all_reduce"].to_dict("records")
    assert reduce["seconds"] == pytest.approx(34e-6), "the slowest rank ends the collective"
    assert made.skipped == {"all_reduce: other ranks of the same call (the slowest counts)": 1}


def test_tables_may_state_another_unit_but_only_one(tmp_path: Path) -> None:
    rows = pd.DataFrame({"m": [1, 2], "n": 64, "k": 64, "dtype": "bf16", "backend": "lab 1.0", "latency_ms": [0.003, 0.004]})
    folder = tmp_path / "lab"
    folder.mkdir()
    rows.to_csv(folder / "gemm.csv", index=False)
    import_tables("tables", folder, tmp_path / "out")
    assert read_tables(tmp_path / "out").frames["gemm"]["seconds"].tolist() == pytest.approx([3e-6, 4e-6])
    rows.assign(latency_us=3.0).to_csv(folder / "gemm.csv", index=False)
    with pytest.raises(ConfigError, match="latency_us and latency_ms are both there"):
        import_tables("tables", folder, tmp_path / "again")


def test_an_import_does_not_overwrite_and_is_all_or_nothing(tmp_path: Path) -> None:
    source = vidur(tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    (out / "gemm_model_layers.parquet").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        import_tables("vidur", source, out)
    assert [p.name for p in out.iterdir()] == ["gemm_model_layers.parquet"]
    assert (out / "gemm_model_layers.parquet").read_text() == "mine"


def test_what_is_not_such_a_table_ends_with_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = vidur(tmp_path / "two")
    vidur(tmp_path / "two" / "more", device="a100")
    broken = vidur(tmp_path / "broken") / "compute" / "h100" / "acme" / "Toy-7B" / "mlp.csv"
    shapes_only = pd.read_csv(broken)
    shapes_only[[c for c in shapes_only if not c.startswith("time_stats")]].to_csv(broken, index=False)
    lacking = aiconfigurator(tmp_path / "lacking", gemm=[{"m": 8, "n": 64, "latency": 0.1}])
    pointer = aiconfigurator(tmp_path / "pointer", gemm=[{"m": 8}])
    (pointer / "family/vllm/0.24.0/gemm_perf.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    good = {"gemm_dtype": "fp8", "m": 8, "n": 64, "k": 64, "latency": 0.1}
    aiconfigurator(tmp_path / "mixed", gemm=[good])
    other = aiconfigurator(tmp_path / "mixed", "a100_sxm", gemm=[good | {"device": "NVIDIA A100-SXM4-80GB"}]).parent
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "gem.csv").write_text("a,b\n1,2\n")
    for arguments, message in (
        (["vidr", str(two)], "did you mean 'vidur'"),
        (["vidur", str(two)], "several devices (a100, h100)"),
        (["vidur", str(two), "--device", "h10"], "did you mean 'h100'"),
        (["vidur", str(broken)], "no time in it"),
        (["vidur", str(empty)], "no Vidur table"),
        (["aiconfigurator", str(lacking)], "gemm_perf.parquet: column k, gemm_dtype is missing"),
        (["aiconfigurator", str(pointer)], "Git LFS pointer"),
        (["aiconfigurator", str(other)], "several devices"),
        (["aiconfigurator", str(other), "--device", "a100_sx"], "did you mean 'a100_sxm'"),
        (["aiconfigurator", str(other / "a100_sxm"), "--device", "h100_sxm"], "no folder or device 'h100_sxm'"),
        (["aiconfigurator", str(other), "--device", "../x"], "neither the name of a system nor of a device"),
        (["aiconfigurator", str(empty)], "no aiconfigurator table"),
        (["aiconfigurator", str(tmp_path / "absent" / "x")], "no such directory"),
        (["tables", str(tmp_path / "odd")], "did you mean 'gemm'"),
        (["tables", str(empty)], "no .parquet or .csv"),
    ):
        out = tmp_path / "out"
        assert main(["calibrate", "import", *arguments, "--out", str(out)]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, (arguments, error)
        assert not out.exists()


def test_the_command_prints_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "import", "vidur", str(vidur(tmp_path / "data")), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "gemm_model_layers" in text and "left out 1 rows" in text
    assert main(["calibrate", "import", "vidur", str(tmp_path / "data"), "--out", str(tmp_path / "again"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "gemm_model_layers" in {row["table"] for row in told["tables"]} and sum(told["left_out"].values()) == 1
