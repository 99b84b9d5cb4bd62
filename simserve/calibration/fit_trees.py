"""Boosted trees on ln(measured / analytic estimate), exported as integers. LightGBM is needed here only, never to run a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.errors import ConfigError
from simserve.hardware.trees import SCALE, Trees

_LEAF_BIN = 1 << 30
MAX_DEPTH = 8


def fit_trees(
    features: dict[str, NDArray[np.float64]], target: NDArray[np.float64], *, rounds: int, leaves: int, learning_rate: float
) -> Trees:
    """Fit `target` (natural log) on named feature columns. Deterministic. Raises ConfigError when LightGBM is not installed."""
    try:
        import lightgbm as lgb
    except ImportError:
        raise ConfigError("fitting needs LightGBM: install simserve with the 'calibrate' extra") from None
    names = tuple(sorted(features))
    matrix = np.column_stack([features[n] for n in names])
    parameters = {
        "objective": "huber",
        "alpha": 0.1,  # beyond 10 % an error counts linearly: kernel-selection jumps and noisy runs should not bend their neighbours
        "learning_rate": learning_rate,
        "num_leaves": leaves,
        "max_depth": MAX_DEPTH,
        "min_data_in_leaf": max(3, min(6, len(target) // 400)),
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 255,
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    booster = lgb.train(parameters, lgb.Dataset(matrix, target), rounds)
    return _export([t["tree_structure"] for t in booster.dump_model()["tree_info"]], names)


def _export(structures: list[dict[str, Any]], names: tuple[str, ...]) -> Trees:
    thresholds: list[set[float]] = [set() for _ in names]
    for structure in structures:
        stack = [structure]
        while stack:
            node = stack.pop()
            if "split_feature" in node:
                thresholds[node["split_feature"]].add(float(f"{node['threshold']:.9g}"))
                stack += [node["left_child"], node["right_child"]]
    used = [i for i, t in enumerate(thresholds) if t]
    edges = {i: np.array(sorted(thresholds[i])) for i in used}
    column = {i: place for place, i in enumerate(used)}
    feature: list[int] = []
    bins: list[int] = []
    left: list[int] = []
    value: list[int] = []
    roots: list[int] = []
    deepest = 0
    for structure in structures:
        roots.append(len(feature))
        level = [structure]
        depth = 0
        start = len(feature)
        while level:  # breadth first, children side by side: left[i] + 1 is the right child
            following: list[dict[str, Any]] = []
            for offset, node in enumerate(level):
                here = start + offset
                if "split_feature" in node:
                    i = node["split_feature"]
                    feature.append(column[i])
                    bins.append(int(np.searchsorted(edges[i], float(f"{node['threshold']:.9g}"))))
                    left.append(start + len(level) + len(following))
                    value.append(0)
                    following += [node["left_child"], node["right_child"]]
                else:
                    feature.append(-1)
                    bins.append(_LEAF_BIN)
                    left.append(here)
                    value.append(round(node["leaf_value"] / SCALE))
            start += len(level)
            level = following
            depth += bool(level)
        deepest = max(deepest, depth)
    nodes = [np.array(a, dtype=np.int32) for a in (feature, bins, left, value, roots)]
    return Trees(tuple(names[i] for i in used), tuple(edges[i] for i in used), nodes[0], nodes[1], nodes[2], nodes[3], nodes[4], deepest)
