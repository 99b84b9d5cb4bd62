"""A client of the contracts: what a request that gives up leaves to those behind it, and to the steps in progress."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.contracts import ClusterControl, ClusterView, Controller, Loading, Refusal, Request, Router
from simserve.engine import ClusterSpec, InstanceSpec, LiveRun, simulate
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import LinkSpec, MigrationSpec
from simserve.errors import PolicyError
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.reference.toy_cost import RoundCost

NEVER = float("nan")


def instance(policy: str = "sarathi", kv_blocks: int = 100, **options: Any) -> InstanceSpec:
    cls = scheduler_class(policy)
    return InstanceSpec("i", cls(cls.Params()), options.pop("cost", RoundCost()), kv_blocks, block_tokens=4, **options)


def cancelled(records: RunRecords) -> list[int]:
    return np.flatnonzero(records.requests.status == Status.CANCELLED).tolist()


class HoldsLong(Router):
    """Holds requests with long prompts for ever; the others go to the first instance."""

    def choose(self, request: Request, view: ClusterView) -> int | Refusal | None:
        return None if request.prompt_tokens >= 100 else view.open[0]


def test_when_the_first_of_those_held_gives_up_the_router_is_asked_for_those_behind_it() -> None:
    """Held requests are routed in order: the second waits behind the first for nothing else than its place."""
    table = RequestTable.build(
        np.array([0.0, 0.5, 0.5]), np.array([200, 8, 200]), np.array([4, 4, 4]), patience_s=np.array([3.0, NEVER, 1.0])
    )
    records = simulate(Workload(table), [instance()], ClusterSpec(router=HoldsLong()), check=True)
    assert cancelled(records) == [0, 2]
    assert records.requests.finish_s[[0, 2]].tolist() == [3.0, 1.5], "each leaves when its own patience ends"
    assert records.requests.scheduled_s[1] == 3.0


class Slowly:
    """Rows of a set wait a long time for a load that brings nothing."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows

    def load(self, request: Request, now: float) -> Loading | None:
        return Loading(100.0) if request.row in self.rows else None


@pytest.mark.parametrize("patience_s", [1.6, 2.1, 2.6, 3.1, 3.6])
def test_what_a_prefix_cache_keeps_when_one_gives_up_does_not_depend_on_spans(patience_s: float) -> None:
    """Row 0 leaves contents behind. Row 1 decodes into their blocks, row 2 holds memory and waits for a load, and gives up in the middle of
    a span of row 1; what is left of row 0's contents then is found by row 3. Stepped and in spans alike (`check` compares the two runs)."""
    ids = [list(range(8)), [20, 21], [30, 31, 32], list(range(5))]
    blocks = PrefixBlocks(np.cumsum([0, *map(len, ids)]), np.concatenate([np.array(x) for x in ids]), 4)
    table = RequestTable.build(
        np.array([0.0, 1.4, 1.4, 1.5 + patience_s]),
        np.array([32, 8, 12, 20]),
        np.array([1, 30, 4, 1]),
        prefix=blocks,
        patience_s=np.array([NEVER, NEVER, patience_s, NEVER]),
    )
    records = simulate(Workload(table), [instance(kv_blocks=11, prefix_caching=True, loads=(Slowly(2),))], check=True)
    assert cancelled(records) == [2]
    taken = 1 + int(patience_s - 0.5)  # the prompt takes half a second; then a block a second
    assert records.requests.cached_tokens[3] == 4 * min(4, 6 - taken)


class ByRow(Router):
    """Row 0 goes to instance 0, the others to instance 1."""

    def choose(self, request: Request, view: ClusterView) -> int:
        return min(request.row, 1)


class MovesRow0(Controller):
    """Orders the migration of row 0 to instance 1, as long as it decodes on instance 0."""

    interval_s = 1.5

    def act(self, cluster: ClusterControl) -> None:
        if any(decoding.row == 0 for decoding in cluster.decoding(0)):
            cluster.migrate(0, 0, 1)


@pytest.mark.parametrize("patience_s", [2.2, 3.2, 4.2, 5.2])
def test_the_same_of_one_that_has_come_with_its_kv_and_waits_for_a_sequence_slot(patience_s: float) -> None:
    """Row 0 has migrated to instance 1, whose only sequence slot is row 2's, and gives up in the middle of a span of row 2."""
    ids = [[30, 31, 32], list(range(8)), [20, 21], list(range(5))]
    blocks = PrefixBlocks(np.cumsum([0, *map(len, ids)]), np.concatenate([np.array(x) for x in ids]), 4)
    table = RequestTable.build(
        np.array([0.0, 0.0, 1.4, patience_s + 0.1]),
        np.array([12, 32, 8, 20]),
        np.array([60, 1, 16, 1]),
        prefix=blocks,
        patience_s=np.array([patience_s, NEVER, NEVER, NEVER]),
    )
    link = LinkSpec(bytes_per_s=1e6, latency_s=0.01, kv_bytes_per_token=1.0)
    specs = [instance(kv_blocks=kv, prefix_caching=True, max_seqs=1, link=link) for kv in (100, 13)]
    cluster = ClusterSpec(router=ByRow(), controllers=(MovesRow0(),), migration=MigrationSpec())
    records = simulate(Workload(table), specs, cluster, check=True)
    assert cancelled(records) == [0] and records.requests.finish_s[0] == patience_s and records.requests.instance[0] == 1
    taken = 1 + int(patience_s - 1.9)  # of the 13 blocks row 0 holds 5, row 2 has 2 of its prompt and takes one a second from 1.9 s on
    assert records.requests.cached_tokens[3] == 4 * min(4, 13 - 5 - 2 - taken)


@pytest.mark.parametrize("cancels", [False, True])
def test_patience_that_is_over_keeps_no_deadlocked_run_going(cancels: bool) -> None:
    """Row 0 would have waited for 5,000 s; it is served, or its client cancels it. Then row 1, which is held for ever, is all that is left,
    and signals are refreshed in vain: the deadlock is found after a thousand times, not after 5,000."""

    class Counts(HoldsLong):
        asked = 0

        def choose(self, request: Request, view: ClusterView) -> int | Refusal | None:
            self.asked += 1
            return super().choose(request, view)

    router = Counts()
    run = LiveRun([instance()], ClusterSpec(router=router, refresh_s=1.0))
    run.append(RequestTable.build(np.zeros(2), np.array([8, 200]), np.array([400, 4]), patience_s=np.array([5000.0, NEVER])))
    run.advance(1.1)
    if cancels:
        run.cancel(0)
    with pytest.raises(PolicyError, match="1 requests have not ended"):
        run.close()
    assert 1000 <= router.asked < 1200
