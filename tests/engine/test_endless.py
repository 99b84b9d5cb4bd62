"""A run that cannot finish is an error that says who waits for what: never a run without an end."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.contracts import PolicyParams
from simserve.engine import simulate
from simserve.engine.control import ClusterControl
from simserve.engine.spec import Failures
from simserve.errors import ConfigError, PolicyError
from tests.engine.cluster_world import Says, routed, serve, spec, work

NO_INSTANCE = Says(lambda request, view: None)


class Flips:
    """A controller that starts what is off and drains what is up, for ever."""

    Params = PolicyParams
    idle = True
    interval_s = 1.0

    def act(self, cluster: ClusterControl) -> None:
        for number, state in enumerate(cluster.states):
            (cluster.start if state == "off" else cluster.drain)(number)


@pytest.mark.parametrize(
    "alive",
    [
        {"failures": Failures(mtbf_s=3.0, restart_s=1.0)},
        {"failures": Failures(mtbf_s=3.0, restart_s=1.0), "refresh_s": 0.5},
        {"controllers": (Flips(),)},
        {"refresh_s": 0.5},
    ],
    ids=["failures", "failures and stale signals", "a controller", "stale signals"],
)
def test_what_happens_by_the_clock_alone_does_not_keep_a_run_alive(alive: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"2 requests have not ended: 2 wait for an instance to take them and none does"):
        serve(work([0.0, 0.5], [8, 8], [4, 4]), spec(boot_s=2.0), spec(boot_s=2.0), router=NO_INSTANCE, **alive)


def test_long_pauses_between_requests_are_no_deadlock() -> None:
    """Hundreds of thousands of ticks and thousands of failures pass between two requests of a day."""
    failures = Failures(mtbf_s=40.0, restart_s=1.0, seed=3)
    records = simulate(work([0.0, 80_000.0], [8, 8], [4, 4]), [spec()], routed(failures=failures, refresh_s=0.5))
    assert records.requests.generated_tokens.tolist() == [4, 4]
    assert records.counters["instance_failures"] > 1000


@pytest.mark.parametrize("rule", ["resume", "retry"])
def test_failures_faster_than_a_request_is_served_are_named(rule: str) -> None:
    failures = Failures(mtbf_s=0.5, restart_s=0.1, rule=rule)
    with pytest.raises(ConfigError, match=rf"request 0 has lost its instance 1000 times \(rule '{rule}'\)"):
        serve(work([0.0], [380], [10]), spec(), failures=failures)


def test_a_deadlock_says_who_waits_for_what() -> None:
    class Idle:
        Params = PolicyParams

        def plan(self, view: Any) -> Any:
            return view.new_plan()

    decode = spec("d", scheduler=Idle(), role="decode")
    with pytest.raises(PolicyError, match=r"policy 'vllm-v1|Idle' of instance 1 plans nothing with 2 decoding requests"):
        serve(work([0.0, 0.0], [8, 8], [4, 4]), spec("p", role="prefill"), decode)
