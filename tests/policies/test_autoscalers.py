"""Autoscalers by name on clusters made of plain lists: Kubernetes' formula and its edges, stabilisation, rate limits, scaling to nothing,
spare capacity, forecasts; and on simulated ones: what they see and when."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from simserve.contracts import Load
from simserve.engine.records import Status
from simserve.errors import PolicyError
from simserve.policies import registry
from simserve.policies.scaling.replicas import RateLimit, Stabilisation, replicas_for_average, replicas_for_value
from tests.engine.cluster_world import Says, serve, spec, work


def made(name: str, **params: Any) -> Any:
    found = registry.controller_class(name)
    return found(found.Params(**params))


class Cluster(SimpleNamespace):
    """Instances whose loads are set by hand; those that start serve at once unless `boots`."""

    def __init__(self, states: list[str], **more: Any) -> None:
        n = len(states)
        base: dict[str, Any] = {"now": 0.0, "states": states, "roles": ["mixed"] * n, "held": 0, "loads": [Load(100, 100, 0, 0, 0)] * n}
        super().__init__(**base | {"tokens": [0] * n, "waits": [], "boots": False, **more})

    def load(self, number: int) -> Load:
        return self.loads[number]

    def generated(self, number: int) -> int:
        return self.tokens[number]

    def first_token_waits(self, since_s: float) -> list[float]:
        return [wait_s for at_s, wait_s in self.waits if at_s > since_s]

    def decided(self, *decision: Any) -> None:
        self.decisions = [*getattr(self, "decisions", []), decision]

    def start(self, number: int) -> None:
        self.states[number] = "booting" if self.boots else "up"

    def drain(self, number: int) -> None:
        self.states[number] = "off"

    @property
    def up(self) -> int:
        return self.states.count("up")

    def waiting(self, *queues: int) -> None:
        self.loads = [Load(100, 100, 0, queue, 0) for queue in queues] + [Load(100, 100, 0, 0, 0)] * (len(self.states) - len(queues))


def after(policy: Any, cluster: Cluster, now: float) -> Cluster:
    cluster.now = now
    policy.act(cluster)
    return cluster


# ---- Kubernetes' formula ----


@pytest.mark.parametrize(
    ("average", "ready", "booting", "wanted"),
    [
        (10.0, 2, 0, 4),  # ceil(2 x 10 / 5)
        (5.4, 2, 0, 2),  # within the tolerance of a tenth
        (5.6, 2, 0, 3),
        (1.0, 4, 0, 1),
        (0.0, 4, 0, 0),
        (10.0, 2, 2, 4),  # those that boot use nothing: 20 in 4 pods is the target
        (20.0, 2, 2, 8),
        (6.0, 2, 2, 4),  # with them it would be below the target: the decision is turned round, nothing changes
        (1.0, 2, 2, 3),  # asking for less they use their target: (2 + 10) / 4 / 5 x 4 = 2.4
        (9.0, 0, 2, 2),  # nothing is known
    ],
)
def test_replicas_for_the_mean_of_a_pod(average: float, ready: int, booting: int, wanted: int) -> None:
    assert replicas_for_average(average, 5.0, ready, booting, 0.1) == wanted


def test_replicas_for_a_value_of_the_service() -> None:
    assert replicas_for_value(1.0, 0.5, 3, 0, 0.1) == 6
    assert replicas_for_value(0.54, 0.5, 3, 1, 0.1) == 4, "within the tolerance"
    assert replicas_for_value(0.1, 0.5, 3, 2, 0.1) == 1, "of the ready ones"


def test_an_exact_quotient_is_not_rounded_up() -> None:
    """3 x (0.7 / 0.7 x 3): floating point must not ask for one more."""
    assert replicas_for_average(0.1 * 3, 0.1, 3, 0, 0.0) == 9


def test_stabilisation_takes_the_most_of_the_window_going_down_and_the_least_going_up() -> None:
    down = Stabilisation(up_s=0.0, down_s=300.0)
    assert down.stabilised(0.0, 8, 8) == 8
    assert down.stabilised(15.0, 8, 2) == 8
    assert down.stabilised(30.0, 8, 4) == 8
    assert down.stabilised(300.0, 8, 3) == 4, "8 was asked for 300 s ago, 4 since"
    up = Stabilisation(up_s=60.0, down_s=0.0)
    assert up.stabilised(0.0, 1, 2) == 2
    assert up.stabilised(15.0, 2, 9) == 2
    assert up.stabilised(61.0, 2, 9) == 9


def test_four_or_twice_as_many_within_a_period() -> None:
    limit = RateLimit(percent=100.0, replicas=4, period_s=15.0)
    assert limit.most(0.0, 1) == 5
    limit.note(0.0, 4)
    assert limit.most(10.0, 5) == 5, "from 1 at the beginning of the period"
    assert limit.most(15.0, 5) == 10
    down = RateLimit(percent=50.0, replicas=0, period_s=60.0)
    assert down.least(0.0, 9) == 4
    down.note(0.0, 5)
    assert down.least(30.0, 4) == 4


# ---- the horizontal pod autoscaler ----


def test_it_follows_the_queue_with_its_lag_and_scales_down_after_five_minutes() -> None:
    policy, cluster = made("hpa", targets={"waiting": 5}), Cluster(["up"] + ["off"] * 7)
    cluster.waiting(30)
    assert after(policy, cluster, 15.0).up == 1, "what it knows is a check old"
    assert after(policy, cluster, 30.0).up == 5, "6 are asked for, 4 may come at once"
    cluster.waiting(30, 0, 0, 0, 0)
    after(policy, cluster, 45.0)
    assert after(policy, cluster, 60.0).up == 6
    cluster.waiting()
    assert all(after(policy, cluster, now).up == 6 for now in range(75, 331, 15))
    assert after(policy, cluster, 375.0).up == 1


def test_the_metric_that_asks_for_most_counts_and_a_silent_one_forbids_less() -> None:
    policy, cluster = made("hpa", targets={"waiting": 5, "kv_usage": 0.5}, metric_lag_s=0), Cluster(["up"] * 2 + ["off"] * 6)
    cluster.loads = [Load(10, 100, 9, 0, 0)] * 8
    assert after(policy, cluster, 15.0).up == 4, "90 % of the KV cache: ceil(2 x 0.9 / 0.5)"
    quiet = made("hpa", targets={"waiting": 5, "ttft_s": 0.5}, metric_lag_s=0, scale_down_stabilisation_s=0)
    cluster = Cluster(["up"] * 4)
    assert after(quiet, cluster, 15.0).up == 4, "no request had a first token: it cannot be said that fewer would do"
    cluster.waits = [(20.0, 0.1), (21.0, 0.2)]
    assert after(quiet, cluster, 30.0).up == 2, "0.15 s of 0.5 s: ceil(4 x 0.3)"


def test_tokens_and_requests_a_second_are_rates_over_the_window() -> None:
    policy = made("hpa", targets={"tokens_per_s": 100}, metric_lag_s=0, window_s=30)
    cluster = Cluster(["up"] + ["off"] * 9)
    after(policy, cluster, 15.0)
    cluster.tokens[0] = 4500  # 300 a second
    assert after(policy, cluster, 30.0).up == 3
    policy.ended([SimpleNamespace(generated_tokens=4500, first_token_s=20.0, released_s=19.0)], 0, 40.0)
    cluster.tokens[0] = 0  # it has ended: its tokens go on counting, so nothing was emitted since
    assert policy.exported.read(30.0).values["tokens_per_s"] == pytest.approx(300.0)
    after(policy, cluster, 45.0)
    assert policy.exported.read(45.0).values["tokens_per_s"] == pytest.approx(4500 / 30 / 3)
    assert policy.exported.read(45.0).values["requests_per_s"] == pytest.approx(1 / 30 / 3)


def test_limits_and_roles() -> None:
    policy, cluster = made("hpa", targets={"waiting": 1}, metric_lag_s=0, max_instances=2, role="decode"), Cluster(["up"] * 2 + ["off"] * 4)
    cluster.roles = ["prefill", "decode", "decode", "decode", "mixed", "prefill"]
    cluster.waiting(0, 90)
    after(policy, cluster, 15.0)
    assert cluster.states == ["up", "up", "up", "off", "off", "off"]
    with pytest.raises(PolicyError, match="role 'decode' finds none; the cluster has mixed instances"):
        after(policy, Cluster(["up"]), 30.0)


def test_outside_of_its_bounds_it_is_brought_into_them_before_any_metric_is_known() -> None:
    """As Kubernetes does, whatever was asked for before and however fast it may scale."""
    for name, params in (("hpa", {"targets": {"waiting": 5}, "up_instances": 1, "up_percent": 0}), ("saturation", {})):
        assert after(made(name, min_instances=3, **params), Cluster(["up"] + ["off"] * 7), 15.0).up == 3, name
    many = Cluster(["up"] * 6)
    assert after(made("hpa", targets={"waiting": 5}, max_instances=2), many, 15.0).up == 2


@pytest.mark.parametrize("name", ["hpa", "keda", "saturation", "forecast"])
def test_bounds_that_no_number_is_between(name: str) -> None:
    needed = {"hpa": {"targets": {"waiting": 5}}, "forecast": {"requests_per_s": 1}}.get(name, {})
    with pytest.raises(ValidationError, match="min_instances is 3 and max_instances 2"):
        made(name, min_instances=3, max_instances=2, **needed)


@pytest.mark.parametrize("targets", [{}, {"waiting": 0}, {"kv_usage": 1.5}, {"queue": 5}])
def test_targets_that_cannot_be(targets: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        made("hpa", targets=targets)


# ---- scaling to nothing ----


def test_it_scales_to_nothing_after_the_cooldown_and_from_nothing_at_the_next_poll() -> None:
    policy, cluster = made("keda", scale_down_stabilisation_s=0), Cluster(["up", "off"])
    cluster.loads = [Load(90, 100, 1, 0, 0)] * 2
    after(policy, cluster, 15.0)
    cluster.loads = [Load(100, 100, 0, 0, 0)] * 2
    assert all(after(policy, cluster, now).up == 1 for now in range(30, 315, 15))
    assert after(policy, cluster, 315.0).up == 0
    assert after(policy, cluster, 330.0).up == 0
    cluster.held = 1
    assert after(policy, cluster, 335.0).up == 0, "it looks every 30 s"
    assert after(policy, cluster, 345.0).up == 1


def test_with_a_minimum_it_never_reaches_nothing() -> None:
    policy, cluster = made("keda", min_instances=1, cooldown_s=0), Cluster(["up", "up"])
    assert all(after(policy, cluster, now).up >= 1 for now in range(15, 1000, 15)) and cluster.up == 1


# ---- spare capacity ----


@pytest.mark.parametrize(
    ("each", "count"),
    [
        ([(0.75, 2), (0.76, 2), (0.74, 2)], 4),  # 0.05 of the KV cache is spare on average, below 0.1
        ([(0.5, 3), (0.5, 2), (0.5, 3)], 4),  # 2.3 of the queue, below 3
        ([(0.9, 0), (0.9, 0), (0.9, 0)], 4),  # all are saturated
        ([(0.6, 0), (0.6, 0), (0.6, 0)], 3),  # on two of them 0.9
        ([(0.4, 0), (0.4, 0), (0.4, 0)], 2),  # on two of them 0.6: 0.2 to spare
        ([(0.1, 0), (0.95, 0), (0.95, 0)], 3),  # one alone is not saturated, and what it could take is not known
    ],
)
def test_spare_capacity(each: list[tuple[float, int]], count: int) -> None:
    policy, cluster = made("saturation", metric_lag_s=0), Cluster(["up"] * 3 + ["off"])
    cluster.loads = [Load(round(1000 * (1 - usage)), 1000, 1, queue, 0) for usage, queue in [*each, (0.0, 0)]]
    assert after(policy, cluster, 15.0).up == 3, "it decides every minute"
    assert after(policy, cluster, 60.0).up == count


def test_nothing_is_decided_while_one_boots() -> None:
    policy, cluster = made("saturation", metric_lag_s=0), Cluster(["up", "off", "off"], boots=True)
    cluster.waiting(9)
    assert after(policy, cluster, 60.0).states == ["up", "booting", "off"]
    assert after(policy, cluster, 120.0).states == ["up", "booting", "off"]


# ---- forecasts ----


def test_a_rising_rate_is_met_before_it_comes() -> None:
    """1, 2, 3 ... requests a second, minute by minute, and 10 an instance: Holt's forecast runs ahead of what has come."""
    ahead = made("forecast", requests_per_s=10, utilisation=1.0, interval_s=60, horizon_s=300, level=0.8, trend=0.8)
    behind = made("forecast", requests_per_s=10, utilisation=1.0, interval_s=60, horizon_s=0, level=1.0, trend=0.0)
    one, other = Cluster(["up"] + ["off"] * 20), Cluster(["up"] + ["off"] * 20)
    for minute in range(1, 41):
        for policy, cluster in ((ahead, one), (behind, other)):
            policy.ended([SimpleNamespace()] * (60 * minute), 0, 60.0 * minute)
            after(policy, cluster, 60.0 * minute)
    assert other.up == 4
    assert one.up == math.ceil((40 + 5) / 10)


def test_what_comes_again_is_met_where_it_was() -> None:
    policy = made("forecast", requests_per_s=1, utilisation=1.0, interval_s=60, horizon_s=120, season_s=600, scale_down_stabilisation_s=0)
    cluster, counts = Cluster(["up"] + ["off"] * 9), {}
    for minute in range(1, 21):
        policy.ended([SimpleNamespace()] * (60 * (5 if minute in (5, 15) else 1)), 0, 60.0 * minute)
        counts[minute] = after(policy, cluster, 60.0 * minute).up
    assert counts[4] == 1 and counts[13] >= 5, "two minutes before the second peak"


# ---- in a simulation ----


@pytest.mark.parametrize(
    "policy", [made("keda", interval_s=1.0, polling_s=1.0, cooldown_s=5.0, metric_lag_s=0.0, scale_down_stabilisation_s=0.0)]
)
def test_from_nothing_to_nothing_and_back(policy: Any) -> None:
    load = work([0.0, 100.0], [8, 8], [20, 20])
    records = serve(load, spec(boot_s=3.0), spec(boot_s=3.0), router=Says(lambda r, v: v.open[0]), controllers=(policy,))
    assert (records.requests.status == Status.COMPLETED).all()
    off_s = [at_s for at_s, number, state in records.instance_states if number == 0 and state == "off"]
    assert off_s and off_s[0] < 100.0
    assert 103.0 <= records.requests.scheduled_s[1] <= 105.0


def test_it_sees_first_tokens_and_tokens_as_they_come() -> None:
    """A controller that reads what the engine tells, in the middle of a request's decodes."""
    seen = []

    class Reads:
        Params = registry.controller_class("llumnix-scaling").Params
        idle = False
        interval_s = 1.0

        def act(self, cluster: Any) -> None:
            seen.append((cluster.now, cluster.generated(0), cluster.first_token_waits(-1.0)))

    records = serve(work([0.0], [8], [30]), spec(), controllers=(Reads(),))
    finish_s, first_s = float(records.requests.finish_s[0]), float(records.requests.first_token_s[0])
    assert len(seen) > 5
    for now, tokens, waits in seen[1:-1]:
        done = 1 + math.floor((now - first_s) / (finish_s - first_s) * 29 + 1e-6)
        assert abs(tokens - done) <= 1 and waits == [first_s]
