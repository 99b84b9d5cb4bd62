"""Small clusters for the tests: instances of 100 blocks of 4 tokens, links slow enough to see, routers and controllers that do as told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simserve.contracts import PolicyParams
from simserve.engine import InstanceSpec, simulate
from simserve.engine.cluster_view import ClusterView
from simserve.engine.control import ClusterControl
from simserve.engine.records import RunRecords
from simserve.engine.request import LiveRequest
from simserve.engine.spec import ClusterSpec, LinkSpec
from simserve.policies import registry
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.reference.toy_cost import RoundCost

LINK = LinkSpec(bytes_per_s=10_000.0, latency_s=0.05, kv_bytes_per_token=100.0, layers=4)


def spec(name: str = "i", policy: str = "vllm-v1", cost: Any = None, **kw: Any) -> InstanceSpec:
    cls = registry.scheduler_class(policy)
    slots = kw.pop("max_seqs", 8)
    base = InstanceSpec(name, cls(cls.Params(max_seqs=slots)), cost or RoundCost(), 100, block_tokens=4, max_seqs=slots, link=LINK)
    return replace(base, **kw)


def router(name: str, **params: Any) -> Any:
    cls = registry.router_class(name)
    return cls(cls.Params(**params))


def work(arrivals: list[float], prompts: list[int], outputs: list[int], **columns: Any) -> Workload:
    return Workload(RequestTable.build(np.array(arrivals, float), np.array(prompts), np.array(outputs), **columns))


def routed(**cluster: Any) -> ClusterSpec:
    """A cluster whose arrivals go round and whose prefilled requests go where fewest are, unless said otherwise."""
    return ClusterSpec(**{"router": router("round-robin"), "decode_router": router("least-outstanding"), **cluster})


def serve(load: Workload, *specs: InstanceSpec, until_s: float | None = None, **cluster: Any) -> RunRecords:
    return simulate(load, specs, routed(**cluster), check=True, until_s=until_s)


class Orders:
    """A controller that does what it was told at given times: a list of (seconds, action)."""

    Params = PolicyParams
    idle = True

    def __init__(self, *orders: tuple[float, Any], interval_s: float = 0.25) -> None:
        self.orders = list(orders)
        self.interval_s = interval_s
        self.answers: list[Any] = []

    def act(self, cluster: ClusterControl) -> None:
        while self.orders and self.orders[0][0] <= cluster.now:
            self.answers.append(self.orders.pop(0)[1](cluster))


def moves(row: int, source: int, destination: int) -> Any:
    return lambda cluster: cluster.migrate(row, source, destination)


def placed(records: RunRecords) -> list[int]:
    return records.requests.instance.tolist()


def contents(ids: list[list[int]]) -> PrefixBlocks:
    return PrefixBlocks(np.cumsum([0, *map(len, ids)]), np.array([i for one in ids for i in one]), 4)


class Says:
    """A router with a fixed answer."""

    Params = PolicyParams

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def choose(self, request: LiveRequest, view: ClusterView) -> Any:
        return self.answer(request, view) if callable(self.answer) else self.answer


def one_long(tokens: int = 60) -> Workload:
    return work([0.0], [40], [tokens])
