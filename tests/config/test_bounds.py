"""Numbers that machines cannot have or arithmetic cannot hold are refused before a run starts, with what it would need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simserve.bounds import LEAST_INTERVAL_S, MOST_S
from simserve.config import size
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.errors import ConfigError

Write = Callable[..., Path]


def complaint(path: Path, *changes: str) -> str:
    with pytest.raises(ConfigError) as caught:
        assemble(load(path, changes))
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("seed=" + "9" * 5000, "a number of 5000 digits"),
        ("seed=0x" + "f" * 6000, "a number of 6002 digits"),
        ("seed=9223372036854775808", "expected a number < 9,223,372,036,854,775,808"),
        ("variants={a: {x: 1" + "0" * 30 + "}}", "expected a number of 64 bits"),
        ("workload.priority=" + "1" + "0" * 30, "priority: found 1000000000000000000000000000000, expected a number"),
        ("workload.slo_classes=[{name: a, fraction: 1, priority: 1" + "0" * 30 + "}]", "priority: found"),
        ("workload.max_output_tokens=1" + "0" * 30, "max_output_tokens"),
        ("workload.count=1" + "0" * 30, "expected a number"),
        ("workload.arrivals.rate_per_s=5e-324", "expected a number >= 1e-09"),
        ("workload.arrivals.rate_per_s=1e308", "expected a number <= 1,000,000,000"),
        ("workload.arrivals={kind: gamma, rate_per_s: 1, cv: 1e200}", "expected a number <= 100"),
        ("workload.arrivals={kind: gamma, rate_per_s: 1, cv: 1e-200}", "expected a number >= 0.001"),
        ("workload.arrivals={kind: weibull, rate_per_s: 1, shape: 0.001}", "expected a number >= 0.1"),
        ("workload.closed_loop={concurrency: 2, think_s: 1e308}", "expected a number <= 1,000,000,000"),
        ("engine={name: vllm-v1, host: {per_step_s: 1e308}}", "engine.host.per_step_s: found 1e+308"),
        ("cluster.router={refresh_s: 1e-9}", "found 1e-09, expected 0 (signals as they are) or a number >= 1e-05"),
        ("cluster.controllers=[{policy: llumnix-migration, interval_s: 1e-9}]", "interval_s: found 1e-09, expected a number >= 1e-05"),
        ("cluster.failures={mtbf_s: 1e-9}", "mtbf_s: found 1e-09, expected a number >= 1"),
        ("cluster.instances=[{count: 100000000}]", "expected a number <= 100,000"),
        ("cluster.instances=[{count: 90000}, {count: 90000}]", "180,000 instances in all; at most 100,000"),
        ("cluster.instances=[{parallel: {dp: 1000000000}}]", "expected a number <= 100,000"),
        ("cluster.network={bytes_per_s: 1e-300}", "expected a number >= 1"),
        ("until_s=1e300", "expected a number <= 1,000,000,000"),
        ("metrics={warmup_s: 1e18}", "expected a number <= 1,000,000,000"),
        ("slo={ttft_s: 1e-300}", "expected 0 or a number of 1e-18 to 1e+18"),
        ("model={name: llama-2-7b, options: {kv_bits: 1e-9}}", "expected a number >= 0.01"),
        ("cluster.instances.0.scheduler.token_budget=1000000000", "expected a number <= 100,000,000"),
    ],
)
def test_a_number_out_of_bounds_is_named_with_its_bound(write: Write, change: str, words: str) -> None:
    assert words in complaint(write(), change)


def test_more_requests_than_memory_holds_are_said_before_they_are_made(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "memory_bytes", lambda: 16 * 2**30)
    message = complaint(write(), "workload.count=100000000")
    assert "100,000,000 requests on 3 instances need about 56 GiB of memory, this machine has 16" in message
    monkeypatch.setattr(size, "memory_bytes", lambda: 2**20)
    assert "need about" in complaint(write(), "cluster.instances=[{count: 1000}]")


def test_arrivals_beyond_any_clock_are_refused(write: Write) -> None:
    assert "the last request arrives after" in complaint(write(), "workload.arrivals.rate_per_s=1e-9")
    endless = "workload={trace: {path: burstgpt-sample, limit: 50, rate_scale: 1e-8}}"
    assert "a run is at most 1,000,000,000 s (30 years) long" in complaint(write(), endless)


def test_more_arrivals_within_a_duration_than_can_be_simulated(write: Write) -> None:
    lengths = "lengths: {prompt: {kind: fixed, tokens: 1}, output: {kind: fixed, tokens: 1}}"
    change = f"workload={{arrivals: {{kind: poisson, rate_per_s: 1e8}}, duration_s: 1000, {lengths}}}"
    assert "about 100,000,000,000 requests arrive within duration_s; at most 100,000,000" in complaint(write(), change)


@pytest.mark.parametrize(
    ("change", "key", "times"),
    [
        ("cluster.router={refresh_s: 1e-5}", "cluster.router.refresh_s", "9,999,990,000"),
        ("cluster.controllers=[{policy: llumnix-migration, interval_s: 1e-5}]", "cluster.controllers.0: interval_s", "9,999,990,000"),
    ],
)
def test_timers_say_how_often_they_would_tick(write: Write, change: str, key: str, times: str) -> None:
    path = write(("arrivals: {kind: poisson, rate_per_s: 2.0}", "arrivals: {kind: constant, rate_per_s: 0.001}"))
    span = ["workload.count=100", "until_s=99999.9"]
    message = complaint(path, *span, change)
    assert key in message and f"over the 100,000 s of arrivals that is {times} times" in message
    assemble(load(path, [*span, change.replace("1e-5", "1e-3")]))


def test_bounds_are_those_of_the_arithmetic() -> None:
    assert MOST_S + 1e-7 > MOST_S, "a tenth of a microsecond is seen at the end of the longest run"
    assert MOST_S / LEAST_INTERVAL_S < 2**53, "a timer's turns are counted exactly"
