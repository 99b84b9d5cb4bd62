"""A controller that asks which instances may be below a bound is told of all that are."""

import math
from pathlib import Path
from typing import Any

import pytest

from simserve.contracts import ClusterControl
from simserve.errors import SimserveError
from simserve.policies.freeness import freeness
from simserve.policies.rebalancing.llumnix import LlumnixMigration
from tests.engine.campaign import run
from tests.engine.random_experiments import experiment

BOUNDS = (0.0, 1.0, 3.0, 10.0, 100.0)


def moving(seed: int) -> bool:
    return any(one["policy"] == "llumnix-migration" for one in experiment(seed).mapping["cluster"].get("controllers", ()))


def test_none_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act = LlumnixMigration.act
    polls, missed, told, below = 0, [], 0, 0

    def watched(self: Any, cluster: ClusterControl) -> None:
        nonlocal polls, told, below
        polls += 1
        scores = {
            number: -math.inf if state == "draining" else freeness(cluster.load(number))
            for number, state in enumerate(cluster.states)
            if state in ("up", "draining")
        }
        for bound in BOUNDS:
            found = cluster.may_be_below(freeness, bound)
            true = [number for number, score in scores.items() if score < bound]
            missed.extend(set(true) - set(found))
            told, below = told + len(found), below + len(true)
            assert found == sorted(set(found)) and set(found) <= set(scores)
        act(self, cluster)

    monkeypatch.setattr(LlumnixMigration, "act", watched)
    for seed in [seed for seed in range(1000, 1400) if moving(seed)][:25]:
        try:
            run(experiment(seed), tmp_path, False)
        except SimserveError:  # some are to be refused
            continue
    assert not missed
    assert polls > 300 and below > 200
    assert told < 1.3 * below, "and not of many others"


@pytest.mark.pure("a part of the engine is replaced")
def test_a_poll_looks_closely_only_at_instances_that_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    import simserve
    from simserve.engine.instance import Instance

    looks = 0
    load = Instance.load

    def counted(self: Instance, exact: bool = True) -> Any:
        nonlocal looks
        looks += 1
        return load(self, exact)

    monkeypatch.setattr(Instance, "load", counted)
    spec = {
        "model": "llama-3-8b",
        "hardware": "h100-sxm-80gb",
        "cluster": {
            "instances": [{"count": 16}],
            "network": {"bytes_per_s": 1e10},
            "controllers": [{"policy": "llumnix-migration", "interval_s": 0.001}],
        },
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": 4},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 200}, "output": {"kind": "fixed", "tokens": 100}},
            "count": 40,
        },
    }
    plans = simserve.run(spec).records.counters["plans"]
    assert looks < 3 * plans + 100, "a thousand polls a second of sixteen instances are a hundred times as many"
