"""Reads the profiling tables of Vidur (github.com/microsoft/vidur, MIT): CSV files below `data/profiling`, times in milliseconds.

`compute/<device>/<model>/mlp.csv` and `attention.csv` hold a model's layers by token count and tensor-parallel size;
`network/<device>_<topology>/all_reduce.csv` and `send_recv.csv` hold the collectives, one row per rank and size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.calibration.imports.table_set import TableSet, read_frame, require
from simserve.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd

_LAYERS = "vidur/sarathi (vLLM layers)"
_MATRICES = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
_ELEMENTWISE = ("emb", "input_layernorm", "post_attention_layernorm", "attn_rope", "mlp_act", "add")
_MODEL = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "use_gated_mlp", "num_tokens", "num_tensor_parallel_workers")
_ATTENTION = ("n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers", "batch_size", "prefill_chunk_size", "kv_cache_size")
_NETWORK = ("num_workers", "size", "devices_per_node")


def read(path: Path, device: str | None) -> TableSet:
    """Every table of one device at or below `path` (Vidur's repository, a folder in it, or one of its files).

    device  the device's folder name (`a100`), needed when the path holds several
    Raises ConfigError: nothing there, several devices, a file without its columns.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or directory")
    names = ("mlp.csv", "attention.csv", "all_reduce.csv", "send_recv.csv")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*.csv") if f.name in names)
    if not files or files[0].name not in names:
        raise ConfigError(f"{path}: no Vidur table in it (mlp.csv, attention.csv, all_reduce.csv, send_recv.csv)")
    of: dict[Path, str] = {f: _device(f) for f in files}
    if device is not None:
        files = [f for f in files if of[f] == device]
        if not files:
            raise ConfigError(f"{path}: no table of device '{device}'{nearest(device, set(of.values()))}")
    elif len(set(of.values())) > 1:
        raise ConfigError(f"{path} holds tables of several devices ({', '.join(sorted(set(of.values())))}); choose one with --device")
    made = TableSet()
    for file in files:
        frame = read_frame(file)
        source = f"microsoft/vidur:{_place(file)}"
        for stem, rows in _READERS[file.name](file, frame, made):
            made.add(stem, rows.assign(source=source))
    return made


def _place(file: Path) -> str:
    """The path inside the repository, as far as it can be told."""
    parts = file.parts
    start = next((i for i, p in enumerate(parts) if p in ("compute", "network")), max(len(parts) - 3, 0))
    return "/".join(parts[start:])


def _device(file: Path) -> str:
    """`a100` of `compute/a100/...` and of `network/a100_dgx/...`; the parent's first word elsewhere."""
    parts = file.resolve().parts
    for kind in ("compute", "network"):
        if kind in parts[:-2]:
            return parts[parts.index(kind) + 1].split("_")[0]
    return file.resolve().parent.name.split("_")[0]


def _model_name(file: Path) -> str:
    parts = file.resolve().parts
    return "/".join(parts[parts.index("compute") + 2 : -1]) if "compute" in parts else file.resolve().parent.name


Rows = list[tuple[str, "pd.DataFrame"]]
Reader = Callable[[Path, "pd.DataFrame", TableSet], Rows]


def _times(file: Path, frame: pd.DataFrame, operations: tuple[str, ...]) -> list[str]:
    found = [op for op in operations if f"time_stats.{op}.median" in frame]
    if not found:
        # Some published files lost their time columns: they hold only the shapes.
        columns = ", ".join(map(str, frame.columns[:12]))
        raise ConfigError(f"{file}: no time in it (no column time_stats.<operation>.median); found {columns}")
    return found


def _median_us(frame: pd.DataFrame, operation: str) -> pd.Series:
    return frame[f"time_stats.{operation}.median"].astype(float) * 1e3


def _mlp(file: Path, frame: pd.DataFrame, made: TableSet) -> Rows:
    require(file, frame, _MODEL)
    out: Rows = []
    tp, hidden = frame["num_tensor_parallel_workers"], frame["n_embd"]
    head_dim = hidden / frame["n_head"]
    gated = frame["use_gated_mlp"].astype(str).str.lower() == "true"
    shapes = {
        "attn_pre_proj": ((frame["n_head"] + 2 * frame["n_kv_head"]) * head_dim / tp, hidden),
        "attn_post_proj": (hidden, frame["n_head"] * head_dim / tp),
        "mlp_up_proj": (frame["n_expanded_embd"] * (1 + gated) / tp, hidden),
        "mlp_down_proj": (hidden, frame["n_expanded_embd"] / tp),
    }
    names = {"n_embd": "hidden_size", "n_expanded_embd": "mlp_hidden_size", "n_head": "num_heads", "n_kv_head": "num_kv_heads"}
    names |= {"num_tokens": "num_tokens", "num_tensor_parallel_workers": "tensor_parallel"}
    for operation in _times(file, frame, (*_MATRICES, *_ELEMENTWISE)):
        rows = frame[f"time_stats.{operation}.median"].notna()  # a model without this operation leaves its column empty
        if operation in shapes:
            n, k = shapes[operation]
            stem = "gemm_model_layers"
            table = frame[[]].assign(m=frame["num_tokens"], n=n, k=k, kernel="torch linear (cuBLAS)", layer=operation, tensor_parallel=tp)
        else:
            stem = "elementwise_model_layers"
            table = frame[list(names)].rename(columns=names).assign(op=operation)
        timed = table.assign(latency_us=_median_us(frame, operation), dtype="fp16", backend=_LAYERS, model=_model_name(file))
        out.append((stem, timed[rows]))
    return out


def _attention(file: Path, frame: pd.DataFrame, made: TableSet) -> Rows:
    require(file, frame, _ATTENTION)
    found = _times(file, frame, ("attn_prefill", "attn_decode"))
    tp = frame["num_tensor_parallel_workers"]
    backend = frame["attention_backend"].astype(str).str.removeprefix("AttentionBackend.") if "attention_backend" in frame else ""
    common = frame[[]].assign(
        num_q_heads=frame["n_q_head"] / tp,
        num_kv_heads=(frame["n_kv_head"] / tp).clip(lower=1),
        head_dim=frame["n_embd"] / frame["n_q_head"],
        window_tokens=0,
        batch=frame["batch_size"],
        dtype="fp16",
        kv_dtype="fp16",
        backend=_LAYERS,
        kernel=backend,
        model=_model_name(file),
    )
    out: Rows = []
    if "attn_prefill" in found:
        rows = (frame["prefill_chunk_size"] > 0) & frame["time_stats.attn_prefill.median"].notna()
        prefill = common.assign(new_tokens=frame["prefill_chunk_size"], prefix_tokens=frame["kv_cache_size"])
        out.append(("attention_prefill_model_layers", prefill.assign(latency_us=_median_us(frame, "attn_prefill"))[rows]))
    if "attn_decode" in found:
        rows = (frame["prefill_chunk_size"] == 0) & frame["time_stats.attn_decode.median"].notna()
        decode = common.assign(kv_tokens=frame["kv_cache_size"], latency_us=_median_us(frame, "attn_decode"))
        out.append(("attention_decode_model_layers", decode[rows]))
    return out


def _network(stem: str, operation: str, label: str) -> Reader:
    def convert(file: Path, frame: pd.DataFrame, made: TableSet) -> Rows:
        require(file, frame, _NETWORK)
        _times(file, frame, (operation,))
        keys = ["num_workers", "size", "devices_per_node"]
        slowest = frame.assign(latency_us=_median_us(frame, operation)).groupby(keys, as_index=False)["latency_us"].max()
        if len(slowest) < len(frame):
            made.skipped[f"{stem}: other ranks of the same call (the slowest counts)"] += len(frame) - len(slowest)
        rows = slowest.assign(
            collective=stem,
            num_gpus=slowest["num_workers"],
            num_nodes=(slowest["num_workers"] / slowest["devices_per_node"]).clip(lower=1),
            gpus_per_node_used=slowest["devices_per_node"],
            message_bytes=slowest["size"],
            dtype="fp16",
            library=f"{label}, {file.resolve().parent.name}",
            backend="vidur",
        )
        return [(stem, rows.drop(columns=["num_workers", "size", "devices_per_node"]))]

    return convert


_READERS: dict[str, Reader] = {
    "mlp.csv": _mlp,
    "attention.csv": _attention,
    "all_reduce.csv": _network("all_reduce", "all_reduce", "NCCL in CUDA graph"),
    "send_recv.csv": _network("p2p", "send_recv", "NCCL send/recv"),
}
