"""Where a simulated instance reduces to a textbook queue, it must obey the textbook.

One sequence slot and one output token make an instance a single server: a request's service time is its one prefill step. Tolerances are
99.9 % confidence intervals from batch means (Law, Simulation Modeling and Analysis, ch. 9), with seeds fixed; each interval must also be
narrow enough to tell the right formula from a wrong one.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from scipy.stats import t as student_t

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords, Status
from simserve.policies import registry
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.invariants import complaints
from tests.engine.strategies import POLICIES
from tests.engine.unrolled import steps
from tests.reference.toy_cost import PromptCost

ROOMY: dict[str, dict[str, Any]] = {
    "vllm-v0": {"max_num_batched_tokens": 64},
    "vllm-v1": {"max_num_batched_tokens": 64},
    "sglang": {"chunked_prefill_size": 64},
    "sarathi": {"token_budget": 64},
    "fastgen": {"token_budget": 64},
    "orca": {},
    "static": {},
    "past-future": {"max_num_batched_tokens": 64},
    "distserve": {"max_num_batched_tokens": 64},
    "layered": {"max_num_batched_tokens": 64},
    "xy-serve": {"token_budget": 64},
}
"""Every policy with a budget that any prompt here fits: then one sequence slot makes them all the same server."""


def serve(
    arrival_s: Any,
    prompts: Any,
    service_s: dict[int, float],
    policy: str = "sarathi",
    order: str = "fcfs",
    priority: Any = None,
    **closed: Any,
) -> RunRecords:
    n = len(prompts)
    table = RequestTable.build(np.asarray(arrival_s, float), np.asarray(prompts), np.ones(n, np.int64), priority=priority)
    cls = scheduler_class(policy)
    scheduler = cls(cls.Params(**ROOMY[policy], max_seqs=1))
    cost = PromptCost(tuple(service_s.items()))
    spec = InstanceSpec("server", scheduler, cost, kv_blocks=64, block_tokens=1, max_seqs=1, order=registry.order(order))
    return simulate(Workload(table, **closed), [spec])


def poisson(rng: Generator, rate_per_s: float, n: int) -> Any:
    return np.cumsum(rng.exponential(1 / rate_per_s, n))


def waits(records: RunRecords) -> Any:
    return records.requests.scheduled_s - records.requests.released_s


def interval(values: Any, batches: int = 40, warm_up: int = 2000) -> tuple[float, float]:
    """Mean and half-width of its 99.9 % confidence interval from the means of consecutive batches, warm-up left out."""
    kept = values[warm_up : warm_up + (len(values) - warm_up) // batches * batches]
    means = kept.reshape(batches, -1).mean(axis=1)
    return float(means.mean()), float(student_t.ppf(0.9995, batches - 1) * means.std(ddof=1) / math.sqrt(batches))


def assert_near(values: Any, theory: float, width: float = 0.15) -> None:
    mean, half = interval(values)
    assert half <= width * theory, f"the interval {mean} +- {half} is too wide to say anything about {theory}"
    assert abs(mean - theory) <= half, f"{mean} +- {half}, theory says {theory}"


@pytest.mark.parametrize("policy", POLICIES)
def test_one_sequence_slot_follows_lindleys_recursion_exactly(policy: str) -> None:
    """start = max(arrival, end before), end = start + service, bit for bit (Lindley 1952), under every policy."""
    rng = Generator(PCG64(11))
    arrival, prompts = poisson(rng, 0.6, 800), rng.choice([4, 16], 800, p=[0.75, 0.25])
    service = {4: 0.7310585786, 16: 2.6180339887}
    r = serve(arrival, prompts, service, policy).requests
    end = 0.0
    for i in range(800):
        start = max(float(arrival[i]), end)
        end = start + service[int(prompts[i])]
        assert (r.scheduled_s[i], r.first_token_s[i], r.finish_s[i]) == (start, end, end)


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_md1_mean_wait(rho: float) -> None:
    """M/D/1: mean wait = rho D / (2 (1 - rho)); half of what M/M/1 would give, so the interval tells them apart."""
    n = 60_000
    records = serve(poisson(Generator(PCG64(int(100 * rho))), rho / 2.0, n), np.full(n, 8), {8: 2.0})
    assert_near(waits(records), rho * 2.0 / (2 * (1 - rho)))


def test_md1_distribution_of_the_wait() -> None:
    """Erlang (1909): P(W <= t) = (1 - rho) sum_k (-lambda (t - k D))^k / k! exp(lambda (t - k D)), k = 0 .. floor(t / D); D = 1."""
    n, rate = 60_000, 0.6
    w = waits(serve(poisson(Generator(PCG64(7)), rate, n), np.full(n, 8), {8: 1.0}))
    for t in (0.0, 0.5, 1.0, 2.0, 4.0):
        theory = (1 - rate) * sum((-rate * (t - k)) ** k / math.factorial(k) * math.exp(rate * (t - k)) for k in range(int(t) + 1))
        assert_near((w <= t + 1e-9).astype(float), theory, width=0.05)


def test_mg1_pollaczek_khinchine() -> None:
    """M/G/1 with two service times: mean wait = lambda E[S^2] / (2 (1 - rho)), well above the M/D/1 of the same mean service."""
    rng, n, rate = Generator(PCG64(3)), 80_000, 0.5
    prompts = rng.choice([4, 16], n, p=[0.8, 0.2])
    w = waits(serve(poisson(rng, rate, n), prompts, {4: 0.5, 16: 4.0}))
    mean, square = 0.8 * 0.5 + 0.2 * 4.0, 0.8 * 0.25 + 0.2 * 16.0
    theory, if_deterministic = rate * square / (2 * (1 - rate * mean)), rate * mean**2 / (2 * (1 - rate * mean))
    assert_near(w, theory, width=0.2)
    assert if_deterministic < 0.5 * theory


def test_priority_order_follows_cobham() -> None:
    """M/D/1 with two classes, non-preemptive: W1 = R / (1 - rho1), W2 = R / ((1 - rho1)(1 - rho)), R = lambda E[S^2] / 2 (Cobham 1954)."""
    rng, n, rate = Generator(PCG64(5)), 80_000, 0.8
    urgent = (rng.random(n) < 0.3).astype(np.int64)
    w = waits(serve(poisson(rng, rate, n), np.full(n, 8), {8: 1.0}, order="priority", priority=urgent))
    rest, rho1 = rate / 2, 0.3 * rate
    assert_near(w[urgent == 1], rest / (1 - rho1), width=0.1)
    assert_near(w[urgent == 0], rest / ((1 - rho1) * (1 - rate)), width=0.3)


def test_work_is_conserved_whatever_the_order() -> None:
    """Kleinrock's conservation law on one sample path: the busy periods, and sum S_i (W_i + S_i / 2), do not depend on the order.

    Times are multiples of 1/4 s, so that every sum is exact.
    """
    rng, n = Generator(PCG64(9)), 3000
    arrival = np.cumsum(rng.integers(0, 12, n)) * 0.25
    prompts, urgency = rng.choice([4, 8, 16], n), rng.integers(0, 3, n)
    service = {4: 0.5, 8: 1.25, 16: 2.0}
    s = np.array([service[int(p)] for p in prompts])
    found, mean_waits = set(), set()
    for order in ("fcfs", "priority", "shortest-job"):
        records = serve(arrival, prompts, service, order=order, priority=urgency)
        w, (lane,) = waits(records), records.lanes
        busy = [(a.start_s, b.start_s) for a, b in zip(steps(lane), steps(lane)[1:], strict=False) if b.start_s > a.end_s]
        found.add((float((s * (w + s / 2)).sum()), float(lane.step_end_s[-1]), tuple(b for _, b in busy)))
        mean_waits.add(float(w.mean()))
    assert len(found) == 1
    assert len(mean_waits) == 3


def test_littles_law_holds_exactly_over_a_run() -> None:
    """Time-average number waiting x T = sum of the waits, with the number read from the step log and the waits from the requests.

    Between two plans the queue only grows, by arrivals; multiples of 1/4 s keep the sums exact.
    """
    rng, n = Generator(PCG64(13)), 4000
    arrival = np.cumsum(rng.integers(0, 10, n)) * 0.25
    records = serve(arrival, rng.choice([4, 16], n), {4: 0.5, 16: 2.0})
    (lane,), r = records.lanes, records.requests
    area = Fraction(0)
    for start, end, waiting in zip(lane.span_start_s, lane.step_end_s, lane.span_waiting, strict=True):
        came = arrival[(arrival > start) & (arrival < end)]
        area += Fraction(float(end - start)) * int(waiting) + sum((Fraction(float(end - a)) for a in came), Fraction(0))
    assert area == sum((Fraction(float(x)) for x in waits(records)), Fraction(0))
    assert area > 100
    assert (r.status == Status.COMPLETED).all()
    assert not complaints(records, Workload(records.table))


@pytest.mark.parametrize("policy", POLICIES)
def test_closed_loop_obeys_the_response_time_law(policy: str) -> None:
    """Deterministic closed loop, 1 s of service: C clients thinking Z s complete min(1, C / (1 + Z)) requests per second, in every
    policy; and response time = C / X - Z once the clients have spread out."""
    for clients, think_s in ((1, 0.0), (5, 0.0), (3, 9.0), (7, 4.0)):
        n = 40 * clients
        r = serve(np.zeros(n), np.full(n, 8), {8: 1.0}, policy, concurrency=clients, think_s=think_s).requests
        rate = min(1.0, clients / (1.0 + think_s))
        half = clients * 20
        spent = r.finish_s[n - 1] - r.finish_s[half - 1]
        assert spent == pytest.approx((n - half) / rate)
        response = r.finish_s[half:] - r.released_s[half:]
        assert response.mean() == pytest.approx(clients / rate - think_s)
