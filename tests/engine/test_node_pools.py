"""Node pools: against a naive one on random orders; what is placed where, when nodes come and go; laws that --check sees broken."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from simserve.engine import simulate
from simserve.engine.check_nodes import check_scaling
from simserve.engine.provisioning import NodePoolSpec, Stage
from simserve.engine.records import RunRecords, Status
from simserve.engine.scaling_log import NodeTimes, Start
from simserve.errors import ConfigError, InvariantError, PolicyError
from tests.engine.cluster_world import Orders, Says, routed, serve, spec, work
from tests.reference.naive_nodes import NaivePool

POOL = NodePoolSpec("gpus", node_devices=4, min_nodes=0, max_nodes=4, provision_s=30.5, scan_s=10.0, unneeded_s=40.0, after_add_s=40.0)
LONG = 400.0


def start(number: int) -> Any:
    return lambda cluster: cluster.start(number)


def drain(number: int) -> Any:
    return lambda cluster: cluster.drain(number)


def run(pool: NodePoolSpec, widths: list[int], *orders: tuple[float, Any], boot_s: float = 5.0, check: bool = True) -> RunRecords:
    """Instance 0 serves two requests, at 0 and at 400 s; the others are off until they are ordered."""
    specs = [spec(f"i{k}", devices=width, starts=k == 0, boot_s=boot_s) for k, width in enumerate(widths)]
    cluster = routed(router=Says(0), controllers=(Orders(*orders),), node_pools=(pool,))
    return simulate(work([0.0, LONG], [8, 8], [4, 4]), specs, cluster, check=check)


def served(records: RunRecords) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    assert records.scaling is not None
    for one in records.scaling.starts:
        if one.outcome == "served" and one.ended_s is not None:
            found.setdefault(one.instance, []).append(one.ended_s)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_a_pool_does_what_a_naive_one_does(seed: int) -> None:
    draw = random.Random(seed)
    size, most = draw.choice([2, 4, 8]), draw.randint(2, 6)
    widths = [draw.choice([1, 2, size, size, 2 * size]) for _ in range(7)]
    pool = NodePoolSpec(
        "gpus",
        node_devices=size,
        min_nodes=draw.randint(0, min(2, most)),
        max_nodes=most,
        warm_nodes=draw.choice([0, 0, 1, 2]),
        provision_s=draw.choice([0.5, 20.5, 63.5]),
        image_pull_s=draw.choice([0.0, 15.0]),
        prepull=draw.random() < 0.5,
        scan_s=draw.choice([1.0, 10.0, 15.0]),
        unneeded_s=draw.choice([0.0, 25.0, 60.0]),
        after_add_s=draw.choice([0.0, 50.0]),
    )
    told = sorted(
        (draw.randint(1, 380) + draw.choice([0.25, 0.75]), draw.randint(1, 6), draw.random() < 0.6) for _ in range(draw.randint(1, 30))
    )
    naive = NaivePool(
        *(pool.node_devices, pool.min_nodes, pool.max_nodes, pool.warm_nodes, pool.provision_s, pool.image_pull_s, pool.prepull),
        *(pool.scan_s, pool.unneeded_s, pool.after_add_s, widths, 5.0, told),
    )
    naive.run(LONG)
    records = run(pool, widths, *((at_s, start(number) if starts else drain(number)) for at_s, number, starts in told))
    log = records.scaling
    assert log is not None

    def before(at_s: float | None) -> float | None:
        return at_s if at_s is not None and at_s <= LONG else None

    assert [(n.ordered_s, before(n.ready_s), before(n.removed_s)) for n in log.nodes if n.ordered_s <= LONG] == [
        (node["ordered"], before(node["ready"]), before(node["removed"])) for node in naive.nodes
    ]
    assert sorted((s.instance, s.node, s.from_s, before(s.to_s)) for s in log.stays if s.from_s <= LONG) == sorted(
        (int(i), int(n), from_s, before(to_s)) for i, n, from_s, to_s in naive.stays
    )
    early = {number: [at_s for at_s in times if at_s <= LONG] for number, times in served(records).items()}
    assert {number: times for number, times in early.items() if times} == naive.served


def test_an_instance_that_finds_room_starts_at_once_and_one_that_does_not_waits_for_a_node() -> None:
    """Ordered at 10.25: the second half of node 0 is free. The next waits for the scan at 20, 30.5 s of provisioning and its start."""
    records = run(POOL, [2, 2, 1], (10.25, start(1)), (11.25, start(2)))
    assert served(records) == {1: [15.25], 2: [55.5]}
    assert records.scaling is not None
    assert records.scaling.nodes[1][:3] == (0, 20.0, 50.5)


def test_the_fullest_node_that_an_instance_fits_on_takes_it() -> None:
    """Node 0 has one device left, node 1 three: one of one device fills node 0."""
    records = run(POOL, [3, 1, 1], (10.25, start(1)), (90.25, drain(1)), (91.25, start(2)))
    assert records.scaling is not None
    assert [(stay.instance, stay.node) for stay in records.scaling.stays] == [(0, 0), (1, 0), (2, 0)]


def test_the_image_is_pulled_once_on_a_node() -> None:
    pool = replace(POOL, image_pull_s=20.0)
    records = run(pool, [4, 2, 2], (10.25, start(1)), (60.75, start(2)))
    # The node comes at 50.5 and has the image at 70.5; the second instance on it waits for the rest of the same pull.
    assert served(records) == {1: [75.5], 2: [75.5]}
    assert served(run(replace(pool, prepull=True), [4, 2, 2], (10.25, start(1)), (100.25, start(2)))) == {1: [75.5], 2: [105.25]}


def test_an_instance_wider_than_a_node_takes_whole_ones() -> None:
    records = run(POOL, [1, 8], (10.25, start(1)))
    assert records.scaling is not None
    assert [(stay.node, stay.devices) for stay in records.scaling.stays if stay.instance == 1] == [(1, 4), (2, 4)]
    with pytest.raises(ConfigError, match="an instance of 6 devices takes a part of a node of 4 devices or whole nodes"):
        run(POOL, [1, 6])
    with pytest.raises(ConfigError, match="an instance of 20 devices takes 5 nodes, and max_nodes is 4"):
        run(POOL, [1, 20])
    with pytest.raises(ConfigError, match="need 2 nodes of 4 devices, and max_nodes is 1"):
        run(replace(POOL, max_nodes=2), [8, 1]) and run(replace(POOL, max_nodes=1), [4], boot_s=0.0)
        specs = [spec("a", devices=4), spec("b", devices=4)]
        simulate(work([0.0], [8], [4]), specs, routed(router=Says(0), node_pools=(replace(POOL, max_nodes=1),)))


def test_what_is_capped_waits_until_another_goes() -> None:
    """One node: the second instance waits until the first has gone, and its order ends then."""
    pool = replace(POOL, max_nodes=2)
    records = run(pool, [4, 4, 4], (10.25, start(1)), (11.25, start(2)), (200.25, drain(1)))
    assert served(records)[2] == [205.25]
    assert records.scaling is not None and len(records.scaling.nodes) == 2


def test_an_empty_node_goes_after_it_was_unneeded_long_enough_and_not_soon_after_an_order() -> None:
    """Seen empty by the scan at 110 s: gone at 150; with a minute and a half after the order at 20, not before 110 + 40 either."""
    records = run(POOL, [4, 1], (10.25, start(1)), (100.25, drain(1)))
    assert records.scaling is not None
    assert records.scaling.nodes[1].removed_s == 150.0
    later = run(replace(POOL, after_add_s=200.0), [4, 1], (10.25, start(1)), (100.25, drain(1))).scaling
    assert later is not None and later.nodes[1].removed_s == 220.0
    kept = run(replace(POOL, min_nodes=2), [4, 1], (10.25, start(1)), (100.25, drain(1))).scaling
    assert kept is not None and [node.removed_s for node in kept.nodes] == [None, None]


def test_warm_nodes_are_there_before_they_are_needed() -> None:
    records = run(replace(POOL, warm_nodes=1), [4, 4], (10.25, start(1)))
    assert served(records) == {1: [15.25]}, "on the warm node, without waiting"
    assert records.scaling is not None
    assert records.scaling.nodes[2].ordered_s == 20.0, "and another is ordered in its place"


def test_a_cancelled_order_gives_its_place_up() -> None:
    records = run(POOL, [4, 1, 4], (10.25, start(1)), (12.25, drain(1)), (30.25, start(2)))
    assert records.scaling is not None
    assert [(one.instance, one.outcome, one.placed_s) for one in records.scaling.starts] == [(1, "cancelled", None), (2, "served", 70.5)]


def test_provisioning_times_vary_by_the_seed_around_the_stated_mean() -> None:
    orders = [(10.25, start(k)) for k in range(1, 9)]
    pool = replace(POOL, max_nodes=9, provision_s=100.0, provision_cv=0.3, node_devices=1)

    def times(seed: int) -> list[float]:
        log = run(replace(pool, seed=seed), [1] * 9, *orders).scaling
        assert log is not None
        return [node.ready_s - node.ordered_s for node in log.nodes[1:] if node.ready_s is not None]

    one = times(1)
    assert len(set(one)) == 8 and one == times(1) != times(2)
    many = [at_s for seed in range(40) for at_s in times(seed)]
    mean = sum(many) / len(many)
    deviation = math.sqrt(sum((at_s - mean) ** 2 for at_s in many) / len(many))
    assert mean == pytest.approx(100.0, rel=0.05) and deviation == pytest.approx(30.0, rel=0.15)


def test_one_that_dies_starts_again_on_its_node() -> None:
    from simserve.engine.spec import Failures

    specs = [spec("a", devices=4, boot_s=5.0), spec("b", devices=4, boot_s=5.0)]
    failures = Failures(times=((10.0, 1),), restart_s=30.0)
    records = serve(work([0.0, 60.0], [8, 8], [4, 4]), *specs, router=Says(0), failures=failures, node_pools=(POOL,))
    assert records.scaling is not None
    assert [(stay.instance, stay.node, stay.to_s) for stay in records.scaling.stays] == [(0, 0, None), (1, 1, None)]
    assert served(records) == {1: [40.0]}


def test_stages_are_what_a_start_is_made_of() -> None:
    parts = (Stage("engine", 2.0), Stage("weights", 4.0))
    specs = [spec("a"), spec("b", starts=False, boot_s=6.0, stages=parts)]
    records = serve(work([0.0, 60.0], [8, 8], [4, 4]), *specs, router=Says(0), controllers=(Orders((5.0, start(1))),))
    assert records.scaling is not None
    (one,) = records.scaling.starts
    assert one.stages == parts and one.placed_s == 5.0 and one.ended_s == 11.0
    with pytest.raises(ConfigError, match="boot_s must be the sum of its stages"):
        spec("b", boot_s=5.0, stages=parts)


def test_a_run_that_waits_for_nodes_that_never_come_says_so() -> None:
    """The only place is taken by an instance that the router does not use."""
    specs = [spec("a", devices=4), spec("b", devices=4, starts=False)]
    with pytest.raises(PolicyError, match=r"1 instance.* of pool 'gpus', which has as many as max_nodes allows \(1\)"):
        serve(
            work([50.0], [8], [4]), *specs, router=Says(lambda r, v: 1 if 1 in v.open else None),
            controllers=(Orders((5.0, start(1))),), node_pools=(replace(POOL, max_nodes=1),),
        )  # fmt: skip


def test_the_check_sees_devices_that_are_not_conserved() -> None:
    records = run(POOL, [2, 2, 1], (10.25, start(1)), (11.25, start(2)), check=False)
    check_scaling(records)
    log = records.scaling
    assert log is not None
    first = log.stays[1]
    broken: dict[str, Any] = {
        "which has 4, are used": {"stays": (*log.stays, first._replace(instance=2, devices=2))},
        "before it is there": {"nodes": (log.nodes[0], NodeTimes(0, 20.0, 70.0, None))},
        "is removed at 100": {"nodes": (log.nodes[0]._replace(removed_s=100.0), log.nodes[1])},
        "above max_nodes 4": {"nodes": (*log.nodes, *[NodeTimes(0, 30.0, None, None)] * 3)},
        "serves from 15.25 s on 0 devices": {"stays": (log.stays[0], *log.stays[2:])},
        "waits for a node since 200": {"starts": (*log.starts, Start(2, 200.0, None, (), None, ""))},
        "serves without its devices": {"starts": (log.starts[0]._replace(placed_s=None), log.starts[1])},
        "serves 5 s after it got its devices": {"starts": (log.starts[0]._replace(placed_s=12.0), log.starts[1])},
    }  # fmt: skip
    for text, change in broken.items():
        with pytest.raises(InvariantError, match=text):
            check_scaling(replace(records, scaling=replace(log, **change)))


def test_a_run_that_is_cut_ends_at_the_cut_and_one_that_is_done_before_does_not() -> None:
    load = work([0.0, 3.0, 50.0], [8] * 3, [20] * 3)
    whole = serve(load, spec("a"))
    cut = serve(load, spec("a"), until_s=30.0)
    assert cut.end_s == 30.0 and cut.requests.status.tolist() == [Status.COMPLETED, Status.COMPLETED, Status.UNFINISHED]
    after = serve(load, spec("a"), until_s=900.0)
    assert after.end_s == whole.end_s < 900.0
