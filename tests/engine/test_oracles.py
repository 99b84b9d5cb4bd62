"""An oracle knows output lengths wherever a request comes from, and no other policy does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.engine.records import Status
from simserve.engine.request import OracleRequest
from simserve.engine.spec import Failures
from simserve.policies import registry
from simserve.policies.scheduling.vllm_v1 import VllmV1
from tests.engine.cluster_world import Orders, Says, moves, serve, spec, work


class Watches(VllmV1):
    """vLLM V1 that notes which requests it is shown with their output lengths."""

    def __init__(self, oracle: bool) -> None:
        super().__init__(VllmV1.Params(max_seqs=8))
        self.oracle = oracle
        self.told: set[bool] = set()

    def __deepcopy__(self, memo: Any) -> Watches:
        return self  # the second run of a checked one is watched as well

    def plan(self, view: Any) -> Any:
        for request in [*view.waiting, *view.prefilling, *view.decoding, *view.swapped]:
            self.told.add(isinstance(request, OracleRequest))
        return super().plan(view)


LOAD = work([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [16] * 6, [60, 50, 40, 30, 20, 10])


@pytest.mark.parametrize("kv_transfer", ["pull", "push"])
@pytest.mark.parametrize(("order", "policy"), [("shortest-job", "vllm-v1"), ("fcfs", "orca"), ("fcfs", "static")])
def test_an_oracle_on_the_decode_instance_only(order: str, policy: str, kv_transfer: str) -> None:
    """Ten tokens' worth of blocks are too few: requests are preempted there and wait in its order, or are reserved for to their end."""
    decode = spec("d", policy, role="decode", order=registry.order(order), kv_blocks=24)
    if policy != "vllm-v1":
        decode.scheduler.params = type(decode.scheduler).Params(max_seqs=8, reserve="oracle")
        decode.scheduler.oracle = True
    records = serve(LOAD, spec("p", role="prefill"), decode, push=kv_transfer == "push")
    assert (records.requests.status == Status.COMPLETED).all()
    assert records.requests.preemptions.sum() > 0


@pytest.mark.parametrize("seeing", [0, 1])
def test_a_request_that_moves_is_shown_to_oracles_only(seeing: int) -> None:
    """By migration, and after a death by routing: what it was on the one instance is nothing to the other (I8)."""
    for how in ("migration", "death"):
        policies = [Watches(oracle=number == seeing) for number in (0, 1)]
        specs = [spec(f"i{number}", scheduler=policy) for number, policy in enumerate(policies)]
        if how == "migration":
            options: dict[str, Any] = {"controllers": (Orders((6.0, moves(0, 0, 1))),), "router": Says(0)}
        else:
            options = {"failures": Failures(times=((6.0, 0),), restart_s=1000.0), "router": Says(lambda r, v: v.open[0])}
        records = serve(work([0.0], [40], [60]), *specs, **options)
        assert records.requests.instance.tolist() == [1] and np.isfinite(records.requests.finish_s).all()
        assert policies[seeing].told == {True} and policies[1 - seeing].told == {False}, how
