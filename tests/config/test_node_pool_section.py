"""`cluster.node_pools` and `cluster.instances.N.start`: what they come to, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

import simserve
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.errors import ConfigError

BASE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "cluster": {
        "node_pools": [{"node_devices": 2, "max_nodes": 3, "provision_s": 90}],
        "instances": [{"count": 1, "max_count": 6, "start": {"engine_s": 10, "load_bytes_per_s": 1e9, "capture_s": 15}}],
    },
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 4.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 200}, "output": {"kind": "fixed", "tokens": 20}},
        "count": 20,
    },
}


def changed(**changes: Any) -> Any:
    return load(BASE, {key.replace("__", "."): value for key, value in changes.items()})


def test_weights_load_at_the_stated_bandwidth_whatever_the_layout() -> None:
    """8.03e9 parameters of two bytes at 1 GB/s."""
    for layout in ({"tp": 1}, {"tp": 2}, {"pp": 2}):
        spec = assemble(changed(cluster__instances__0__parallel=layout)).instances[0]
        assert dict(spec.stages)["weights"] == pytest.approx(16.06, rel=0.002)
        assert spec.boot_s == pytest.approx(10 + 16.06 + 15, rel=0.002)
    assert [stage.name for stage in spec.stages] == ["engine", "weights", "capture"]
    stated = assemble(changed(cluster__instances__0__start={"load_s": 7})).instances[0]
    assert stated.boot_s == 7 and dict(stated.stages) == {"weights": 7}


def test_boot_s_alone_is_one_stage() -> None:
    one = {key: value for key, value in BASE["cluster"]["instances"][0].items() if key != "start"}
    spec = assemble(changed(cluster__instances=[one | {"boot_s": 12}])).instances[0]
    assert spec.boot_s == 12 and spec.stages == ()


def test_pools_are_found_by_hardware_and_survive_being_resolved() -> None:
    pools = [
        {"node_devices": 8, "max_nodes": 2, "provision_s": 1},
        {"hardware": "l40s", "node_devices": 4, "max_nodes": 2, "provision_s": 2},
    ]
    experiment = changed(cluster__node_pools=pools, cluster__instances=[{"hardware": "l40s"}, {"count": 2}])
    parts = assemble(experiment)
    assert [spec.pool for spec in parts.instances] == [1, 0, 0]
    assert [(pool.name, pool.node_devices) for pool in parts.cluster.node_pools] == [("h100-sxm-80gb", 8), ("l40s", 4)]
    again = load(experiment.resolved())
    assert assemble(again).cluster.node_pools == parts.cluster.node_pools and again.fingerprint() == experiment.fingerprint()


def test_kubernetes_defaults() -> None:
    """kubernetes/autoscaler, cluster-autoscaler/FAQ.md: scan-interval, scale-down-unneeded-time, scale-down-delay-after-add."""
    (pool,) = assemble(changed()).cluster.node_pools
    assert (pool.scan_s, pool.unneeded_s, pool.after_add_s) == (10.0, 600.0, 600.0)
    assert (pool.min_nodes, pool.warm_nodes, pool.provision_cv, pool.image_pull_s, pool.prepull) == (0, 0, 0.0, 0.0, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node_pools.0.max_nodes": 0}, "max_nodes: found 0, expected 1 or more: on a pool without nodes no instance ever starts"),
        ({"node_pools.0.min_nodes": 7}, "min_nodes is 7 and max_nodes 3: no number of nodes is both"),
        ({"node_pools.0.warm_nodes": 4}, "warm_nodes is 4 and max_nodes 3"),
        ({"node_pools.0.provision_s": -1}, "provision_s: found -1, expected a number >= 0"),
        ({"node_pools.0.provisions_s": 1}, "did you mean 'provision_s'"),
        ({"node_pools.0.scan_s": 0}, "scan_s: found 0"),
        ({"node_pools.0.node_devices": 0}, "node_devices: found 0"),
        ({"node_pools": [{"max_nodes": 3}]}, "provision_s: this key is required and missing"),
        ({"instances.0.parallel": {"tp": 8}}, "an instance of 8 devices takes 4 nodes, and max_nodes is 3"),
        ({"node_pools.0.node_devices": 3, "instances.0.parallel": {"tp": 4}}, "expected at most 3 devices, or a multiple of that"),
        ({"node_pools.0.hardware": "a10"}, "no instance has hardware a10"),
        ({"instances.0.hardware": "a10"}, "no node pool has hardware a10"),
        ({"node_pools": [{"max_nodes": 3, "provision_s": 1}] * 2}, "node pool 0 has hardware h100-sxm-80gb already"),
        ({"instances.0.boot_s": 3}, "boot_s and start both state how long a start takes"),
        ({"instances.0.start": {"engine_s": 3}}, "give load_s"),
        ({"instances.0.start": {"load_s": 3, "load_bytes_per_s": 1e9}}, "give one of them"),
        ({"instances.0.start.capture_s": -2}, "capture_s: found -2"),
        (
            {"network": {"between_nodes": {"bytes_per_s": 1e9}}},
            "node_devices: found 2, and cluster.network.between_nodes.node_devices is 8",
        ),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(BASE, {f"cluster.{key}": value for key, value in changes.items()})
    assert said in str(caught.value) and "cluster." in str(caught.value)


def test_more_instances_at_the_beginning_than_the_pool_holds() -> None:
    with pytest.raises(ConfigError, match="the instances that serve from the beginning need 4 nodes of 2 devices, and max_nodes is 3"):
        simserve.run(BASE, **{"cluster.instances.0.count": 7, "cluster.instances.0.max_count": 8})
