"""The accuracy asked of the kernels beside the check errors that the profiles state: how many fits are within, and which are not."""

from __future__ import annotations

from typing import Any, NamedTuple

PROFILES = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm")


class Target(NamedTuple):
    """Mean absolute error in percent asked on held-out points and on whole held-out shapes (None: not asked)."""

    name: str
    operators: tuple[str, ...]
    dtypes: tuple[str, ...] | None
    points: float
    shapes: float | None


TARGETS = (
    Target("GEMM bf16, fp16, fp8, fp8 block", ("gemm",), ("bf16", "fp16", "fp8", "fp8_block128"), 5, 6),
    Target("GEMM NVFP4", ("gemm",), ("w4a4_nvfp4",), 5, 6),
    Target("GEMM int8, W4A16", ("gemm",), ("w8a8_int8_smoothquant", "w8a16_int8", "w4a16_int4"), 7, 8),
    Target("prefill attention", ("attention_prefill",), None, 4, 5),
    Target("decode attention", ("attention_decode",), None, 4, 5),
    Target("MLA", ("mla",), None, 7, 9),
    Target("MoE fused", ("moe",), None, 6, 18),
    Target("all-reduce, all-to-all, gather, scatter", ("all_reduce", "all_to_all", "all_gather", "reduce_scatter"), None, 10, None),
    Target("point-to-point, dispatch, combine", ("p2p", "moe_dispatch", "moe_combine"), None, 10, None),
)


def kernel_targets(entries: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table from the `operators` of each profile."""
    rows = [f"| operator | asked | {' | '.join(PROFILES)} |", "|---|---|" + "---|" * len(PROFILES)]
    for target in TARGETS:
        asked = f"{target.points:g}" + (f" / {target.shapes:g}" if target.shapes else "")
        rows.append(f"| {target.name} | {asked} | {' | '.join(_cell(target, entries[p]) for p in PROFILES)} |")
    return "\n".join(rows) + "\n"


def _cell(target: Target, entries: list[dict[str, Any]]) -> str:
    judged = [e for e in entries if e["operator"] in target.operators and (target.dtypes is None or e["dtype"] in target.dtypes)]
    judged = [e for e in judged if e["check"]["points"]]
    if not judged:
        return ""
    missed = [e for e in judged if not _within(target, e)]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} fits", *sorted(_miss(target, e) for e in missed)]
    return "<br>".join(lines)


def _within(target: Target, entry: dict[str, Any]) -> bool:
    points, shapes = entry["check"]["points"], entry["check"]["shapes"]
    return points["mape_percent"] <= target.points and not (target.shapes and shapes and shapes["mape_percent"] > target.shapes)


def _miss(target: Target, entry: dict[str, Any]) -> str:
    points, shapes = entry["check"]["points"], entry["check"]["shapes"]
    errors = f"{points['mape_percent']:.1f}" + (f" / {shapes['mape_percent']:.1f}" if target.shapes and shapes else "")
    kv = f" kv {entry['kv_dtype']}" if entry["kv_dtype"] not in ("", entry["dtype"]) else ""
    operator = f"{entry['operator']} " if len(target.operators) > 1 else ""
    return f"{operator}{entry['dtype']}{kv} {entry['backend']} {entry['kernel']}".strip() + f": {errors}"
