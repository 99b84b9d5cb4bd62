"""facts.yaml: a draft of the device's facts from what was measured, for `simserve calibrate fit --facts` on a device without a profile.

Published figures are better where there are any: a roof made of the best rate seen is a little below the real one, so it is raised by
`_MARGIN`. Written by hand as text, because a bare machine has no YAML library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simserve.calibration.measure.journal import OK

FILE = "facts.yaml"
_MARGIN = 1.05
_COMPUTE = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "fp8": "fp8", "w8a8_int8": "int8"}


def write_facts(folder: Path, records: Iterable[dict[str, Any]], environment: dict[str, Any]) -> bool:
    """Write `folder`/facts.yaml; False (nothing written) when GEMMs in bf16, streams, launches or host copies were not all measured."""
    done = [r for r in records if r["status"] == OK]
    peaks = _peaks(done)
    stream = _stream_rate(done, environment["l2_bytes"])
    chains = [r for r in done if r["operator"] == "launch_overhead" and r["inputs"]["kernel_class"] == "nop"]
    copies = [r for r in done if r["operator"] == "host_copy"]
    if "bf16" not in peaks or not stream or not chains or not copies:
        return False
    eager_s = min(_period(r) for r in chains if r["inputs"]["mode"] == "eager")
    inside_s = min((_period(r) for r in chains if r["inputs"]["mode"] == "graph"), default=eager_s)
    power = environment["driver"].get("power.limit", "").split()
    device: dict[str, Any] = {
        "vendor": {"cuda": "NVIDIA", "npu": "Huawei"}.get(environment["kind"], "host"),
        "architecture": environment["device"],
        "peak_flops_per_s": {name: _MARGIN * rate for name, rate in sorted(peaks.items())},
        "hbm_bytes": environment["memory_bytes"],
        "hbm_bytes_per_s": _MARGIN * stream,
        "l2_bytes": environment["l2_bytes"],
        "sms": environment["sms"],
        "launch_s": inside_s,
        "eager_launch_s": eager_s,
        "host": {"bytes_per_s": _MARGIN * _fastest(done, "host_copy"), "latency_s": min(r["seconds"] for r in copies)},
        "idle_w": 1.0,
        "tdp_w": float(power[0]) if power and power[0].replace(".", "", 1).isdigit() else 1.0,
    }
    points = [r for r in done if r["operator"] == "p2p"]
    if points:
        rate = max(r["inputs"]["message_bytes"] / r["seconds"] for r in points)
        device["scale_up"] = {"bytes_per_s": _MARGIN * rate, "latency_s": min(r["seconds"] for r in points)}
    document = {
        "schema_version": 1,
        "name": "measured",
        "description": f"{environment['device']}, facts measured by simserve calibrate measure",
        "sources": [f"simserve {environment['simserve']} calibrate measure, torch {environment['torch']}"],
        "notes": ["Peaks and bandwidths are the best rates measured plus 5 %, not published figures. Idle power is not known."],
        "device": device,
    }
    partial = folder / f".{FILE}.partial"
    partial.write_text(_yaml(document), encoding="utf-8")
    os.replace(partial, folder / FILE)
    return True


def _peaks(done: list[dict[str, Any]]) -> dict[str, float]:
    peaks: dict[str, float] = {}
    for r in done:
        if r["operator"] == "gemm":
            i = r["inputs"]
            name = _COMPUTE[i["dtype"]]
            peaks[name] = max(peaks.get(name, 0.0), 2.0 * i["m"] * i["n"] * i["k"] / r["seconds"])
    return peaks


def _fastest(done: list[dict[str, Any]], operator: str) -> float:
    return max((r["facts"]["bytes_moved"] / r["seconds"] for r in done if r["operator"] == operator), default=0.0)


def _stream_rate(done: list[dict[str, Any]], l2_bytes: int) -> float:
    """Bytes a second through memory: of buffers well beyond the cache, or of the largest where all were small."""
    streams = [r for r in done if r["operator"] == "hbm_stream"]
    enough = min(4 * l2_bytes, max((r["inputs"]["size_bytes"] for r in streams), default=0))
    return _fastest([r for r in streams if r["inputs"]["size_bytes"] >= enough], "hbm_stream")


def _period(record: dict[str, Any]) -> float:
    return float(record["seconds"] / record["inputs"]["chain_length_kernels"])


def _yaml(value: Any, indent: int = 0) -> str:
    """Mappings and lists as YAML blocks; scalars as JSON, which YAML reads alike."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, dict | list)
            lines.append(f"{pad}{key}:\n{_yaml(item, indent + 1)}" if nested else f"{pad}{key}: {_scalar(item)}\n")
        return "".join(lines)
    return "".join(f"{pad}- {_scalar(item)}\n" for item in value)


def _scalar(value: Any) -> str:
    return f"{value:.6e}" if isinstance(value, float) else json.dumps(value)
