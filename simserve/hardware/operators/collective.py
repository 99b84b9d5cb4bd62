"""Communication between devices: all-reduce and its relatives, all-to-all, point-to-point copies.

`message_bytes` is the buffer of one rank. Estimates: ring algorithms move 2 (g - 1) / g of the buffer over each rank's link for
all-reduce and (g - 1) / g for the others (Thakur et al., "Optimization of Collective Communication Operations in MPICH", 2005).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simserve.hardware.device import Device, Link
from simserve.hardware.operators.base import F64, Columns, Context, Operator

_LINK_FRACTION = 0.75
"""Fraction of a link's one-way bandwidth that NCCL reaches on large messages (H100, 8 GPUs, 512 MiB: 445 of 450 GB/s bus at best)."""

_HOP_S = 2.5e-6
TOPOLOGY: dict[str, float | None] = {"message_bytes": None, "num_gpus": None, "num_nodes": 1.0, "gpus_per_node_used": 0.0}


def link_of(device: Device, nodes: float) -> Link:
    """The slowest link a group spans: the network between nodes, the scale-up fabric inside one, PCIe where there is none."""
    if nodes > 1:
        return device.network or device.host
    return device.scale_up or device.host


def _moved(c: Columns, factor: float) -> F64:
    gpus = np.maximum(c["num_gpus"], 2.0)
    return factor * c["message_bytes"] * (gpus - 1.0) / gpus


def _seconds(ctx: Context, c: Columns, moved: F64, fraction: float, hops: F64, rails: bool = False) -> F64:
    """`rails`: rings leave a node through the NICs of all its devices at once, up to what the devices pass on inside the node."""
    out = np.empty(len(moved))
    for nodes in np.unique(c["num_nodes"]):
        rows = c["num_nodes"] == nodes
        link = link_of(ctx.device, float(nodes))
        bandwidth = link.reached_by(c["num_gpus"][rows] / nodes)
        if rails and nodes > 1:
            inside = link_of(ctx.device, 1.0).bytes_per_s
            bandwidth = np.minimum(max(inside, link.bytes_per_s), bandwidth * np.maximum(c["num_gpus"][rows] / nodes, 1.0))
        out[rows] = moved[rows] / (fraction * bandwidth) + hops[rows] * link.latency_s
    return out


def _operator(name: str, factor: float, rails: bool = True) -> Operator:
    def bound(ctx: Context, c: Columns) -> F64:
        # In-switch reduction (NVLink SHARP) halves what a rank sends, so the bound counts the buffer once.
        return _seconds(ctx, c, _moved(c, min(factor, 1.0)), 1.0, np.zeros(len(c["num_gpus"])), rails)

    def estimate(ctx: Context, c: Columns) -> F64:
        hops = 2.0 + np.log2(np.maximum(c["num_gpus"], 2.0))
        return _seconds(ctx, c, _moved(c, factor), _LINK_FRACTION, hops, rails) + _HOP_S

    def ideal(ctx: Context, c: Columns) -> tuple[F64, F64]:
        hops = np.zeros(len(c["num_gpus"]))
        return hops, _seconds(ctx, c, _moved(c, factor), 1.0, hops, rails)

    return Operator(name, dict(TOPOLOGY), ("num_gpus", "num_nodes", "gpus_per_node_used"), bound, estimate, _no_features, ideal)


def _no_features(_: Context, __: Columns) -> dict[str, F64]:
    return {}


def _p2p() -> Operator:
    def moved(c: Columns) -> F64:
        return c["message_bytes"]

    def bound(ctx: Context, c: Columns) -> F64:
        return _seconds(ctx, c, moved(c), 1.0, np.zeros(len(c["num_gpus"])))

    def estimate(ctx: Context, c: Columns) -> F64:
        return _seconds(ctx, c, moved(c), _LINK_FRACTION, np.ones(len(c["num_gpus"]))) + _HOP_S

    def ideal(ctx: Context, c: Columns) -> tuple[F64, F64]:
        hops = np.zeros(len(c["num_gpus"]))
        return hops, _seconds(ctx, c, moved(c), 1.0, hops)

    columns: dict[str, float | None] = TOPOLOGY | {"num_gpus": 2.0}
    return Operator("p2p", columns, ("num_nodes", "gpus_per_node_used"), bound, estimate, _no_features, ideal)


ALL_REDUCE = _operator("all_reduce", 2.0)
ALL_GATHER = _operator("all_gather", 1.0)
REDUCE_SCATTER = _operator("reduce_scatter", 1.0)
ALL_TO_ALL = _operator("all_to_all", 1.0, rails=False)
P2P = _p2p()

Estimate = Callable[[Context, Columns], F64]
