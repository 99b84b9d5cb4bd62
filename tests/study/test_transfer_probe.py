"""The probe of a KV transfer gives what the engine takes for it, and P/D-Serve's arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.api import run
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.contracts import Step
from simserve.study.claims.check import check_claims
from simserve.study.probes import evaluate

SPLIT: dict[str, Any] = {
    "model": "opt-13b",
    "hardware": "a100-sxm-80gb",
    "engine": {"name": "vllm-v0", "request_path": {"per_request_s": 0, "per_prompt_token_s": 0}},
    "cost": {"polynomial": "distserve-a100"},
    "cluster": {
        "instances": [{"role": "prefill"}, {"role": "decode"}],
        "network": {"bytes_per_s": 2.5e10, "latency_s": 1e-4, "per_message_s": 5e-6},
    },
    "probes": {"transfer": {"measure": "transfer_s", "prompt_tokens": 1600}},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 1},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 1600}, "output": {"kind": "fixed", "tokens": 2}},
        "count": 1,
    },
}


@pytest.mark.parametrize("message_bytes", [None, 163_840, 1e6])
def test_the_engine_takes_as_long_as_the_probe_says(message_bytes: float | None) -> None:
    experiment = load(SPLIT, {"cluster.network.message_bytes": message_bytes})
    transfer_s = evaluate(experiment).values["transfer"]
    requests = run(experiment).records.requests
    decode_s = assemble(experiment).instances[1].cost.step_time(Step(1, 1601, 1601))
    assert requests.finish_s[0] - requests.first_token_s[0] - decode_s == pytest.approx(transfer_s, rel=1e-9)
    # 1600 tokens of 819,200 bytes; blocks of 16 tokens of the keys or values of one layer are 8,000 messages.
    wire_s = 1600 * 819_200 / 2.5e10
    further = {None: 0, 163_840: 7999, 1e6: 1310}[message_bytes]
    assert transfer_s == pytest.approx(1e-4 + wire_s + further * 5e-6)


def test_one_message_saves_pdserve_about_half() -> None:
    """op / (op + block / bandwidth): 5 us against 164 KB at 25 GB/s is 43 %, the paper's 46 % within its band."""
    report = check_claims("pdserve_d2d")
    assert [outcome.reproduced for outcome in report.outcomes] == [True, True]
    assert 1 - report.outcomes[0].ours == pytest.approx(5 / (5 + 163_840 / 25e3), rel=0.01)


def test_per_device_is_the_capacity_over_the_devices() -> None:
    probe = {"measure": "capacity", "when": "ttft.p90 <= 1", "tolerance": 0.3}
    small = {**SPLIT, "cluster": {"instances": [{"role": "prefill", "parallel": {"tp": 2}}, {"role": "decode", "count": 2}]}}
    small["workload"] = {**SPLIT["workload"], "count": 40}
    small["probes"] = {"all": probe, "each": {**probe, "per_device": True}}
    values = evaluate(load(small)).values
    assert values["all"] and values["each"] == pytest.approx(values["all"] / 4)
