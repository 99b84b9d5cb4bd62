"""A run in pieces is the run: requests, steps and tokens of all pieces together are those of the records of the whole."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from benchmarks.counted_work import case
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.engine import simulate
from simserve.engine.records import LaneLog, Piece, RequestColumns, RunRecords
from simserve.engine.sliding import Sliding
from simserve.errors import ConfigError
from simserve.report.columns import request_metrics
from simserve.report.itl import TokenGaps

REQUESTS = 240


def run(experiment: Any, **how: Any) -> RunRecords:
    parts = assemble(load(experiment))
    return simulate(parts.workload, parts.instances, parts.cluster, **how)


def in_pieces(experiment: Any, rows: int, **how: Any) -> tuple[list[Piece], RunRecords]:
    pieces: list[Piece] = []
    return pieces, run(experiment, pieces=pieces.append, piece_requests=rows, **how)


SMALL = {"kv": {"memory_utilisation": 0.2}}
DISAGGREGATED = {
    "instances": [{"role": "prefill", "scheduler": {"policy": "sarathi"}}, {"role": "decode", "scheduler": {"policy": "sarathi"}}],
    "network": {"bytes_per_s": 5e10},
}
MIGRATING = {"controllers": [{"policy": "llumnix-migration"}], "network": {"bytes_per_s": 8e9}}
FAILING = {"mtbf_s": 20.0, "restart_s": 5.0, "rule": "retry"}
JITTER = {"spread": 0.2, "stall_probability": 0.05, "stall_s": 0.1}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "one instance": (case(1, REQUESTS), {}),
    "stepwise": (case(1, REQUESTS), {"fast_forward": False}),
    "four stages": (case(1, REQUESTS, group={"parallel": {"pp": 4}}), {}),
    "more than is served": (case(1, REQUESTS, rate=20.0), {}),
    "clients that give up": (case(1, REQUESTS, rate=20.0, workload={"patience_s": 5.0}), {}),
    "a bound of the client": (case(1, REQUESTS, workload={"max_concurrency": 8}), {}),
    "cut": (case(1, REQUESTS), {"until_s": 40.0}),
    "preemptions": (case(1, REQUESTS, rate=20.0, group=SMALL), {}),
    "retries": (case(2, REQUESTS, cluster={"failures": FAILING}), {}),
    "migrations": (case(4, REQUESTS, rate=8.0, group=SMALL, cluster=MIGRATING), {}),
    "disaggregated": (case(1, REQUESTS, cluster=DISAGGREGATED), {}),
    "jitter": ({**case(1, REQUESTS), "engine": {"name": "sarathi-serve", "jitter": JITTER}}, {}),
}

HAPPENS = {
    "preemptions": "preemptions",
    "retries": "instance_failures",
    "migrations": "migrated_tokens",
    "disaggregated": "transferred_tokens",
}
"""Of a case, the counter of what it is about."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [23, 1000])
def test_all_pieces_together_are_the_whole(name: str, rows: int) -> None:
    experiment, how = CASES[name]
    whole = run(experiment, **how)
    assert whole.counters[HAPPENS.get(name, "steps")] > 0
    pieces, rest = in_pieces(experiment, rows, **how)
    sizes = [len(piece.records.table) for piece in pieces]
    assert [piece.first_row for piece in pieces] == [sum(sizes[:number]) for number in range(len(sizes))]
    for field in fields(RequestColumns):
        if field.name not in ("reasons", "reason"):
            parts = np.concatenate([getattr(piece.records.requests, field.name) for piece in pieces])
            assert np.array_equal(getattr(whole.requests, field.name), parts, equal_nan=parts.dtype.kind == "f"), field.name
    said = [piece.records.requests.reasons[code] for piece in pieces for code in piece.records.requests.reason]
    assert said == [whole.requests.reasons[code] for code in whole.requests.reason]
    for number, lane in enumerate(whole.lanes):
        log = pieces[0].lanes[number]
        for piece in pieces[1:]:
            log = log.followed_by(piece.lanes[number])
        for field in fields(LaneLog):
            assert np.array_equal(getattr(lane, field.name), getattr(log, field.name)), field.name
    columns = request_metrics(whole, TokenGaps.of(whole)).columns
    of_pieces = [request_metrics(piece.records, TokenGaps.of(piece.records)).columns for piece in pieces]
    for metric, values in columns.items():
        assert np.array_equal(values, np.concatenate([each[metric] for each in of_pieces]), equal_nan=True), metric
    assert (rest.counters, rest.end_s, rest.instance_states) == (whole.counters, whole.end_s, whole.instance_states)


def test_memory_holds_what_is_in_flight() -> None:
    """Of a run of a thousand requests a piece has those of two reads at most, and the steps in which they decoded."""
    pieces, _ = in_pieces(case(1, 1000), 50)
    whole = run(case(1, 1000))
    assert len(pieces) > 15
    assert max(len(piece.records.table) for piece in pieces) < 150
    assert max(len(piece.records.lanes[0].step_end_s) for piece in pieces) < len(whole.lanes[0].step_end_s) / 4


@pytest.mark.parametrize(
    ("workload", "said"),
    [({"closed_loop": {"concurrency": 4}, "arrivals": None}, "closed loop")],
)
def test_requests_that_wait_for_others_are_refused(workload: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        in_pieces(case(1, 20, workload=workload), 10)


def test_rows_that_have_been_drop_first_are_not_read() -> None:
    from array import array

    column = Sliding(array("q", [5, 6, 0, 8]))
    assert column.drop_first(2).tolist() == [5, 6]
    assert (len(column), column[3], column.unended()) == (4, 8, 2)
    with pytest.raises(LookupError, match="row 1 has been let go"):
        column[1]
    with pytest.raises(LookupError, match="row 0 has been let go"):
        column[0] = 1
