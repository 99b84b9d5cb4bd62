"""Measured runs with prefill and decode workers: which instances they become, and when clients see tokens."""

from dataclasses import replace

import numpy as np
import pytest
from builders import case

from simserve.config.engine_profile import load_engine
from simserve.engine import simulate
from simserve.validation.case import Case, Lengths, Load, Pool
from simserve.validation.disaggregated import as_clients_see, build_instances, routed
from simserve.validation.machine import overheads_of, without_overheads
from simserve.validation.predict import predict
from simserve.validation.workloads import build_workload
from tests.engine.speculation.toys import Drafting, Verifying

FREE = without_overheads(overheads_of(load_engine("vllm-v1")))


def split(clients: int, prefill: int = 1, decode: int = 1, prompt: float = 2000.0, output: float = 100.0) -> Case:
    load = Load("closed", Lengths(prompt), Lengths(output), requests=6 * clients, concurrency=clients)
    return case(load=load, pools=(Pool(prefill, 1), Pool(decode, 2)))


def test_every_worker_is_an_instance_with_its_pools_layout() -> None:
    specs = build_instances(split(4, prefill=2, decode=3))
    assert [(spec.role, spec.devices) for spec in specs] == [("prefill", 1)] * 2 + [("decode", 2)] * 3
    assert len({spec.name for spec in specs}) == 5
    assert specs[0].link is not None and specs[0].link.bytes_per_s == pytest.approx(50e9)  # a 400 Gbit/s NIC a device


@pytest.mark.parametrize("drafting", [None, Drafting(3)])
def test_the_first_token_is_seen_when_decoding_starts_and_not_before_the_kv_is_there(drafting: Drafting | None) -> None:
    one = split(1)
    specs, workload = build_instances(one, FREE), build_workload(one)
    specs = [replace(spec, cost=Verifying(spec.cost), speculation=drafting) if spec.role == "decode" else spec for spec in specs]
    records = simulate(workload, specs, routed())
    seen = as_clients_see(records, specs).requests
    link = specs[0].link
    assert link is not None
    copy_s = link.latency_s + 2000 * link.kv_bytes_per_token / link.bytes_per_s
    assert seen.first_token_s - records.requests.first_token_s == pytest.approx(np.full(6, copy_s), rel=1e-6)
    assert (seen.finish_s == records.requests.finish_s).all()


def test_prefills_never_interrupt_decodes() -> None:
    together = replace(split(16), pools=None, tp=2)
    apart = split(16, prefill=1, decode=1)
    assert predict(apart, FREE)["tpot_p99"] < 0.7 * predict(together, FREE)["tpot_p99"]


def test_more_prefill_workers_shorten_the_wait_for_them_and_more_decode_workers_the_steps() -> None:
    few, many = predict(split(32), FREE), predict(split(32, prefill=4), FREE)
    assert many["ttft_mean"] < 0.5 * few["ttft_mean"]
    spread = predict(split(32, prefill=4, decode=4), FREE)
    assert spread["tpot_mean"] < many["tpot_mean"]
