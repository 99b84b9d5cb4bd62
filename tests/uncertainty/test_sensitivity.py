"""What a run says of its own reaction to slower steps is what happens when it is run again with slower steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import simserve
from simserve.config.assemble import assemble
from simserve.report.result import Result
from simserve.simulation import simulated_parts
from simserve.uncertainty.sensitivity import STRETCH, Sensitivity, sensitivity_of
from simserve.uncertainty.stretched import StretchedCost

OPEN = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "engine": "vllm-v1",
    "cluster": {"instances": [{"count": 1, "scheduler": {"max_seqs": 64}}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 10.0},
        "lengths": {
            "prompt": {"kind": "lognormal", "median_tokens": 600, "sigma": 0.7},
            "output": {"kind": "lognormal", "median_tokens": 150, "sigma": 0.5},
        },
        "count": 1500,
    },
    "metrics": {"warmup_s": 10},
}
CLOSED = {**OPEN, "workload": {"closed_loop": {"concurrency": 16}, "lengths": OPEN["workload"]["lengths"], "count": 300}}  # type: ignore[index]


def run(spec: dict[str, object], stretch: float, **changes: object) -> Result:
    experiment = simserve.load(spec, **changes)
    parts = assemble(experiment)
    slower = tuple(replace(one, cost=StretchedCost(one.cost, stretch)) for one in parts.instances)
    return simulated_parts(experiment, replace(parts, instances=slower))


def figures(result: Result) -> dict[str, float]:
    summary = result.summary_dict()
    latency = {name: summary["latency"]["all"][f"{name}_s"]["mean"] for name in ("ttft", "tpot", "e2e")}
    return latency | {"rate": summary["throughput"]["output_tokens_per_s"]}


def seen(spec: dict[str, object], **changes: object) -> dict[str, float]:
    """Elasticities by running again."""
    up, down = (figures(run(spec, f, **changes)) for f in (STRETCH, 1.0 / STRETCH))
    return {name: math.log(up[name] / down[name]) / (2.0 * math.log(STRETCH)) for name in up}


def told(spec: dict[str, object], **changes: object) -> Sensitivity:
    return sensitivity_of(run(spec, 1.0, **changes).records)


def test_a_closed_loop_moves_as_its_steps_do() -> None:
    real, own = seen(CLOSED), told(CLOSED)
    assert own == Sensitivity() and own.load is None
    for name in ("tpot", "e2e", "rate"):
        assert getattr(own, name) == pytest.approx(real[name], abs=0.05), name
    assert 0.3 < real["ttft"] <= 1.0, "the request path, half of it, is no step"


@pytest.mark.parametrize(("rate", "within"), [(4.0, 0.3), (12.0, 0.5)])
def test_below_capacity_batches_and_waits_are_foreseen(rate: float, within: float) -> None:
    changes = {"workload.arrivals.rate_per_s": rate}
    real, own = seen(OPEN, **changes), told(OPEN, **changes)
    for name in ("ttft", "tpot", "e2e"):
        assert getattr(own, name) == pytest.approx(real[name], abs=within), (name, own, real)
    assert abs(own.rate) < 0.3 and abs(real["rate"]) < 0.3, "the rate is the load's"


def test_where_slots_begin_to_fill_up_first_tokens_move_by_several_times_as_much_as_steps() -> None:
    changes = {"workload.arrivals.rate_per_s": 18.0}
    real, own = seen(OPEN, **changes), told(OPEN, **changes)
    assert own.ttft > 2.0 and real["ttft"] > 2.0, "how much exactly is not foreseen: one queue stands for 64 slots"
    assert own.tpot == pytest.approx(real["tpot"], abs=0.3)


def test_the_load_says_where_the_queue_starts_to_grow() -> None:
    loads = {rate: told(OPEN, **{"workload.arrivals.rate_per_s": rate}).load or 0.0 for rate in (5.0, 10.0, 20.0)}
    assert loads[10.0] == pytest.approx(2.0 * loads[5.0], rel=0.15) and loads[20.0] == pytest.approx(2.0 * loads[10.0], rel=0.15)
    capacity = 10.0 / loads[10.0]
    below, above = (run(OPEN, 1.0, **{"workload.arrivals.rate_per_s": f * capacity}) for f in (0.8, 1.3))
    assert not below.summary_dict()["saturation"]["saturated"] and above.summary_dict()["saturation"]["saturated"]


def test_first_tokens_react_the_more_the_nearer_the_load_is_to_capacity() -> None:
    loads = (0.3, 0.7, 0.97)
    capacity = 10.0 / (told(OPEN).load or 1.0)
    found = [told(OPEN, **{"workload.arrivals.rate_per_s": f * capacity}).ttft for f in loads]
    assert found == sorted(found) and found[2] > 1.5 * found[0], found


def test_above_capacity_devices_decide_the_rate() -> None:
    capacity = 10.0 / (told(OPEN).load or 1.0)
    changes = {"workload.arrivals.rate_per_s": 1.6 * capacity}
    assert told(OPEN, **changes).rate == pytest.approx(seen(OPEN, **changes)["rate"], abs=0.25)


def test_a_run_that_is_cut_has_the_load_that_it_had_until_then() -> None:
    """It has worked for requests that it did not complete: their releases count as its work does."""
    whole, cut = (told(OPEN, **changes).load or 0.0 for changes in ({}, {"until_s": 20.0}))
    assert cut == pytest.approx(whole, rel=0.2)
