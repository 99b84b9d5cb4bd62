"""What a reader must know before believing the figures: each warning alone, and how values become JSON."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.engine.records import Status
from simserve.report.metrics import request_counts
from simserve.report.segments import Segments, transfers
from simserve.report.summary import _given, to_json_types, warnings_of

QUIET: dict[str, Any] = {"validated": True}


def a_measurement(statuses: list[Status], reasons: list[int] | None = None, **changes: Any) -> Any:
    """Of a run of 10 s whose requests ended so, for these reasons."""
    count = len(statuses)
    names = ("", "too long", "queue full")
    requests = SimpleNamespace(status=np.array(statuses), reason=np.array(reasons or [0] * count), reasons=names)
    table = SimpleNamespace(slo_class=SimpleNamespace(names=("default", "chat")))
    info = SimpleNamespace(cost=changes.pop("cost", {}))
    records = SimpleNamespace(requests=requests, table=_Sized(count, table), instances=[info, info], lanes=[], end_s=10.0)
    saturation = SimpleNamespace(message=changes.pop("saturation", ""))
    window = SimpleNamespace(length_s=changes.pop("length_s", 10.0))
    fields = {"in_window": np.ones(count, dtype=bool), "limits": {}, **changes}
    return SimpleNamespace(records=records, saturation=saturation, window=window, **fields)


def warnings(m: Any, energy: Any = None, experts: Any = None) -> list[str]:
    """Of a measurement whose requests are all there."""
    figures = {"window": m.window, "saturation": m.saturation, "limits": m.limits, "released_in_window": bool(m.in_window.any())}
    return warnings_of(SimpleNamespace(requests=request_counts(m), **figures), m.records, energy, experts)


class _Sized:
    def __init__(self, size: int, of: Any) -> None:
        self._size = size
        vars(self).update(vars(of))

    def __len__(self) -> int:
        return self._size


DONE, REFUSED, LEFT = Status.COMPLETED, Status.REJECTED, Status.CANCELLED


@pytest.mark.parametrize(
    ("measurement", "said"),
    [
        (a_measurement([DONE, DONE]), []),
        (a_measurement([DONE], saturation="Saturated."), ["Saturated."]),
        (
            a_measurement([DONE], length_s=0.0),
            ["The warm-up and cool-down cuts leave nothing of a run of 10 s: there are no latencies and no rates."],
        ),
        (
            a_measurement([DONE], in_window=np.array([False])),
            ["No request was released in the measured window: there are no latencies."],
        ),
        (
            a_measurement([DONE, REFUSED, REFUSED, REFUSED], [0, 1, 2, 1]),
            [
                "2 of 4 requests were rejected: too long.",
                "1 of 4 requests were rejected: queue full.",
                "Latencies and rates are of the 1 requests that were completed, not of those refused.",
            ],
        ),
        (a_measurement([REFUSED], [1]), ["1 of 1 requests were rejected: too long."]),
        (a_measurement([REFUSED], [0]), ["1 of 1 requests were rejected: unstated."]),
        (
            a_measurement([DONE, LEFT]),
            [
                "1 of 2 requests were cancelled, because their clients gave up. End-to-end latencies are of the 1 that were completed:"
                " those that waited longest are not among them."
            ],
        ),
        (a_measurement([DONE], limits={"chat": {}, "default": {}}), []),
        (
            a_measurement([DONE], limits={"chats": {}, "a": {}}),
            [f"The SLO names the class '{name}', which no request of this workload has." for name in ("a", "chats")],
        ),
        (a_measurement([DONE], cost={"notes": ["less memory"]}), ["less memory"]),
        (a_measurement([DONE], cost={"unvalidated": ["gemm"]}), ["Not validated against measurements: gemm."]),
    ],
)
def test_a_warning_for_each_thing_to_know(measurement: Any, said: list[str]) -> None:
    assert warnings(measurement) == said


@pytest.mark.parametrize(
    ("energy", "experts", "said"),
    [
        (None, None, []),
        ({"validated": True}, {"validated": True}, []),
        ({"validated": False}, {"validated": True}, ["Not validated against measurements: energy."]),
        (None, {"validated": False}, ["Not validated against measurements: expert reads."]),
        ({"validated": False}, {"validated": False}, ["Not validated against measurements: energy, expert reads."]),
    ],
)
def test_totals_that_rest_on_no_measurement(energy: Any, experts: Any, said: list[str]) -> None:
    assert warnings(a_measurement([DONE]), energy, experts) == said


def test_policy_objects_are_said_to_be_missing_from_the_yaml() -> None:
    mine = {"module": "here", "class": "Mine"}
    assert _given([]) == []
    assert _given([mine, {"module": "there", "class": "Ours"}, mine]) == [
        "Policy objects were given from Python (here.Mine, there.Ours): the experiment's YAML alone does not reproduce this run."
    ]


def test_values_as_json() -> None:
    odd = {1: np.float64(0.5), "nan": float("nan"), "list": (np.int64(3), np.bool_(True), float("inf")), "array": np.array([1.0, np.nan])}
    assert to_json_types(odd) == {"1": 0.5, "nan": None, "list": [3, True, None], "array": [1.0, None]}
    assert to_json_types(Status.COMPLETED) == int(Status.COMPLETED) and to_json_types(None) is None and to_json_types(Any) == str(Any)


# ---- where requests went ----


def test_a_request_moves_where_its_next_segment_is_on_another_instance_and_no_new_prefill() -> None:
    """Lanes 0 and 1 are of instance 0, lane 2 of instance 1. Requests: 5 goes to 1 and back; 6 changes its lane; 7 starts anew on 1."""
    request = np.array([5, 5, 5, 6, 6, 7, 7, 8])
    lane = np.array([0, 2, 1, 0, 1, 0, 2, 2])
    prefilled = np.array([True, False, False, True, False, True, True, False])
    begin = np.array([0.0, 2.0, 4.0, 0.0, 2.0, 0.0, 2.0, 0.0])
    of = Segments(request, lane, prefilled, begin, begin + 1, begin, begin)
    records: Any = SimpleNamespace(lanes=[SimpleNamespace(instance=number) for number in (0, 0, 1)])
    found = transfers(records, of)
    assert (found.request.tolist(), found.before.tolist(), found.after.tolist()) == ([5, 5], [0, 1], [1, 2])
    assert (found.source.tolist(), found.begin_s.tolist(), found.end_s.tolist()) == ([0, 1], [1.0, 3.0], [2.0, 4.0])
    nothing = transfers(records, Segments(*(column[:0] for column in (request, lane, prefilled, begin, begin, begin, begin))))
    assert len(nothing.request) == 0
