"""Random small clusters in which stated requests move between instances while they decode."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import strategies as st

from simserve.contracts import PolicyParams
from simserve.engine import InstanceSpec
from simserve.engine.control import ClusterControl
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, LinkSpec, MigrationSpec
from tests.engine.cluster_cases import ClusterCase, clusters
from tests.reference.naive_migration import Order, Plan
from tests.reference.toy_cost import RoundCost


class Mover:
    """Orders the moves of a plan, asking all instances but the destination for the request until one has it to move."""

    Params = PolicyParams
    idle = True

    def __init__(self, plan: Plan, instances: int) -> None:
        self._orders = plan.orders
        self._instances = instances
        self.interval_s = plan.interval_s
        self.answers: dict[int, list[str]] = {}

    def act(self, cluster: ClusterControl) -> None:
        for number, (turn, row, destination) in enumerate(self._orders):
            if turn * self.interval_s == cluster.now:
                answers = self.answers[number] = []
                for source in range(self._instances):
                    if source != destination:
                        answers.append(cluster.migrate(row, source, destination))
                        if not answers[-1]:
                            break


@dataclass(frozen=True)
class MigrationCase(ClusterCase):
    """`orders` are carried out at multiples of `interval_s`; `movers` gets the controller of each run on the engine."""

    orders: tuple[Order, ...] = ()
    interval_s: float = 0.25
    last_stage_blocks: int = 1
    max_stages: int = 3
    movers: list[Mover] = field(default_factory=list, compare=False, repr=False)

    def naive_migrations(self) -> Plan:
        return Plan(self.orders, self.interval_s, self.last_stage_blocks, self.max_stages)

    def engine(self, **options: Any) -> RunRecords:
        self.movers.append(Mover(self.naive_migrations(), len(self.roles)))
        return super().engine(**options)

    def _spec(self, i: int) -> InstanceSpec:
        link = LinkSpec(*self.link, self.kv_bytes_per_token, layers=self.layers, windows=self.windows, state_bytes=self.state_bytes)
        return replace(super()._spec(i), link=link)

    def _cluster(self) -> ClusterSpec:
        stages = MigrationSpec(self.last_stage_blocks, self.max_stages)
        return replace(super()._cluster(), controllers=(self.movers[-1],), migration=stages)


@st.composite
def moving(draw: st.DrawFn, **how: Any) -> MigrationCase:
    """A cluster as `clusters` draws it, and moves: in one case of three a few, else all requests again and again."""
    case = draw(clusters(**how))
    rows, size = len(case.base.rows), len(case.roles)
    last_turn = 40
    if draw(st.integers(0, 2)) < 2:
        every, shift = draw(st.integers(1, 6)), draw(st.integers(0, size - 1))
        orders = [(turn, row, (turn // every + row + shift) % size) for turn in range(1, last_turn, every) for row in range(rows)]
    else:
        one = st.tuples(st.integers(1, last_turn), st.integers(0, rows - 1), st.integers(0, size - 1))
        orders = sorted(draw(st.lists(one, min_size=1, max_size=12)))
    intervals = [0.25, 0.25, 0.5] if isinstance(case.base.cost, RoundCost) else [0.0391, 0.0173, 0.0917]
    return MigrationCase(
        **{one.name: getattr(case, one.name) for one in fields(ClusterCase)},
        orders=tuple(orders),
        interval_s=draw(st.sampled_from(intervals)),
        last_stage_blocks=draw(st.sampled_from([1, 1, 2, 16])),
        max_stages=draw(st.sampled_from([3, 3, 1, 2, 8])),
    )
