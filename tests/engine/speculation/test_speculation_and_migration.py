"""A request that moves to another instance while it decodes with drafts: each of its steps gives what it gives where it stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.engine import simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import Failures, MigrationSpec
from simserve.workload.requests import Workload
from tests.engine.cluster_world import Orders, moves, routed, spec, work
from tests.engine.invariants import complaints
from tests.engine.speculation.test_speculation_neutral import gains
from tests.engine.speculation.toys import DRAWN, KINDS, Verifying
from tests.reference.toy_cost import JaggedCost, RoundCost

WHATEVER_THE_BATCH = [kind for kind in KINDS if kind.quiet_at is None] + [DRAWN[0], DRAWN[2], DRAWN[3]]


def served(load: Workload, speculation: Any, seed: int | None, fast: bool, **cluster: Any) -> RunRecords:
    """Two instances; with a seed, requests move between them every quarter of a second or so."""
    cost = Verifying(RoundCost() if seed is None or seed % 2 else JaggedCost())
    specs = [spec(f"i{k}", cost=cost, speculation=speculation, kv_blocks=60) for k in range(2)]
    orders: tuple[Orders, ...] = ()
    if seed is not None:
        rng = np.random.default_rng(seed)
        told = [(0.25 * k, int(rng.integers(len(load.requests))), int(rng.integers(2))) for k in range(1, 60)]
        orders = (Orders(*[(s, lambda control, row=row, one=one: _move(control, row, one)) for s, row, one in told]),)
    several = routed(controllers=orders, migration=MigrationSpec(last_stage_blocks=1 + (seed or 0) % 3), **cluster)
    return simulate(load, specs, several, check=fast, fast_forward=fast)


def _move(control: Any, row: int, one: int) -> Any:
    return moves(row, one, 1 - one)(control) if any(found.row == row for found in control.decoding(one)) else None


def some_work(seed: int) -> Workload:
    rng = np.random.default_rng([7, seed])
    n = 6
    arrivals = np.sort(rng.choice([0.0, 0.25, 0.3, 1.1], n)).tolist()
    return work(arrivals, rng.integers(3, 30, n).tolist(), rng.integers(20, 60, n).tolist())


@pytest.mark.parametrize("speculation", WHATEVER_THE_BATCH)
def test_a_move_changes_no_step_of_a_request(speculation: Any) -> None:
    moved = 0
    for seed in range(12):
        load = some_work(seed)
        stay = served(load, speculation, None, True)
        for fast in (True, False):
            records = served(load, speculation, seed, fast)
            assert [c for c in complaints(records, load) if not c.startswith("I5")] == []
            if not records.requests.recomputed_tokens.any():
                assert gains(records) == gains(stay)
                assert records.moves is not None
                moved += int((records.moves.outcome == 0).sum())
    assert moved >= 20


@pytest.mark.parametrize("rule", ["resume", "retry"])
def test_moves_and_deaths_leave_every_token(rule: str) -> None:
    """With `--check`: step by step, what was noted of drafts is what requests had got and got then, wherever they were."""
    for seed in range(12):
        load, speculation = some_work(seed), KINDS[seed % len(KINDS)]
        deaths = Failures(((0.8 + 0.31 * (seed % 5), seed % 2), (2.9, 1)), None, 0.5, rule)
        records = served(load, speculation, seed, True, failures=deaths)
        assert records.requests.generated_tokens.tolist() == load.requests.output_tokens.tolist()
