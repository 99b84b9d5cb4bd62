"""Bounds hold: no simulation serves more than the capacity bound allows, or answers sooner than an empty instance can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simserve
from simserve.study.limits import broken_at_best, limits, tightest
from simserve.study.plan.bounds import bounds, least_time
from simserve.study.plan.offered import offered, shortened
from simserve.study.predicate import parse

LOAD: dict[str, Any] = {
    "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
    "lengths": {
        "prompt": {"kind": "lognormal", "median_tokens": 300, "sigma": 0.8, "max_tokens": 4096},
        "output": {"kind": "lognormal", "median_tokens": 100, "sigma": 0.8, "max_tokens": 1024},
    },
    "count": 400,
}


def experiment(workload: dict[str, Any] | None = None, **changes: Any) -> Any:
    return simserve.load(
        {
            "model": "llama-3.1-8b",
            "hardware": "h100-sxm-80gb",
            "workload": workload or LOAD,
            "slo": {"ttft_s": 0.5, "tpot_s": 0.05},
            **changes,
        }
    )


def one(role: str = "mixed", **group: Any) -> dict[str, Any]:
    return {"count": 1, "role": role, **group}


def test_the_least_time_of_a_mix_by_hand() -> None:
    """Decodes alone 1 s for 10, prompts alone 1 s for 100, both together 1.2 s: mixing is the best of 10 and 100, and of more prompts
    the rest runs alone."""
    steps = np.array([[10.0, 0.0, 1.0], [0.0, 100.0, 1.0], [10.0, 100.0, 1.2]])
    assert least_time(steps, 10, 0) == pytest.approx(1.0)
    assert least_time(steps, 10, 100) == pytest.approx(1.2)
    assert least_time(steps, 10, 300) == pytest.approx(1.2 + 2.0)
    assert least_time(steps, 0, 0) == 0.0


@pytest.mark.parametrize(
    "group",
    [
        one(),
        one(scheduler={"max_seqs": 16}),
        one(scheduler={"max_num_batched_tokens": 512}),
        one(parallel={"tp": 2}),
        one(parallel={"pp": 2}),
        one(kv={"blocks": 800}),
    ],
)
def test_no_simulation_serves_more_than_the_bound_allows(group: dict[str, Any]) -> None:
    """All requests at once: an instance is never idle, so requests/s of the whole run are at most its capacity, and not far below."""
    open_load = experiment(cluster={"instances": [group]})
    known = bounds(open_load, offered(open_load), ())
    assert not known.error and len(known.demand) == 1
    load = offered(open_load)
    assert load.rate_per_s is not None
    capacity_per_s = load.rate_per_s / known.demand[0]
    at_once = experiment({**LOAD, "arrivals": {"kind": "poisson", "rate_per_s": 1e5}}, cluster={"instances": [group]})
    served_per_s = simserve.run(at_once).summary_dict()["throughput"]["requests_per_s"]
    assert 0.3 * capacity_per_s < served_per_s <= 1.02 * capacity_per_s


def test_pools_are_bounded_apart() -> None:
    both = experiment(cluster={"instances": [one("prefill"), one("decode")]})
    prefill, decode = bounds(both, offered(both), ()).demand
    whole = bounds(experiment(), offered(experiment()), ()).demand[0]
    assert 0 < prefill < whole and 0 < decode < whole < prefill + decode, "a mixed step reads the weights once for both"


def test_nothing_is_sooner_than_on_an_empty_instance() -> None:
    quantities = parse("ttft.p50 <= 1 and ttft.p99 <= 1 and tpot.p50 <= 1 and e2e.mean <= 9 and attainment >= 0.5").quantities
    for rate in (0.05, 20.0):
        placed = experiment({**LOAD, "arrivals": {"kind": "poisson", "rate_per_s": rate}, "count": 200})
        best = bounds(placed, offered(placed), quantities).best
        found = simserve.sweep(placed, seeds=[0], jobs=1).frame.iloc[0]
        assert set(best) == {q.column for q in quantities}
        for column in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "e2e_mean_s"):
            assert best[column] <= found[column] * 1.02, column
            assert rate > 1 or found[column] < 1.6 * best[column], "without load the bound is near"
        assert best["attainment"] >= found["attainment"] - 1e-9


def test_weights_that_do_not_fit_are_no_plan() -> None:
    large = experiment(model="llama-3.1-70b")
    assert "do not fit" in bounds(large, offered(large), ()).error or "fit" in bounds(large, offered(large), ()).error


def test_a_closed_loop_has_no_rate_and_overloads_nothing() -> None:
    closed = {key: value for key, value in LOAD.items() if key != "arrivals"} | {"closed_loop": {"concurrency": 8}}
    placed = experiment(closed)
    load = offered(placed)
    known = bounds(placed, load, ())
    assert (
        load.rate_per_s is None and known.demand == (0.0,) and known.utilisation((1,)) is None and known.overloaded((1,), ("mixed",)) == ""
    )


def test_a_workload_cut_short_keeps_its_kind() -> None:
    placed = experiment()
    load = offered(placed)
    assert shortened(placed, load, 1 / 9) == {"workload.count": 45} and shortened(placed, load, 1.0) == {}
    trace = simserve.load("quickstart")
    found = shortened(trace, offered(trace), 0.5)
    cut = simserve.load("quickstart", **found)
    whole, half = offered(trace).table, offered(cut).table
    assert len(half) == -(-len(whole) // 2) and half.arrival_s.tolist() == whole.arrival_s[: len(half)].tolist()


def test_limits_of_a_predicate() -> None:
    found = limits(parse("ttft.p99 <= 2 and 0.9 <= attainment and (tpot.p50 < 1 or goodput > 3) and ttft.p50 + tpot.p50 < 3"))
    assert [limit.text for limit in found] == ["ttft.p99 <= 2", "attainment >= 0.9"]
    assert found[0].margin(1.0) == 0.5 and found[0].margin(3.0) == -0.5 and found[1].margin(0.95) == pytest.approx(0.5)
    closest = tightest(found, {"ttft_p99_s": 1.0, "attainment": 0.91})
    assert closest is not None and closest[0].quantity.name == "attainment"
    assert broken_at_best(found, {"ttft_p99_s": 2.5}) == "ttft.p99 <= 2 (at least 2.5 on an empty instance)"
    assert broken_at_best(found, {"attainment": 0.5}) == "attainment >= 0.9 (at most 0.5 on an empty instance)"
    assert broken_at_best(limits(parse("goodput >= 3 and ttft.p99 >= 1")), {"ttft_p99_s": 0.5}) == "", "only what bounds can tell"
