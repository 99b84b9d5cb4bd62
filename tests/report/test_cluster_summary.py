"""The `cluster` part of the summary: what instances were paid for, and what migrations did, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simserve.engine.records import Moves, RunRecords
from simserve.engine.spec import Failures
from simserve.report.cluster import cluster_summary
from tests.engine.cluster_world import Orders, one_long, serve, spec, work

NAN = float("nan")


def summary(records: RunRecords) -> dict[str, Any] | None:
    return cluster_summary(records, {})


def run(**cluster: object) -> RunRecords:
    return serve(work([0.0, 3.0, 9.0], [8] * 3, [20] * 3), spec(), spec(starts=False, boot_s=4.0), **cluster)


def test_one_instance_to_which_nothing_happens_is_no_cluster() -> None:
    assert summary(serve(one_long(), spec())) is None
    assert summary(serve(one_long(), spec(), failures=Failures(times=((1.0, 0),), restart_s=2.0))) is not None


def test_two_plain_instances_are_paid_for_from_beginning_to_end() -> None:
    records = serve(one_long(), spec(), spec())
    found = summary(records)
    assert found is not None
    assert found["instances"] == 2 and found["instance_s"] == found["served_s"] == pytest.approx(2 * records.end_s)
    assert found["instances_mean"] == pytest.approx(2) and found["availability"] is None and found["migration"] is None


def test_booting_and_draining_are_paid_for_and_off_is_not() -> None:
    records = run(controllers=(Orders((2.0, lambda c: c.drain(0)), (2.0, lambda c: c.start(1))),))
    found = summary(records)
    assert found is not None
    stopped_s = records.requests.finish_s[0]
    # Instance 0 until its request had ended; instance 1 from the order at 2 s, up from 6 s, to the end.
    assert found["instance_s"] == pytest.approx(stopped_s + records.end_s - 2.0)
    assert found["served_s"] == pytest.approx(stopped_s + records.end_s - 6.0)
    assert found["instances_mean"] == pytest.approx(found["instance_s"] / records.end_s)


def test_availability_is_what_was_served_of_what_was_paid() -> None:
    records = serve(work([0.0, 2.0], [8, 8], [30, 30]), spec(), failures=Failures(times=((1.0, 0),), restart_s=5.0))
    found = summary(records)
    assert found is not None and found["failures"] == 1
    assert found["instance_s"] == pytest.approx(records.end_s)
    assert found["availability"] == pytest.approx((records.end_s - 5.0) / records.end_s)


def test_migrations_are_counted_by_outcome_and_their_pauses_summed_up() -> None:
    stop_s, landed_s = np.array([1.0, NAN, 2.0, 5.0, 7.0]), np.array([1.1, NAN, 2.3, NAN, 7.2])
    numbers = np.array([4, 4, 5, 6, 4])
    stages, outcome = np.array([2, 1, 3, 2, 1]), np.array([0, 1, 0, 2, 0])
    reasons = ("", "the destination is full", "an instance died")
    moves = Moves(numbers, numbers * 0, numbers * 0 + 1, stop_s - 0.5, stop_s, landed_s, stages, outcome, reasons)
    found = summary(replace(serve(one_long(), spec(), spec()), moves=moves))
    assert found is not None
    migration = found["migration"]
    assert (migration["begun"], migration["done"], migration["requests"]) == (5, 3, 2)
    assert migration["given_up"] == {"an instance died": 1, "the destination is full": 1}
    assert migration["stages_mean"] == pytest.approx(2.0)
    pause_s = migration["pause_s"]
    assert pause_s["mean"] == pytest.approx(0.2) and pause_s["p50"] == pytest.approx(0.2)
    assert pause_s["p99"] == pause_s["max"] == pytest.approx(0.3)


def test_an_actual_migration_is_in_it() -> None:
    records = serve(one_long(), spec(), spec(), controllers=(Orders((4.0, lambda c: c.migrate(0, 0, 1))),))
    found = summary(records)
    assert found is not None and records.moves is not None
    assert found["migration"]["done"] == 1
    assert found["migration"]["pause_s"]["max"] == pytest.approx(float(records.moves.landed_s[0] - records.moves.stop_s[0]))
    # Every token of the context crossed the link once.
    assert 40 <= found["migration"]["moved_tokens"] < 40 + 60


def test_no_migrations_have_no_pause() -> None:
    found = summary(run(controllers=(Orders(),)))
    assert found is not None
    assert found["migration"]["begun"] == 0 and found["migration"]["pause_s"] is None and found["migration"]["stages_mean"] is None
