"""Keys that have been renamed, of experiments and of results: the old name goes on working, and what uses it says so.

An experiment with an old key runs as it did, and the run warns with both names (`simserve.config.renamed_keys`). Summaries and tables of
earlier versions are read under the new names. `benchmarks/renamed_keys.json` is the same map for `benchmarks/oracle.py`, which compares
results across a renaming.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EXPERIMENT_KEYS: dict[str, str] = {
    "cluster.network.hand_over": "kv_transfer",
    "model.options.a8_share": "a8_fraction",
    "model.options.attention_scalar_share": "attention_scalar_fraction",
    "model.options.prefill_layer_share": "prefill_layer_fraction",
    "model.options.streaming_head_share": "streaming_head_fraction",
    "workload.slo_classes.*.share": "fraction",
}
"""Old dotted path (* = any place of a list) -> new name of its last part."""

SUMMARY_KEYS: dict[str, str] = {
    "cluster.handed_over_tokens": "transferred_tokens",
    "counters.handed_over_tokens": "transferred_tokens",
    **{f"experiment.{old}": new for old, new in EXPERIMENT_KEYS.items()},
}
"""The same of summary.json."""

COLUMNS: dict[str, str] = {"completed_share": "completed_fraction"}
"""Old column of a table of runs (sweep.parquet, probes.parquet) -> new one."""

Found = Callable[[tuple[str | int, ...], str], None]


def path(dotted: str) -> tuple[str, str]:
    """(the dotted path of an experiment by its present name, the new name of its last part or "" when it is not an old one)."""
    parts = dotted.split(".")
    for old, new in EXPERIMENT_KEYS.items():
        wanted = old.split(".")
        if len(wanted) == len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=True)):
            return ".".join([*parts[:-1], new]), new
    return dotted, ""


def apply(tree: Any, keys: Mapping[str, str], found: Found | None = None) -> Any:
    """A tree of plain values with old keys under their new names, in their places; the tree itself when it has none. `found` is told the
    path and the new name of each. Where both names are given nothing is renamed: the old one is then an unknown key."""
    for old, new in keys.items():
        tree = _renamed(tree, old.split("."), new, (), found)
    return tree


def _renamed(node: Any, parts: list[str], new: str, at: tuple[str | int, ...], found: Found | None) -> Any:
    first, rest = parts[0], parts[1:]
    if first == "*":
        if not isinstance(node, list):
            return node
        items = [_renamed(item, rest, new, (*at, index), found) for index, item in enumerate(node)]
        return items if any(a is not b for a, b in zip(items, node, strict=True)) else node
    if not isinstance(node, Mapping) or first not in node:
        return node
    if rest:
        child = _renamed(node[first], rest, new, (*at, first), found)
        return node if child is node[first] else {**node, first: child}
    if new in node:
        return node
    if found is not None:
        found((*at, first), new)
    return {new if key == first else key: value for key, value in node.items()}
