"""Which instance llumnix-scaling starts and stops, also where instances have roles; the timers of both Llumnix controllers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import MigrationSpec
from simserve.policies import registry
from tests.engine.cluster_world import Says, one_long, serve, spec, work


def scaling(**params: Any) -> Any:
    cls = registry.controller_class("llumnix-scaling")
    return cls(cls.Params(**{"interval_s": 1.0, "scale_up": 5.0, "scale_down": 6.0, **params}))


def drained(records: RunRecords) -> list[int]:
    return [number for _, number, state in records.instance_states if state == "draining"]


def test_the_emptiest_instance_stops_first_and_of_equals_the_last() -> None:
    """Instances 0 and 3 work, 1 and 2 do not: 2 stops, then 1; then, of those with one request each, 3. The last one stays."""
    load = work([0.0, 0.0], [8, 8], [60, 60])
    records = serve(load, *(spec(f"i{k}") for k in range(4)), router=Says(lambda r, v: 3 * r.row), controllers=(scaling(),))
    assert drained(records) == [2, 1, 3]
    waiting = work([0.0, 0.0, 0.0], [8, 8, 8], [60, 60, 60])
    placed = Says(lambda r, v: (1, 1, 0)[r.row])
    one_slot = [spec(f"i{k}", max_seqs=1) for k in range(2)]
    # Both run one request; another waits for instance 1, which is the fuller one: it goes on, though of equals it would stop.
    assert drained(serve(waiting, *one_slot, router=placed, controllers=(scaling(),)))[0] == 0


def test_no_instance_stops_while_one_boots_and_min_instances_go_on() -> None:
    load = work([0.0], [8], [60])
    assert drained(serve(load, spec(), spec(), spec(), controllers=(scaling(min_instances=2),))) == [2]


def test_a_pool_that_others_need_keeps_its_last_instance() -> None:
    """Prefill, decode and mixed: the decode instance goes on as long as the prefill instance does, and that one's requests are finished."""
    specs = [spec("p", role="prefill"), spec("d", role="decode"), spec("m")]
    load = work([0.0, 20.0, 21.0, 40.0], [8] * 4, [4] * 4)
    records = serve(load, *specs, controllers=(scaling(),))
    assert (records.requests.status == Status.COMPLETED).all()
    states = {number: state for _, number, state in records.instance_states}
    assert 1 not in states or states.get(0) == "off"


def test_from_nothing_a_prefill_instance_starts_with_a_decode_instance() -> None:
    """All are stopped in the pause. The request that then comes is held: an instance that takes arrivals starts, and what it needs."""
    specs = [spec("p", role="prefill", boot_s=2.0), spec("d", role="decode", boot_s=2.0), spec("m", boot_s=2.0)]
    records = serve(work([0.0, 100.0], [8, 8], [4, 4]), *specs, controllers=(scaling(min_instances=0),))
    assert (records.requests.status == Status.COMPLETED).all()
    assert {number for at_s, number, state in records.instance_states if state == "off" and at_s < 100.0} == {0, 1, 2}
    assert [(number, state) for at_s, number, state in records.instance_states if at_s >= 100.0][:2] == [(0, "booting"), (1, "booting")]


def test_one_instance_scaled_to_zero_does_not_idle_with_work() -> None:
    """A request that waits for the only instance to start waits without anything at fault (I5)."""
    records = serve(work([0.0, 50.0], [8, 8], [4, 4]), spec(boot_s=20.0), controllers=(scaling(min_instances=0),))
    # Held from 50 s, seen by the check at 50 or 51 s, up 20 s later.
    assert records.requests.scheduled_s[1] in (pytest.approx(70.0), pytest.approx(71.0))


def test_migration_looks_every_50_ms_and_scaling_every_10_s_unless_told_otherwise() -> None:
    """Llumnix's poll. A request of 14 of 20 blocks has freeness below 6 from 1 block before: the first look after that moves it."""
    migration = registry.controller_class("llumnix-migration")
    controller = migration(migration.Params(threshold=6.5))
    records = serve(
        one_long(30), spec(kv_blocks=20), spec(), router=Says(0), controllers=(controller,), migration=MigrationSpec(last_stage_blocks=2)
    )
    assert records.moves is not None and len(records.moves.start_s) == 1
    begun = float(records.moves.start_s[0])
    assert begun / 0.05 == pytest.approx(round(begun / 0.05)) and begun / 0.1 != pytest.approx(round(begun / 0.1))
    assert controller.interval_s == 0.05
    scale = registry.controller_class("llumnix-scaling")
    states = serve(work([0.0], [8], [60]), spec(), spec(), controllers=(scale(scale.Params(scale_down=20.0)),)).instance_states
    assert [at_s for at_s, _, state in states if state == "draining"] == [10.0]
    assert np.isfinite(begun)
