"""What a serving engine's command line says, in simserve's words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_ENGINES = (("trtllm-serve", "TensorRT-LLM"), ("sglang", "SGLang"), ("mindie", "MindIE"), ("vllm", "vLLM"))

_SETTINGS = {
    "max-num-seqs": ("max_seqs", int),
    "max-running-requests": ("max_seqs", int),
    "max-batch-size": ("max_seqs", int),
    "max-num-batched-tokens": ("max_num_batched_tokens", int),
    "max-num-tokens": ("max_num_batched_tokens", int),
    "chunked-prefill-size": ("max_num_batched_tokens", int),
    "gpu-memory-utilization": ("memory_utilisation", float),
    "mem-fraction-static": ("memory_utilisation", float),
    "max-model-len": ("max_model_len", int),
    "max-seq-len": ("max_model_len", int),
    "block-size": ("block_tokens", int),
}

_FORGETS = {"no-enable-prefix-caching", "disable-radix-cache"}
_NOT_SIMULATED = {"cpu-offload-gb": "CPU offloading"}
_CACHE_BITS = {"": None, "auto": None, "bfloat16": None, "fp8": 8.0, "fp8_e4m3": 8.0, "fp8_e5m2": 8.0}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Engine, model, layout and settings of a serve command; `unsupported` names a flag that changes what cannot be simulated."""

    engine: str
    model: str
    tp: int
    pp: int
    dp: int
    ep: int
    quantisation: str
    settings: dict[str, Any] = field(default_factory=dict)
    unsupported: str = ""


def read_command(command: str) -> CommandLine:
    """Reads `vllm serve ...`, `python -m sglang.launch_server ...`, `trtllm-serve ...`, `mindie serve ...`."""
    engine = next((name for word, name in _ENGINES if word in command.lower()), "")
    flags = {name.replace("_", "-"): value for name, value in re.findall(r"--?([A-Za-z][\w\-]*)(?:[ =]([^\s\-][^\s]*))?", command)}
    model = flags.get("model-path") or flags.get("model") or _positional(command)
    if not engine and command.startswith("backend parameters"):  # a page that lists flags only: sglang and vllm spell tp differently
        engine = "SGLang" if "tp-size" in flags else "vLLM" if "tensor-parallel-size" in flags else ""
    tp = _int(flags, "tensor-parallel-size", "tp-size", "tp")
    dp = _int(flags, "data-parallel-size", "dp-size", "dp")
    ep = _int(flags, "ep-size", "ep")
    if "enable-dp-attention" in flags and engine == "SGLang":  # dp of tp ranks each run attention for their own requests
        tp = max(1, tp // dp)
    if "enable-expert-parallel" in flags:
        ep = tp * dp
    settings = {ours: kind(flags[flag]) for flag, (ours, kind) in _SETTINGS.items() if re.fullmatch(r"[\d.]+", flags.get(flag, ""))}
    if "enforce-eager" in flags:
        settings["cuda_graphs"] = False
    if _FORGETS & flags.keys():
        settings["prefix_caching"] = False
    cache = flags.get("kv-cache-dtype", "")
    if _CACHE_BITS.get(cache):
        settings["kv_bits"] = _CACHE_BITS[cache]
    word = model.lower()
    quantisation = next((mode for mode in ("awq", "fp8", "w8a8", "int8") if mode in word), "")
    unsupported = next((f"{what} ({flag}) is not simulated" for flag, what in _NOT_SIMULATED.items() if flag in flags), "")
    if cache not in _CACHE_BITS:
        unsupported = f"a KV cache of type {cache} (kv-cache-dtype) is not simulated"
    return CommandLine(
        engine, model, tp, _int(flags, "pipeline-parallel-size", "pp-size", "pp"), dp, ep, quantisation, settings, unsupported
    )


def _int(flags: dict[str, str], *names: str) -> int:
    return next((int(flags[name]) for name in names if flags.get(name, "").isdigit()), 1)


def _positional(command: str) -> str:
    found = re.search(r"(?:serve|trtllm-serve)\s+([^\s\-][^\s]*)", command)
    return found[1].removeprefix("/workspace/") if found else ""
