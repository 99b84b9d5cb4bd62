"""Communication between devices: all-reduce and its relatives, all-to-all, point-to-point copies.

`message_bytes` is the buffer of one rank. Estimates: ring algorithms move 2 (g - 1) / g of the buffer over each rank's link for
all-reduce and (g - 1) / g for the others (Thakur et al., "Optimization of Collective Communication Operations in MPICH", 2005).

Devices without a scale-up fabric form their ring over PCIe. Without peer access (GeForce drivers have none) a hop is a write to host memory
and a read from it. Published nccl-tests, none of them a measurement of ours (docs/cost-models.md, "Collectives over PCIe"), say what such
rings take: 42 us on eight RTX 4090 and 24 us on eight RTX PRO 6000 whatever the few bytes are, 12 us for one hop of two RTX 4090.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simserve.hardware.device import Device, Link
from simserve.hardware.operators.base import F64, Columns, Context, Operator

_LINK_FRACTION = 0.75
"""Fraction of a link's one-way bandwidth that NCCL reaches on large messages (H100, 8 GPUs, 512 MiB: 445 of 450 GB/s bus at best)."""

_HOP_S = 2.5e-6

_PCIE_START_S = 9.5e-6
"""A collective over PCIe before its first hop: the kernels' start and the flags by which they find each other."""

_PCIE_HOP_S = {True: 1.06e-6, False: 2.33e-6}
"""A hop of a ring, by whether devices write into each other's memory."""

_PCIE_FRACTION = {True: 0.6, False: 0.55}
"""Fraction of PCIe's one-way bandwidth that a ring below one socket moves: 18.5 of 32 GB/s (two RTX PRO 6000 in slots of PCIe 4), 40 of 64
(eight of them below switches); 35 of 64 staged in host memory (four RTX 5090)."""

_SOCKET_DEVICES = 4
_SOCKETS_FRACTION = 0.4
"""The same where the ring crosses the link between two sockets, as more devices than half a server's eight slots do: 22 and 26 of 64 GB/s
(RTX PRO 6000), 28 staged (RTX 5090)."""

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


def _over_pcie(device: Device, c: Columns, moved: F64, hops: F64) -> F64:
    """Seconds of rings of `hops` hops that move `moved` bytes through each device's slot."""
    fraction = np.where(c["num_gpus"] > _SOCKET_DEVICES, _SOCKETS_FRACTION, _PCIE_FRACTION[device.peer_access])
    found: F64 = moved / (fraction * device.host.bytes_per_s) + _PCIE_START_S + hops * _PCIE_HOP_S[device.peer_access]
    return found


def _estimate(ctx: Context, c: Columns, moved: F64, hops: F64, ring_hops: F64, rails: bool) -> F64:
    """`hops` of the algorithm chosen where devices reach each other directly, `ring_hops` of the one that PCIe leaves."""
    direct = _seconds(ctx, c, moved, _LINK_FRACTION, hops, rails) + _HOP_S
    if ctx.device.scale_up is not None:
        return direct
    return np.where(c["num_nodes"] > 1, direct, _over_pcie(ctx.device, c, moved, ring_hops))


def _operator(name: str, factor: float, rails: bool = True) -> Operator:
    def bound(ctx: Context, c: Columns) -> F64:
        # In-switch reduction (NVLink SHARP) halves what a rank sends, so the bound counts the buffer once.
        return _seconds(ctx, c, _moved(c, min(factor, 1.0)), 1.0, np.zeros(len(c["num_gpus"])), rails)

    def estimate(ctx: Context, c: Columns) -> F64:
        gpus = np.maximum(c["num_gpus"], 2.0)
        return _estimate(ctx, c, _moved(c, factor), 2.0 + np.log2(gpus), factor * (gpus - 1.0), rails)

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
        once = np.ones(len(c["num_gpus"]))
        return _estimate(ctx, c, moved(c), once, once, False)

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
