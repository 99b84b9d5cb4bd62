from __future__ import annotations

from dataclasses import replace

import pytest
from builders import case

from simserve.config.engine_profile import load_engine
from simserve.cost.host import HostOverheads
from simserve.validation.case import Lengths, Load
from simserve.validation.machine import Overheads, build_instance, overheads_of, without_overheads
from simserve.validation.predict import UnsimulableError, predict, simulate_case
from simserve.validation.workloads import build_workload

FREE = without_overheads(overheads_of(load_engine("vllm-v1")))


def test_littles_law_holds_for_a_closed_loop_of_clients() -> None:
    found = predict(case(), FREE)
    per_client_s = found["e2e_mean"]
    assert found["output_tokens_per_s"] == pytest.approx(8 / per_client_s * 64, rel=0.02)


def test_host_work_of_a_step_is_paid_by_every_token() -> None:
    slower = replace(FREE, host=replace(FREE.host, per_step_s=0.005))
    gain = predict(case(), slower)["tpot_mean"] - predict(case(), FREE)["tpot_mean"]
    assert gain == pytest.approx(0.005, rel=0.05)


def test_the_request_path_delays_the_first_token_and_not_the_others() -> None:
    one = case(load=Load("open", Lengths(256.0), Lengths(64.0), requests=40, rate_per_s=1.0))
    late = replace(FREE, request_s=0.05, request_per_prompt_token_s=1e-5)
    before, after = predict(one, FREE), predict(one, late)
    assert after["ttft_mean"] - before["ttft_mean"] == pytest.approx(0.05 + 256e-5, rel=1e-6)
    assert after["tpot_mean"] == pytest.approx(before["tpot_mean"])


def test_a_client_that_waits_outside_the_engine_sends_fewer_requests() -> None:
    late = replace(FREE, request_s=0.5)
    assert predict(case(), late)["output_tokens_per_s"] < 0.7 * predict(case(), FREE)["output_tokens_per_s"]


def test_a_step_scheduled_ahead_costs_newcomers_one_step() -> None:
    busy = case(load=Load("open", Lengths(64.0), Lengths(400.0), requests=150, rate_per_s=8.0))
    ahead = replace(FREE, steps_ahead=1)
    plain = predict(busy, FREE)
    assert predict(busy, ahead)["ttft_mean"] - plain["ttft_mean"] == pytest.approx(plain["tpot_mean"], rel=0.2)


def test_times_taken_by_the_engine_itself_know_no_request_path() -> None:
    late = Overheads(HostOverheads(), request_s=1.0, steps_ahead=1)
    inside = case(settings={"clock": "engine"})
    assert predict(inside, late) == predict(inside, Overheads(HostOverheads()))


def test_repeated_prompts_are_computed_once() -> None:
    load = Load("repeated", Lengths(1600.0), Lengths(20.0), requests=200, rate_per_s=20.0, distinct_prompts=10)
    asked_again = case(load=load, settings={"prefix_caching": True})
    _, records = simulate_case(asked_again, FREE)
    cached = records.requests.cached_tokens
    assert (cached[:5] == 0).any()
    assert (cached[50:] >= 1584).all()


def test_a_request_that_was_preempted_finds_its_own_kv_where_the_engine_looks_for_it() -> None:
    load = Load("closed", Lengths(500.0), Lengths(400.0), requests=60, concurrency=12)
    found, ends = [], []
    for settings in ({}, {"prefix_caching": False}):
        _, records = simulate_case(case(load=load, settings={"kv_blocks": 450} | settings), FREE)
        assert records.requests.preemptions.sum() > 0
        found.append(records.requests.reread_tokens.sum() / records.requests.recomputed_tokens.sum())
        ends.append(records.requests.finish_s.max())
    assert found[0] > 0.2 and found[1] == 0 and ends[0] < ends[1]
    of_its_engine = build_instance(case())
    assert of_its_engine.prefix_caching and of_its_engine.eviction == load_engine("vllm-v1").kv.eviction
    assert not build_instance(case(profile="vllm-v0")).prefix_caching, "an engine whose default is off"


def test_stages_follow_one_another_at_their_own_rates() -> None:
    load = Load("open", Lengths(10.0), Lengths(10.0), requests=500, rate_per_s=1.0, later_stages=((10.0, 500),))
    arrival = build_workload(case(load=load)).requests.arrival_s
    assert arrival[499] == pytest.approx(500, rel=0.15)
    assert arrival[-1] - arrival[500] == pytest.approx(50, rel=0.15)


def test_a_batch_that_does_not_fit_the_cache_is_refused() -> None:
    huge = case(load=Load("phases", Lengths(8192.0), Lengths(128.0), concurrency=64), profile="vllm-2023")
    with pytest.raises(UnsimulableError, match="KV cache"):
        predict(huge)


def test_fp8_cache_holds_twice_the_tokens() -> None:
    plain, halved = build_instance(case()), build_instance(case(settings={"kv_bits": 8.0}))
    assert halved.kv_blocks == pytest.approx(2 * plain.kv_blocks, rel=0.01)


def test_stated_blocks_hold_the_tokens_of_all_layers() -> None:
    """Where layers keep different tokens a block of the pool is one of some layers: the same memory has more of them."""
    same = case(settings={"kv_blocks": 5000})
    mixed = replace(same, model="gpt-oss-120b", gpu="h200-sxm-141gb", profile="vllm-v1")
    for one in (same, mixed):
        instance = build_instance(one)
        whole = 1 if instance.kv_groups is None else instance.kv_groups.pool_blocks(1, False)
        assert instance.kv_blocks == 5000 * whole, one.model
    assert build_instance(mixed).kv_groups is not None


def test_the_same_row_is_predicted_the_same_twice() -> None:
    varied = case(load=Load("burst", Lengths(200.0, "lognormal", spread=1.0), Lengths(100.0, "lognormal", spread=1.0), requests=60))
    assert predict(varied) == predict(varied)


def test_replicas_divide_the_step_where_the_engine_says_so() -> None:
    """SGLang divides its chunk among attention replicas, vLLM gives each its own; sequence slots each has of its own in both."""
    sglang = [build_instance(case(profile="sglang", gpu="h200-sxm-141gb", model="qwen3-30b-a3b", dp=dp)) for dp in (1, 2)]
    assert sglang[1].scheduler.params.chunked_prefill_size == sglang[0].scheduler.params.chunked_prefill_size
    vllm = [build_instance(case(gpu="h200-sxm-141gb", model="qwen3-30b-a3b", dp=dp)) for dp in (1, 2)]
    assert vllm[1].scheduler.params.max_num_batched_tokens == 2 * vllm[0].scheduler.params.max_num_batched_tokens
    for one, two in (sglang, vllm):
        assert two.max_seqs == 2 * one.max_seqs and two.kv_blocks > 1.9 * one.kv_blocks
