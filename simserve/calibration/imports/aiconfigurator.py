"""Reads the tables of NVIDIA's aiconfigurator (github.com/ai-dynamo/aiconfigurator, Apache-2.0; `pip install aiconfigurator-core`).

One table `<operation>_perf.parquet` (or .csv, .txt in older versions) per operation, engine and version, in
`systems/data/<system>/<family>/<engine>/<version>/`; engine and version are columns too. Times are milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.calibration.imports.table_set import TableSet, read_frame, require
from simserve.errors import ConfigError, nearest
from simserve.files.words import clipped

if TYPE_CHECKING:
    import pandas as pd

_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8_block": "fp8_block128",
    "int8_wo": "w8a16_int8",
    "int4_wo": "w4a16_int4",
    "sq": "w8a8_int8_smoothquant",
    "nvfp4": "w4a4_nvfp4",
    "w4a8_mxfp4_mxfp8": "w4a8_mxfp4",
}
"""Names of types that differ from ours; others are taken as they are."""

_COLLECTIVES = {"alltoall": "all_to_all"}
_ELEMENT_BYTES = {"bf16": 2, "fp16": 2, "int8": 1, "fp8": 1, "fp32": 4, "float": 4}
_NODE_GPUS, _TRAY_GPUS = 8, 4
"""DeepEP's tables count nodes: servers of 8 GPUs, but trays of 4 for GB200 and GB300 (systems/*.yaml, num_gpus_per_node)."""


def read(path: Path, device: str | None) -> TableSet:
    """Every table of one system below `path`: a system's folder, or any folder above it together with `device`, or the name of a system
    of the installed aiconfigurator-core. `device` may also be the device that rows name ("NVIDIA H200").

    A system's folder can hold a table that was measured elsewhere (h200_sxm has DeepEP rows of an H100): rows of a device that the
    system is not named after are left out and counted. Raises ConfigError: nothing there, several systems, a table that is not one.
    """
    root, wanted = _root(path, device)
    files = sorted(f for f in root.rglob("*_perf.*") if f.suffix in (".parquet", ".csv", ".txt"))
    if not files:
        raise ConfigError(f"{root}: no aiconfigurator table (*_perf.parquet, .csv or .txt) in or below it")
    made = TableSet()
    devices: dict[str, Path] = {}
    for file in files:
        operation = file.stem.removesuffix("_perf")
        if operation not in _READERS:
            made.skipped[f"no operator model for aiconfigurator table '{operation}'"] += len(read_frame(file))
            continue
        frame = read_frame(file)
        needs, convert = _READERS[operation]
        # The oldest tables name engine and version in their path only.
        missing = {"framework": file.parts[-3], "version": file.parts[-2]} if len(file.parts) > 3 else {}
        frame = frame.assign(**{c: v for c, v in missing.items() if c not in frame})
        require(file, frame, (*needs, "framework", "version"))
        frame = _of_device(frame, wanted, made)
        if "device" in frame:
            devices.update(dict.fromkeys(frame["device"].astype(str).unique(), file))
        if frame.empty:
            continue
        source = f"ai-dynamo/aiconfigurator{_release()}:{file.relative_to(root.parent)}"
        for stem, rows in convert(frame):
            made.add(stem, rows.assign(source=source))
    models = {_model_name(d): d for d in devices}
    if len(models) > 1:
        one, other = list(models.values())[:2]
        raise ConfigError(
            f"{path} holds several devices ({one} in {devices[one]}, {other} in {devices[other]}); give the folder of one system,"
            f" or --device with its name or a device's: {', '.join(sorted(models.values()))}"
        )
    return made


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _of_device(frame: pd.DataFrame, wanted: str, made: TableSet) -> pd.DataFrame:
    """The rows of the device that a system is named after: `h200_sxm` holds rows of "NVIDIA H200". Others are counted.

    A name that no row's device bears decides nothing, nor does a table that names no device.
    """
    if "device" not in frame or not wanted:
        return frame
    named = frame["device"].astype(str)
    own = named.map({device: _words(wanted)[0] in _words(device) for device in named.unique()})
    for device, rows in named[~own].value_counts().items():
        made.skipped[f"measured on {device}, not on {wanted}"] += int(rows)
    return frame[own]


def _model_name(device: str) -> str:
    """`NVIDIA H100 80GB HBM3` and `NVIDIA H100` are the same system measured at two times."""
    return " ".join(device.replace("-", " ").split()[:2]).lower()


def _root(path: Path, device: str | None) -> tuple[Path, str]:
    """The folder to read, and the name that the devices of its rows must bear ('' = any one)."""
    if path.is_dir():
        own = path.resolve().name
        if device is None:
            return path, own if own in _systems(path) else ""
        if not device or any(part in device for part in "/\\*?["):
            raise ConfigError(f"--device '{clipped(device)}' is neither the name of a system nor of a device")
        if device == own:
            return path, own
        found = sorted(p for p in path.rglob(device) if p.is_dir())
        if found:
            return found[0], device
        devices = _devices(path)
        if any(_words(device)[-1:] == [word] for known in devices for word in _words(known)):
            return path, _words(device)[-1]
        raise ConfigError(f"{path}: no folder or device '{device}' in it{nearest(device, _systems(path) | devices)}")
    if path.exists():
        raise ConfigError(f"{path} is a file; give the folder of an aiconfigurator system")
    installed = _installed()
    if installed is None or len(path.parts) != 1:
        hint = "" if installed else " and aiconfigurator-core is not installed (pip install aiconfigurator-core)"
        raise ConfigError(f"{path}: no such directory{hint}")
    systems = {p.name for p in installed.iterdir() if p.is_dir()}
    if path.name not in systems:
        raise ConfigError(f"aiconfigurator-core has no system '{path}'{nearest(path.name, systems)}")
    if device is not None and device != path.name:
        raise ConfigError(f"--device {clipped(device)}: '{path}' is already the name of one system")
    return installed / path.name, path.name


def _systems(path: Path) -> set[str]:
    """The names of the systems whose tables lie in or below a folder: <system>/<family>/<engine>/<version>/<operation>_perf.*."""
    return {p.parents[3].name for p in path.resolve().rglob("*_perf.*") if len(p.parents) > 3}


def _devices(path: Path) -> set[str]:
    """The devices that the tables below a folder name."""
    found: set[str] = set()
    for file in path.rglob("*_perf.*"):
        frame = read_frame(file)
        if "device" in frame:
            found.update(frame["device"].astype(str).unique())
    return found


def _installed() -> Path | None:
    """The data folder of the installed package, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("aiconfigurator_core")
    places = list(spec.submodule_search_locations or []) if spec else []
    data = Path(places[0]) / "systems" / "data" if places else None
    return data if data is not None and data.is_dir() else None


def _release() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"@{version('aiconfigurator-core')}"
    except PackageNotFoundError:
        return ""


Rows = list[tuple[str, "pd.DataFrame"]]


def _engine(frame: pd.DataFrame) -> pd.Series:
    return frame["framework"].astype(str).str.lower() + " " + frame["version"].astype(str)


def _types(values: pd.Series) -> pd.Series:
    return values.astype(str).replace(_DTYPES)


def _timed(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The columns that keep their meaning under our names, engine and kernel, and the time in microseconds."""
    out = frame[list(names)].rename(columns=names)
    return out.assign(latency_us=frame["latency"] * 1e3, backend=_engine(frame), kernel=frame["kernel_source"].astype(str))


def _gemm(frame: pd.DataFrame) -> Rows:
    return [("gemm", _timed(frame, {"m": "m", "n": "n", "k": "k"}).assign(dtype=_types(frame["gemm_dtype"])))]


_HEADS = {"batch_size": "batch", "num_heads": "num_q_heads", "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim"}


def _attention(frame: pd.DataFrame) -> pd.DataFrame:
    heads = _timed(frame, _HEADS)
    # Older tables write 0 KV heads for as many as query heads.
    heads["num_kv_heads"] = heads["num_kv_heads"].where(heads["num_kv_heads"] > 0, heads["num_q_heads"])
    heads["window_tokens"] = frame.get("window_size", 0)
    return heads.assign(dtype=_types(frame["attn_dtype"]), kv_dtype=_types(frame["kv_cache_dtype"]))


def _context_attention(frame: pd.DataFrame) -> Rows:
    return [("attention_prefill", _attention(frame).assign(new_tokens=frame["isl"], prefix_tokens=frame["step"]))]


def _generation_attention(frame: pd.DataFrame) -> Rows:
    return [("attention_decode", _attention(frame).assign(kv_tokens=frame["isl"] + frame["step"]))]


def _mla(phase: str, scope: str) -> Callable[[pd.DataFrame], Rows]:
    def convert(frame: pd.DataFrame) -> Rows:
        out = _timed(frame, {"batch_size": "batch", "num_heads": "num_heads"})
        new = frame["isl"] if phase == "prefill" else 1
        gemm = _types(frame["gemm_type"]) if scope == "module" else "none"
        out = out.assign(phase=phase, scope=scope, new_tokens=new, kv_tokens=frame["isl"] + frame["step"], kv_lora_rank=512, qk_rope_dim=64)
        return [("mla", out.assign(dtype=_types(frame["mla_dtype"]), kv_dtype=_types(frame["kv_cache_dtype"]), gemm_dtype=gemm))]

    return convert


_SIZES = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts")


def _moe(frame: pd.DataFrame) -> Rows:
    names = {c: c for c in _SIZES} | {"moe_tp_size": "tensor_parallel", "moe_ep_size": "expert_parallel", "distribution": "distribution"}
    return [("moe", _timed(frame, names).assign(dtype=_types(frame["moe_dtype"])))]


def _message(frame: pd.DataFrame, dtype: pd.Series) -> pd.DataFrame:
    """Their sizes are elements; ours are bytes. A type whose width is not known gets none and is skipped by the reader."""
    out = frame[["num_gpus"]].assign(num_nodes=1, dtype=dtype, latency_us=frame["latency"] * 1e3)
    return out.assign(message_bytes=frame["message_size"] * dtype.map(_ELEMENT_BYTES), library=frame["kernel_source"].astype(str))


def _nccl(frame: pd.DataFrame) -> Rows:
    out = _message(frame, _types(frame["nccl_dtype"]))
    backend = "nccl-tests, NCCL " + frame["version"].astype(str)
    out = out.assign(collective=frame["op_name"].astype(str).replace(_COLLECTIVES), backend=backend)
    place = {"all_reduce": "all_reduce", "all_to_all": "all_to_all"}
    return [(str(stem), rows) for stem, rows in out.groupby(out["collective"].map(place).fillna("all_gather_reduce_scatter"))]


def _all_reduce(frame: pd.DataFrame) -> Rows:
    out = _message(frame, _types(frame["allreduce_dtype"]))
    return [("all_reduce", out.assign(collective="all_reduce", backend=_engine(frame)))]


def _deepep(mode: str, dispatch: tuple[str, ...], combine: tuple[str, ...], dtype: str) -> Callable[[pd.DataFrame], Rows]:
    def convert(frame: pd.DataFrame) -> Rows:
        import pandas as pd

        sizes = {"hidden_size": "hidden_size", "num_topk": "topk", "num_experts": "num_experts", "node_num": "num_nodes"}
        out = frame[list(sizes)].rename(columns=sizes).assign(mode=mode, num_tokens_per_gpu=frame["num_token"])
        trays = frame["device"].astype(str).str.contains("GB") if "device" in frame else False
        of_node = pd.Series(trays, index=frame.index).map({True: _TRAY_GPUS, False: _NODE_GPUS})
        out = out.assign(num_gpus=of_node * frame["node_num"], dispatch_dtype=dtype, combine_dtype="bf16")
        out = out.assign(dispatch_us=frame[list(dispatch)].sum(axis=1), combine_us=frame[list(combine)].sum(axis=1))
        for column in ("dispatch_sms", "combine_sms"):
            out[column] = frame[column] if column in frame else float("nan")
        return [("moe_dispatch_combine", out.assign(backend="DeepEP, " + _engine(frame)))]

    return convert


def _nvlink_exchange(frame: pd.DataFrame) -> Rows:
    """TensorRT-LLM's exchange over one NVLink fabric, up to a rack: prepare and dispatch before the experts, combine after them. Its
    one-sided kernels and those that combine in low precision were timed with NVFP4 alone and are left out."""
    frame = frame[frame["kernel_source"] == "NVLinkTwoSided"].assign(dispatch_dtype=_types(frame["moe_dtype"]))
    sizes = {"num_tokens": "num_tokens_per_gpu", "hidden_size": "hidden_size", "topk": "topk", "num_experts": "num_experts"}
    keys = [*sizes, "moe_ep_size", "dispatch_dtype", "framework", "version"]
    timed = frame.assign(us=frame["latency"] * 1e3)
    times = timed.pivot_table(index=keys, columns="op_name", values="us", aggfunc="median").reset_index()
    out = times[list(sizes)].rename(columns=sizes).assign(num_gpus=times["moe_ep_size"], num_nodes=1, mode="nvlink", combine_dtype="bf16")
    before = times["alltoall_prepare"] + times["alltoall_dispatch"]
    out = out.assign(dispatch_dtype=times["dispatch_dtype"], dispatch_us=before, combine_us=times["alltoall_combine"])
    return [("moe_dispatch_combine", out.assign(backend=_engine(times)))]


_TIMED = ("latency", "kernel_source")
_ATTENTION = (*_HEADS, "isl", "step", "attn_dtype", "kv_cache_dtype", *_TIMED)
_LATENT = ("batch_size", "num_heads", "isl", "step", "mla_dtype", "kv_cache_dtype", *_TIMED)
_EXCHANGE = ("node_num", "hidden_size", "num_token", "num_topk", "num_experts")
_FABRIC = ("op_name", "moe_dtype", "num_tokens", "hidden_size", "topk", "num_experts", "moe_ep_size")
_LOW_LATENCY = ("dispatch_avg_t_us",), ("combine_avg_t_us",)
_NORMAL = ("dispatch_transmit_us", "dispatch_notify_us"), ("combine_transmit_us", "combine_notify_us")

_READERS: dict[str, tuple[tuple[str, ...], Callable[[pd.DataFrame], Rows]]] = {
    "gemm": (("m", "n", "k", "gemm_dtype", *_TIMED), _gemm),
    "context_attention": (_ATTENTION, _context_attention),
    "generation_attention": (_ATTENTION, _generation_attention),
    "context_mla": (_LATENT, _mla("prefill", "kernel")),
    "generation_mla": (_LATENT, _mla("decode", "kernel")),
    "mla_context_module": ((*_LATENT, "gemm_type"), _mla("prefill", "module")),
    "mla_generation_module": ((*_LATENT, "gemm_type"), _mla("decode", "module")),
    "moe": ((*_SIZES, "moe_tp_size", "moe_ep_size", "distribution", "moe_dtype", *_TIMED), _moe),
    "nccl": (("op_name", "num_gpus", "message_size", "nccl_dtype", *_TIMED), _nccl),
    "custom_allreduce": (("num_gpus", "message_size", "allreduce_dtype", *_TIMED), _all_reduce),
    "trtllm_alltoall": ((*_FABRIC, *_TIMED), _nvlink_exchange),
    "wideep_deepep_ll": ((*_EXCHANGE, *_LOW_LATENCY[0], *_LOW_LATENCY[1]), _deepep("low_latency", *_LOW_LATENCY, "fp8")),
    "wideep_deepep_normal": ((*_EXCHANGE, *_NORMAL[0], *_NORMAL[1]), _deepep("normal", *_NORMAL, "bf16")),
}
"""Operation -> the columns it must have, and how its rows become ours."""
