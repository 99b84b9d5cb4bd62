"""What a benchmark client did to the server is what is simulated, or the run is skipped with the reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import results

from simserve.validation.arrivals import arrival_times
from simserve.validation.case import Arrivals, Case, Lengths, Load, Ramp
from simserve.validation.evaluate import predict_one
from simserve.validation.predict import predict
from simserve.validation.readers import read_file
from simserve.validation.readers.client_results import completed_by
from simserve.validation.workloads import build_workload

TOLD = completed_by(hardware="h100-sxm-80gb", engine="vllm-v1", model="llama-3.1-8b")


def read(tmp_path: Path, document: Any, name: str = "result.json") -> Case:
    (tmp_path / name).write_text(json.dumps(document))
    (found,) = TOLD(read_file(tmp_path / name))
    return found


def gaps(load: Load, n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.diff(arrival_times(load, np.full(n, load.rate_per_s), rng), prepend=0.0)


def test_a_rate_with_a_cap_is_open_arrivals_under_the_cap_and_the_same_run_as_without_one_that_never_binds(tmp_path: Path) -> None:
    free = read(tmp_path, results.vllm(), "free.json")
    capped = read(tmp_path, results.vllm(max_concurrency=64), "capped.json")
    assert (free.load.kind, capped.load.kind) == ("open", "open")
    assert build_workload(capped).max_concurrency == 64 and build_workload(free).max_concurrency is None
    assert predict(free) == predict(capped)
    assert abs(predict(free)["ttft_mean"] - 0.03) < 0.02, "nearly alone: a prompt and the request path, not a queue"


def test_a_cap_that_binds_sends_later_and_latency_counts_from_sending(tmp_path: Path) -> None:
    full = results.vllm(request_rate=400.0)
    free = predict(read(tmp_path, full, "free.json"))
    bound = predict(read(tmp_path, full | {"max_concurrency": 2}, "bound.json"))
    loop = predict(read(tmp_path, full | {"request_rate": "inf", "max_concurrency": 2}, "loop.json"))
    assert bound["ttft_mean"] < 0.5 * free["ttft_mean"] and bound["output_tokens_per_s"] < free["output_tokens_per_s"]
    assert bound["tpot_mean"] == pytest.approx(loop["tpot_mean"], rel=0.02), "saturated, the cap is a closed loop"


@pytest.mark.parametrize(
    ("changes", "kind", "clients"),
    [
        ({"request_rate": "inf", "max_concurrency": 8}, "closed", 8),
        ({"request_rate": math.inf, "max_concurrency": 8}, "closed", 8),
        ({"request_rate": "inf", "max_concurrency": 500}, "closed", 60),  # there are no more requests
        ({"request_rate": "inf"}, "burst", 0),
        ({"request_rate": 2, "max_concurrency": 7}, "open", 7),
    ],
)
def test_vllm_and_sglang_rates_and_caps(tmp_path: Path, changes: dict[str, Any], kind: str, clients: int) -> None:
    for made in (results.vllm, results.sglang):
        load = read(tmp_path, made(**changes)).load
        assert (load.kind, load.concurrency) == (kind, clients)


def test_a_few_failed_requests_are_another_load_only_when_they_are_many(tmp_path: Path) -> None:
    assert not read(tmp_path, results.vllm(failed=3)).skip, "3 of 63 are below a twentieth"
    assert not read(tmp_path, results.sglang(accept_length=None, server_info={"speculative_algorithm": None})).skip


def test_a_list_of_results_is_several_runs(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps([results.vllm(request_rate=r) for r in (1.0, 2.0)]))
    assert [case.load.rate_per_s for case in read_file(tmp_path / "sweep.json")] == [1.0, 2.0]


def test_sglang_says_what_served(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("\n".join(json.dumps(results.sglang(request_rate=r)) for r in (1.0, 2.0)))
    one, two = read_file(tmp_path / "s.jsonl")
    assert (one.profile, one.tp, one.load.rate_per_s, two.load.rate_per_s) == ("sglang", 2, 1.0, 2.0) and "llama" in one.model.lower()


def test_burstiness_is_the_shape_of_gamma_gaps(tmp_path: Path) -> None:
    for shape in (0.25, 1.0, 4.0):
        load = read(tmp_path, results.vllm(burstiness=shape, completed=20_000, total_input_tokens=1, total_output_tokens=1)).load
        found = gaps(load)
        assert found.mean() == pytest.approx(1 / 4.0)
        assert found.std() / found.mean() == pytest.approx(1 / math.sqrt(shape), rel=0.05)
    assert read(tmp_path, results.vllm(burstiness="inf")).load.arrivals == Arrivals(math.inf, exact_rate=True)


def test_a_ramp_over_requests_goes_from_its_start_to_its_end(tmp_path: Path) -> None:
    ramp = {"request_rate": "inf", "ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 9}
    load = read(tmp_path, results.vllm(**ramp)).load
    assert load.kind == "open" and load.arrivals is not None and load.arrivals.ramp == Ramp("linear", 1.0, 9.0)
    found = gaps(load, 90_000)
    for fraction in (0.1, 0.5, 0.9):  # at the fraction s of the requests the rate is 1 + 8 s
        near = slice(int((fraction - 0.01) * 90_000), int((fraction + 0.01) * 90_000))
        assert 1 / found[near].mean() == pytest.approx(1 + 8 * fraction, rel=0.08)
    exponential = read(tmp_path, results.vllm(**(ramp | {"ramp_up_strategy": "exponential"}))).load
    middle = gaps(exponential, 90_000)[44_000:46_000]
    assert 1 / middle.mean() == pytest.approx(3.0, rel=0.08), "half way between 1 and 9 on a logarithmic scale"


def test_a_ramp_over_seconds_brings_half_its_requests_in_its_first_part() -> None:
    ramp = Arrivals(math.inf, Ramp("seconds", 0.0, 10.0, 20.0))
    times = arrival_times(
        Load("open", Lengths(1.0), Lengths(1.0), rate_per_s=10.0, arrivals=ramp), np.full(200, 10.0), np.random.default_rng(0)
    )
    assert times[99] == pytest.approx(20.0), "0 to 10 requests a second in 20 s are 100 requests"
    assert times[24] == pytest.approx(10.0), "a quarter of them in the first half: 10 x 10 / 20 x 10 / 2"
    assert np.allclose(np.diff(times[100:]), 0.1)


def test_aiperf_options(tmp_path: Path) -> None:
    def load(**options: Any) -> Load:
        return read(tmp_path, results.aiperf(options)).load

    assert (load(concurrency=8).kind, load(concurrency=8).concurrency) == ("closed", 8)
    both = load(concurrency=8, request_rate=5.0)
    assert (both.kind, both.concurrency, both.rate_per_s, both.arrivals) == ("open", 8, 5.0, None)
    assert load(request_rate=5.0, request_rate_mode="constant").arrivals == Arrivals(math.inf)
    assert load(request_rate=5.0, arrival_pattern="gamma", arrival_smoothness=0.5).arrivals == Arrivals(0.5)
    ramp = load(request_rate=100.0, request_rate_ramp_duration=60.0).arrivals
    assert ramp is not None and ramp.ramp is not None
    assert ramp.ramp.start_per_s == pytest.approx(0.1667, abs=1e-4), "the figure of aiperf's ramping tutorial: 100 a second in 60 s"
    assert load(request_rate_mode="concurrency_burst", request_rate=1.0, concurrency=3).kind == "closed"


def test_aiperf_phases_of_which_warm_up_does_not_count(tmp_path: Path) -> None:
    profiling = {"name": "profiling", "type": "gamma", "rate": 3.0, "smoothness": 2.0, "concurrency": 9}
    for phases in ([{"name": "warmup", "type": "concurrency", "concurrency": 1}, profiling], {"profiling": profiling}):
        found = read(tmp_path, results.aiperf(phases=phases))
        assert (found.load.kind, found.load.concurrency, found.load.arrivals) == ("open", 9, Arrivals(2.0)) and not found.skip
    assert read(tmp_path, results.aiperf(phases=[{"type": "concurrency", "concurrency": 4}])).load.kind == "closed"


def test_genai_perf(tmp_path: Path) -> None:
    assert read(tmp_path, results.genai_perf(concurrency=4)).load.concurrency == 4
    nested = read(tmp_path, results.genai_perf(perf_analyzer={"stimulus": {"request_rate": 3.0}})).load
    assert (nested.kind, nested.rate_per_s, nested.arrivals) == ("open", 3.0, Arrivals(math.inf))


@pytest.mark.parametrize("old", [False, True])
def test_guidellm_strategies(tmp_path: Path, old: bool) -> None:
    def load(**strategy: Any) -> Load:
        found = read(tmp_path, results.guidellm(strategy, old=old))
        assert not found.skip
        return found.load

    assert (load(type_="synchronous").kind, load(type_="synchronous").concurrency) == ("closed", 1)
    assert load(type_="concurrent", streams=4, max_concurrency=4).concurrency == 4
    assert (load(type_="throughput", max_concurrency=6).kind, load(type_="throughput", max_concurrency=6).concurrency) == ("closed", 6)
    assert load(type_="throughput").concurrency == 60, "512 unless changed, and there are 60 requests"
    constant = load(type_="constant", rate=2.0, max_concurrency=64)
    assert (constant.kind, constant.concurrency, constant.arrivals) == ("open", 64, Arrivals(math.inf))
    assert load(type_="poisson", rate=2.0, max_concurrency=10240).arrivals is None
    assert load(type_="constant", rate=2.5, initial_burst=True).arrivals == Arrivals(math.inf, first_at_once=2)


def test_a_constant_rate_has_equal_gaps(tmp_path: Path) -> None:
    times = build_workload(read(tmp_path, results.guidellm({"type_": "constant", "rate": 2.0}))).requests.arrival_s
    assert np.allclose(np.diff(times), 0.5)
    burst = build_workload(read(tmp_path, results.guidellm({"type_": "constant", "rate": 3.0, "initial_burst": True}))).requests.arrival_s
    assert burst[:5].tolist() == pytest.approx([0.0, 0.0, 0.0, 1 / 3, 2 / 3])


def test_guidellm_sweeps_are_several_runs_and_a_replay_uses_the_requests_in_the_file(tmp_path: Path) -> None:
    sweep = results.guidellm({"type_": "synchronous"})
    sweep["benchmarks"] += results.guidellm({"type_": "constant", "rate": 2.0})["benchmarks"]
    (tmp_path / "sweep.json").write_text(json.dumps(sweep))
    assert [c.load.kind for c in read_file(tmp_path / "sweep.json")] == ["closed", "open"]
    replay = results.guidellm({"type_": "replay"})
    replay["benchmarks"][0]["requests"] = {
        "successful": [{"request_start_time": 1e9 + t, "prompt_tokens": 100 + t, "output_tokens": 9} for t in (3, 0, 1)]
    }
    load = read(tmp_path, replay).load
    assert (load.arrival_s, load.prompts) == ((0.0, 1.0, 3.0), (100, 101, 103))
    assert "not in the result" in read(tmp_path, results.guidellm({"type_": "replay"})).skip


def test_guidellm_margins_load_the_engine_and_are_not_measured(tmp_path: Path) -> None:
    found = read(tmp_path, results.guidellm({"type_": "throughput"}, warmup=0.2, cooldown=0.2))
    assert found.load.requests == 100 and (found.load.warm_up_fraction, found.load.cool_down_fraction) == (0.2, 0.2)
    middle, whole = predict(found), predict(replace(found, load=replace(found.load, warm_up_fraction=0.0, cool_down_fraction=0.0)))
    assert middle["ttft_p99"] < whole["ttft_p99"], "all come at once, and the last prompts wait longest"


def test_llmperf_is_a_closed_loop_whose_inter_token_latency_is_no_tpot(tmp_path: Path) -> None:
    found = read(tmp_path, results.llmperf())
    assert (found.load.kind, found.load.concurrency, found.load.requests) == ("closed", 4, 60)
    assert found.load.prompt == Lengths(256.0, "varied", spread=pytest.approx(0.1))
    assert found.measured["ttft_mean"] == 0.04 and "tpot_mean" not in found.measured


def test_inference_perf_needs_its_configuration_to_know_the_arrivals(tmp_path: Path) -> None:
    assert "config.yaml" in read(tmp_path, results.inference_perf()).skip
    (tmp_path / "config.yaml").write_text("load: {type: constant, stages: [{rate: 4, duration: 15}]}\n")
    found = read(tmp_path, results.inference_perf())
    assert (found.load.kind, found.load.rate_per_s, found.load.arrivals) == ("open", 4.0, Arrivals(math.inf)) and not found.skip
    assert found.measured["ttft_p99"] == 0.06
    (tmp_path / "config.yaml").write_text("load: {type: poisson}\n")
    assert read(tmp_path, results.inference_perf()).load.arrivals is None


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (results.vllm(ramp_up_strategy="sinusoidal", ramp_up_start_rps=1, ramp_up_end_rps=2), "'sinusoidal' is not understood"),
        (results.vllm(ramp_up_strategy="linear"), "without its start and end"),
        (results.vllm(ramp_up_strategy="exponential", ramp_up_start_rps=0, ramp_up_end_rps=2), "exponential ramp from or to"),
        (results.vllm(request_rate=None), "neither request_rate nor max_concurrency"),
        (results.vllm(request_rate="fast"), "'fast' is not understood"),
        (results.vllm(request_rate=-1), "request_rate is -1"),
        (results.vllm(max_concurrency=0), "max_concurrency is 0"),
        (results.vllm(max_concurrency=2.5), "max_concurrency is 2.5, not a whole number"),
        (results.vllm(burstiness=-1), "burstiness is -1"),
        (results.vllm(completed=0), "lacks its request count"),
        (results.sglang(request_rate="trace"), "times of a trace, which is not in the result"),
        (results.aiperf({"concurrency": 4}, data={"fixed_schedule": True}), "fixed schedule replays a trace"),
        (results.aiperf({"concurrency": 4}, data={"custom_dataset_type": "mooncake_trace"}), "fixed schedule replays a trace"),
        (results.aiperf({"concurrency": 4}, data={"conversation": {"turn": {"mean": 3}}}), "several turns"),
        (results.aiperf({"user_centric_rate": 1.0, "num_users": 10}), "user-centric"),
        (results.aiperf({"concurrency": 4, "concurrency_ramp_duration": 30.0}), "concurrency that ramps"),
        (results.aiperf({"concurrency": 4, "prefill_concurrency": 2}), "prefill_concurrency"),
        (results.aiperf({"request_rate": 4.0, "request_cancellation_rate": 0.1}), "cancelled"),
        (results.aiperf({"request_rate": 4.0, "arrival_pattern": "weibull"}), "'weibull' is not understood"),
        (results.aiperf({}), "neither request_rate nor concurrency"),
        (results.aiperf(phases=[{"type": "user_centric", "rate": 1.0, "users": 3}]), "'user_centric' is not simulated"),
        (results.aiperf(phases=[{"type": "concurrency", "concurrency": 1}] * 2), "2 measured phases"),
        (results.aiperf(phases=[{"type": "poisson", "rate": 1.0, "rate_series": {"points": []}}]), "rate_series"),
        (results.genai_perf(session_concurrency=4, concurrency=4), "session_concurrency"),
        (results.guidellm({"type_": "adaptive"}), "'adaptive' is not understood"),
        (results.guidellm({}), "does not state its strategy"),
        (results.guidellm({"type_": "throughput", "max_concurrency": 2, "rampup_duration": 5.0}), "rampup_duration"),
        (results.guidellm({"type_": "constant"}), "without a finite rate"),
        (results.guidellm({"type_": "concurrent"}), "without its streams"),
        (results.guidellm({"type_": "synchronous"}, warmup=30.0), "not a fraction below one half"),
        (results.guidellm({"type_": "synchronous"}, old=True, warmup_number=10), "warmup_number"),
        (results.aiperf({"concurrency": 4}, data={"custom_dataset_type": "MULTI_TURN"}), "several turns"),
        (results.aiperf(phases=[{"type": "poisson", "rate": 1.0, "rate_ramp": {"duration": 9, "strategy": "log"}}]), "strategy 'log'"),
        (results.aiperf({"concurrency": 4}) | {"time_to_first_token": {"unit": "minutes", "avg": 0.1}}, "'minutes' that is not understood"),
        (results.aiperf({"concurrency": 4}) | {"time_to_first_token": {"avg": 40.0}}, "does not name its unit"),
        (results.vllm(spec_decode_acceptance_rate=61.5), "speculative decoding"),
        (results.sglang(accept_length=2.4), "speculative decoding"),
        (results.sglang(server_info={"speculative_algorithm": "EAGLE3"}), "speculative decoding"),
        (results.vllm(failed=4), "4 of 64 requests failed"),
        (results.vllm(num_prompts=120), "60 of 120 requests failed"),
        (results.aiperf({"concurrency": 4}) | {"error_request_count": {"unit": "requests", "avg": 30}}, "30 of 90 requests failed"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_skipped_with_the_reason_and_never_simulated(tmp_path: Path, document: Any, says: str) -> None:
    found = read(tmp_path, document)
    assert says in found.skip, found.skip
    outcome = predict_one(found)
    assert outcome.skip == found.skip and not outcome.predicted
