"""A plan search in which no request is served says so and why; one on nodes costs what its run paid for."""

from __future__ import annotations

from typing import Any

import pytest

import simserve

BASE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "cluster": {"instances": [{"max_model_len": 512}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 5.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 900}, "output": {"kind": "fixed", "tokens": 20}},
        "count": 60,
    },
    "slo": {"ttft_s": 1.0, "tpot_s": 0.04},
    "plan": {"budget": {"devices": 2}, "tp": [1]},
}


@pytest.mark.parametrize("when", [None, "ttft.p99 <= 1"])
def test_every_request_rejected_is_said_plainly(when: str | None) -> None:
    result = simserve.plan(BASE, when, jobs=1)
    assert result.best is None
    assert "serves a single request" in result.message and "prompt exceeds the model's context" in result.message
    assert all(one.why == "every request is rejected: prompt exceeds the model's context" for one in result.outcomes if one.values)


def test_a_plan_on_nodes_costs_its_nodes() -> None:
    """One device on a node of two is two devices an hour."""
    pools = [{"node_devices": 2, "max_nodes": 2, "provision_s": 1}]
    base = {**BASE, "cluster": {"node_pools": pools}, "plan": {**BASE["plan"], "replicates": 2}, "seed": 3}
    result = simserve.plan({**base, "prices": {"usd_per_hour": {"h100-sxm-80gb": 3.0}}}, jobs=1)
    assert result.best is not None and result.best.devices == 1
    assert result.best.usd_per_hour == pytest.approx(6.0)
