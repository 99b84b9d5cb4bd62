"""What a placement search says of what it has seen: ranks, ties, sentences and sizes, on results written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.study.placement.figures import Tried
from simserve.study.placement.placement import Placement, Pool
from simserve.study.placement.result import PlacementResult
from simserve.study.predicate import parse


def mixed(tp: int, pp: int = 1) -> Placement:
    return Placement((Pool("mixed", 1, tp, pp),))


def split(prefills: int, decodes: int, tp: int = 1) -> Placement:
    return Placement((Pool("prefill", prefills, tp, 1), Pool("decode", decodes, tp, 1)))


def tried(placement: Placement, low: float | None, high: float | None, **more: Any) -> Tried:
    values = {"dropped": False, "probes": 3, "limit": "", "error": None, "values": {}, "saturates": False, **more}
    return Tried(placement, low, high, **values)


def result(*found: Tried, rate_key: str = "workload.arrivals.rate_per_s", **more: Any) -> PlacementResult:
    return PlacementResult("demo", parse("ttft.p90 <= 0.2"), rate_key, 0.05, "high", found, **more)


def test_pools_and_placements_are_named_by_what_differs_from_one_device() -> None:
    assert str(Pool("mixed", 1, 1, 1)) == "tp1"
    assert str(Pool("mixed", 1, 2, 2)) == "tp2 pp2"
    assert str(Pool("mixed", 3, 2, 1)) == "3 x tp2"
    assert Pool("mixed", 3, 2, 4).devices == 24
    assert split(2, 1, tp=4).devices == 12 and split(1, 1).kind == "disaggregated" and mixed(1).kind == "mixed"


def test_the_best_holds_the_most_then_fails_last_then_is_smallest() -> None:
    a, b, c = tried(mixed(1), 2.0, 2.5), tried(mixed(2), 2.0, 3.0), tried(mixed(4), 2.0, 3.0)
    never, nowhere = tried(mixed(8), 2.0, None), tried(mixed(3), None, 1.0)
    assert result(nowhere, a, c, b).ranked == [b, c, a, nowhere]
    assert result(nowhere, a, c, b, never).best is never, "one that was never seen to fail may hold more"
    broken = tried(mixed(5), 9.0, None, error="it does not fit")
    assert result(broken, a).best is a, "what cannot be run wins nothing"
    assert result(nowhere).best is None and result(nowhere).ties == ()


def test_a_tie_has_not_been_seen_to_fail_where_the_best_holds() -> None:
    best = tried(mixed(1), 2.0, 2.2)
    same, apart, unknown = tried(mixed(2), 1.9, 2.1), tried(mixed(4), 1.9, 2.0), tried(mixed(8), 1.0, None)
    nowhere = tried(mixed(3), None, 2.5)
    found = result(best, same, apart, unknown, nowhere)
    assert found.ties == (same, unknown)
    assert [found.place_of(each) for each in (best, same, apart, unknown, nowhere)] == ["best", "tie", "-5 %", "tie", ""]


def test_how_many_copies_serve_a_rate() -> None:
    """4 devices at 2.5 requests/s each serve 10 a copy: exactly 10, 20, ... are served by 1, 2, ... copies."""
    best = tried(mixed(4), 2.5, 3.0, values={"arrivals_per_s": 8.0})
    assert [result(best).replicas(rate) for rate in (0.1, 10.0, 10.1, 20.0, 95.0)] == [1, 1, 2, 2, 10]
    assert result(best).replicas(0.1 + 0.2, per_s=False) == 1
    assert result(tried(mixed(1), 0.1, 0.2)).replicas(0.1 + 0.2) == 3, "0.1 + 0.2 is three times 0.1, whatever binary fractions say"
    assert [result(best).replicas(rate, per_s=True) for rate in (8.0, 8.1, 80.0)] == [1, 2, 10]
    assert result(tried(mixed(4), 2.5, 3.0)).replicas(8.0, per_s=True) == 0, "a run that does not say how many requests it served"
    assert result(tried(mixed(4), None, 3.0)).replicas(8.0) == 0


def test_the_answer_where_none_holds_names_the_lightest_load() -> None:
    found = result(tried(mixed(1), None, 3.0), tried(mixed(2), None, 1.5), tried(mixed(4), None, 0.5, error="it does not fit"))
    assert found.message == ("No placement holds: 'ttft.p90 <= 0.2' fails even at 1.5 requests/s a device, the lightest load tried.")


def test_the_answer_says_where_it_fails_and_why() -> None:
    best = tried(split(1, 1), 2.0, 2.1, limit="ttft.p90 <= 0.2 (found 0.3)")
    assert result(best).message == (
        "Best: prefill tp1 + decode tp1, holds at 2 requests/s a device (4 on 2 devices). It fails at 2.1 a device, 5 % more: "
        "ttft.p90 <= 0.2 (found 0.3)."
    )
    alone = tried(mixed(1), 2.0, 2.1, saturates=True)
    assert result(alone).message == (
        "Best: mixed tp1, holds at 2 requests/s a device (2 on 1 device). At 2.1 a device, 5 % more, the queue grows through the run "
        "while the predicate still holds."
    )


def test_the_answer_for_clients_says_how_many_requests_come_of_them() -> None:
    best = tried(mixed(2), 8.0, 9.0, limit="x", values={"arrivals_per_s": 3.14159})
    assert "(16 on 2 devices, 3.14 requests/s)" in result(best, rate_key="workload.concurrency").message
    assert "requests/s)" not in result(best).message, "a rate is not said twice"


@pytest.mark.parametrize(
    ("values", "words"),
    [({}, "the heaviest load that was tried: what is tested may not depend on this load at all")],
)
def test_the_answer_where_the_best_never_failed(values: dict[str, float | None], words: str) -> None:
    message = result(tried(mixed(1), 2.0, None, values=values)).message
    assert message == f"Best: mixed tp1, holds at 2 requests/s a device (2 on 1 device). It never failed, {words}."


def test_ties_are_named_up_to_four() -> None:
    best = tried(mixed(1), 2.0, 2.1, limit="x")
    ties = [tried(mixed(tp), 1.9, 2.05) for tp in range(2, 9)]
    said = "At this tolerance (5 %) the search does not tell it from "
    assert f"{said}mixed tp2; a smaller --tolerance may." in result(best, *ties[:1]).message
    assert f"{said}mixed tp2, mixed tp3, mixed tp4, mixed tp5; a smaller" in result(best, *ties[:4]).message
    assert f"{said}mixed tp2, mixed tp3, mixed tp4, mixed tp5 and 1 more; a smaller" in result(best, *ties[:5]).message
    assert "does not tell" not in result(best).message


def test_the_best_of_the_other_kind_is_compared() -> None:
    best = tried(split(1, 1), 3.0, 3.1, limit="x")
    far, near, nowhere = tried(mixed(1), 2.0, 2.1), tried(mixed(2), 2.9, 3.05), tried(mixed(4), None, 1.0)
    assert result(best, far, nowhere).message.endswith("x. That is 1.5 times the best mixed one: mixed tp1.")
    assert result(best, near).message.endswith("The best mixed one is as good, as far as this search tells: mixed tp2.")
    assert result(best, nowhere).message.endswith(": x.")
    assert "times the best disaggregated one" in result(tried(mixed(1), 4.0, 4.1, limit="x"), best).message


def test_notes_name_three_placements_that_cannot_be_run() -> None:
    broken = [tried(mixed(tp), None, None, error="it does not fit") for tp in range(1, 6)]
    assert [note for note in result(*broken[:3]).notes if "fit" in note or "more" in note] == [
        f"mixed tp{tp}: it does not fit" for tp in (1, 2, 3)
    ]
    assert result(*broken, search_notes=("first of all",)).notes[:5] == [
        "first of all",
        *(f"mixed tp{tp}: it does not fit" for tp in (1, 2, 3)),
        "and 2 more placements that cannot be run",
    ]


def test_the_table_and_the_file_have_the_placements_that_could_be_run_best_first() -> None:
    best = tried(mixed(4), 2.0, 2.1, limit="why", probes=7, values={"ttft_p90_s": 0.1, "attainment": 0.99}, saturates=True)
    other, broken = tried(mixed(1), 1.0, 1.1, dropped=True), tried(mixed(2), None, None, error="it does not fit")
    found = result(other, broken, best)
    frame = found.frame
    assert frame["placement"].tolist() == ["mixed tp4", "mixed tp1"] and frame["place"].tolist() == ["best", "-50 %"]
    assert frame["devices"].tolist() == [4, 1] and frame["holds_at"].tolist() == [2.0, 1.0] and frame["fails_at"].tolist() == [2.1, 1.1]
    assert frame["probes"].tolist() == [7, 3] and frame["fails_because"].tolist() == ["why", ""]
    assert frame["ttft_p90_s"].tolist()[0] == 0.1 and frame.columns.tolist().count("ttft_p90_s") == 1
    written = found.as_dict()
    assert (written["best"], written["rate_per_device"], written["ties"], written["unit"]) == ("mixed tp4", 2.0, [], "requests/s")
    assert [row["placement"] for row in written["placements"]] == ["mixed tp4", "mixed tp1", "mixed tp2"]
    assert written["placements"][0] == {
        "placement": "mixed tp4",
        "pools": [{"role": "mixed", "count": 1, "tp": 4, "pp": 1}],
        "devices": 4,
        "holds_at": 2.0,
        "fails_at": 2.1,
        "dropped": False,
        "probes": 7,
        "bounded": 0,
        "fails_because": "why",
        "saturates": True,
        "error": None,
        "figures": {"ttft_p90_s": 0.1, "attainment": 0.99},
    }
    assert written["placements"][1]["dropped"] and written["placements"][2]["error"] == "it does not fit"
    nothing = result(broken, tried(mixed(1), None, 1.0)).as_dict()
    assert nothing["best"] is None and nothing["rate_per_device"] is None
