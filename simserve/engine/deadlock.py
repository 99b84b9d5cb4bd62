"""Which requests wait for what in a deadlock: the text of the error that ends a run which cannot finish."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simserve.engine.instance_state import InstanceState

if TYPE_CHECKING:
    from simserve.engine.cluster import Cluster
    from simserve.engine.instance import Instance

MOST_NAMED = 3
"""Instances described one by one; of the others there is only the number."""


def who_waits(cluster: Cluster) -> str:
    """Requests that are left by where they are, and what each waits for."""
    kv_transfers = cluster.kv_transfers
    unassigned = kv_transfers.unassigned if kv_transfers is not None else 0
    found = []
    if held := len(cluster.held) + unassigned:
        states = Counter(instance.state.value for instance in cluster.instances)
        text = f"{held} wait for an instance to take them and none does (instances: {_counted(states)})"
        if unassigned:
            text += f", {unassigned} of them prefilled: no decode instance serves"
        found.append(text)
    found += [
        f"{len(pool.waiting)} instances wait for a node of pool '{pool.spec.name}', which has as many as max_nodes allows "
        f"({pool.spec.max_nodes})"
        for pool in cluster.pools
        if pool.waiting
    ]
    if kv_transfers is not None:
        found += [
            f"{waiting} wait for KV blocks of instance {number}, the first for {blocks}"
            for number, waiting, blocks in kv_transfers.waiting_for_room()
        ]
    stopped = [_at(instance) for instance in cluster.instances if instance.state is not InstanceState.OFF and _present(instance)]
    found += stopped[:MOST_NAMED]
    if len(stopped) > MOST_NAMED:
        found.append(f"{len(stopped) - MOST_NAMED} more instances have requests and plan nothing")
    return "; ".join(found) or "no policy serves them"


def _present(instance: Instance) -> int:
    return len(instance.intake) + len(instance.loads) + sum(len(lane.batch) for lane in instance.lanes)


def _at(instance: Instance) -> str:
    """An instance with requests, none of which is in a step."""
    batches, kv = [lane.batch for lane in instance.lanes], instance.kv
    places = {
        "waiting": len(instance.intake),
        "prefilling": sum(len(batch.prefilling) for batch in batches),
        "decoding": sum(len(batch.group) + len(batch.verifying) for batch in batches),
        "swapped out": sum(len(batch.swapped) for batch in batches),
        "arrived without a sequence slot": sum(len(batch.landed) for batch in batches),
    }
    elsewhere = sum(kv.elsewhere.values())
    aside = f", {elsewhere} held for requests between two instances" if elsewhere else ""
    return (
        f"no policy serves them: policy '{instance.policy_name}' of instance {instance.index} plans nothing with {_counted(places)} "
        f"requests, {kv.free_blocks} of {kv.total_blocks} KV blocks free{aside}"
    )


def _counted(numbers: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
