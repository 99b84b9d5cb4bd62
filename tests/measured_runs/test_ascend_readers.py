"""What Ascend's launch options and tests say: graphs, drafts, layouts, shared beginnings, names of copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from benchmarks.measured_runs import ascend_nightly, ascend_options, ascend_thresholds, bench_pages, published_points
from simserve.validation import names
from simserve.validation.case import Lengths, Load
from simserve.validation.names import engine_profile_name
from simserve.validation.workloads import build_workload

NIGHTLY = {
    "config": "a",
    "benchmark": "perf",
    "model": "vllm-ascend/Qwen3-30B-A3B-W8A8",
    "hardware": "910C (Atlas A3)",
    "tensor_parallel": 8.0,
    "data_parallel": 2.0,
    "max_num_seqs": 16.0,
    "max_num_batched_tokens": None,
    "expert_parallel": True,
    "speculative": False,
    "eager": False,
    "dataset": "GSM8K",
    "input_tokens": 3500.0,
    "output_tokens": 1500,
    "num_requests": 64,
    "client_concurrency": 16,
    "request_rate_per_s": 0.0,
    "baseline_output_tokens_per_s": 411.0,
    "serve_options": "",
}
TEST = {
    "model": "QWEN3_30B_A3B_W8A8_VLLM_MODEL_PATH",
    "path": "x/test_npu_qwen3_30b_w8a8_1p_in3k5_50ms.py",
    "tp": 2.0,
    "dp": None,
    "prefill_tp": None,
    "prefill_dp": None,
    "quantization": "modelslim",
    "spec": "EAGLE3",
    "spec_steps": 3.0,
    "max_running": 100.0,
    "chunk": -1.0,
    "mem_fraction": 0.87,
    "dataset_name": "random",
    "input_len": 3500.0,
    "output_len": 1500.0,
    "num_prompts": None,
    "max_concurrency": 80.0,
    "request_rate": None,
    "tpot_ms_threshold": 50.0,
    "output_tok_s_threshold": 3200.0,
    "tpot_kind": "slo_round",
    "serve_args": '["--max-prefill-tokens", 35000, "--cuda-graph-bs", 1, 40, 100, "--trust-remote-code"]',
}


def nightly(**changes: Any) -> Any:
    (case,) = ascend_nightly.read(pd.DataFrame([{**NIGHTLY, **changes}]), "ascend_nightly")
    return case


def of_sglang(**changes: Any) -> Any:
    (case,) = ascend_thresholds.read(pd.DataFrame([{**TEST, **changes}]), "ascend_sglang")
    return case


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", {}),
        ('--compilation-config \'{"cudagraph_mode": "FULL_DECODE_ONLY"}\'', {"whole_graphs": True}),
        ('{"cudagraph_mode":"PIECEWISE", "cudagraph_capture_sizes": [8, 1,4]}', {"graph_sizes": [8, 1, 4]}),
        ('{"cudagraph_capture_sizes":[1,2], "cudagraph_mode":"FULL_DECODE_ONLY"}', {"whole_graphs": True, "graph_sizes": [1, 2]}),
    ],
)
def test_graphs_of_a_command(options: str, settings: dict[str, Any]) -> None:
    assert ascend_options.of_graphs(options, "vllm-ascend", 1) == settings


def test_sizes_are_of_each_replica() -> None:
    case = nightly(serve_options='"cudagraph_capture_sizes": [8, 16]')
    assert case.settings["graph_sizes"] == [16, 32] and (case.tp, case.dp, case.ep) == (8, 2, 16)
    assert max(nightly().settings["graph_sizes"]) == 2 * 256  # the engine's own, of both
    assert "graph_sizes" not in nightly(data_parallel=None).settings


def test_drafts_have_an_acceptance_that_was_published_or_are_left_out() -> None:
    eagle = ascend_options.of_drafts('{"method": "eagle3", "model": "x", "num_speculative_tokens": 3}')
    assert eagle == {"speculation": {"method": "eagle3", "tokens": 3, "length": 2.03}}
    assert ascend_options.of_drafts('{"num_speculative_tokens": 3, "method": "deepseek_mtp"}')["speculation"]["method"] == "mtp"
    assert ascend_options.of_drafts('{"method": "suffix", "num_speculative_tokens": 3}') == {}
    lengths = list(ascend_options.EAGLE3_LENGTH.values())
    assert lengths == sorted(lengths) and all(1 < value < 1 + tokens for tokens, value in ascend_options.EAGLE3_LENGTH.items())


def test_a_disaggregated_command_is_two_pools_on_equal_halves() -> None:
    options = '"kv_connector_extra_config": { "prefill": { "dp_size": 2, "tp_size": 16 }, "decode": { "dp_size": 8, "tp_s'
    prefill, decode = nightly(serve_options=options, eager=True).pools
    assert (prefill.tp, prefill.dp, decode.tp, decode.dp) == (16, 2, 4, 8)
    assert nightly(eager=True).settings["cuda_graphs"] is False
    assert "cuda_graphs" not in nightly(serve_options=options, eager=True).settings


def test_a_stated_rate_is_open_arrivals_and_a_stated_prefix_is_shared() -> None:
    assert nightly(request_rate_per_s=4.8).load.kind == "open"
    shared = nightly(benchmark="prefix75")
    assert shared.load.shared_prefix_fraction == 0.75 and shared.settings["prefix_caching"]
    assert nightly(benchmark="prefix0").load.shared_prefix_fraction == 0.0


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("QWEN3_30B_A3B_W8A8_VLLM_MODEL_PATH", "QWEN3-30B-A3B-W8A8"),
        ("QWEN3_6_27B_W8A8_MODEL_PATH", "QWEN3.6-27B-W8A8"),
        ("MINIMAX_M2_5_W8A8_MODEL_PATH", "MINIMAX-M2.5-W8A8"),
        ("QWEN3_NEXT_80B_A3B_W8A8_MODEL_PATH", "QWEN3-NEXT-80B-A3B-W8A8"),
        ("Qwen3-14B", "Qwen3-14B"),
    ],
)
def test_variables_of_tests_are_names_of_models(stated: str, name: str) -> None:
    assert ascend_thresholds.model_name(stated) == name
    assert names.find_model(name)


@pytest.mark.parametrize(
    "name",
    ["vllm-ascend/Qwen3-30B-A3B-W8A8-QuaRot", "Eco-Tech/Qwen3.5-27B-w8a8-mtp", "Eco-Tech/Kimi-K2.5-W4A8", "vllm-ascend/DeepSeek-V3.2-W8A8"],
)
def test_quantised_copies_resolve(name: str) -> None:
    assert names.find_model(name) == name


def test_copies_for_310p_are_their_model_in_eight_bits() -> None:
    assert ascend_options.checkpoint("vllm-ascend/Qwen3-8B-w8a8sc-310-vllm-tp1") == "vllm-ascend/Qwen3-8B-w8a8"


def test_a_round_time_is_an_objective_and_is_not_judged() -> None:
    assert of_sglang().measured == {"output_tokens_per_s": 3200.0}
    assert of_sglang(tpot_kind="looks_measured").measured == {"output_tokens_per_s": 3200.0, "tpot_mean": 0.05}
    assert of_sglang(output_tok_s_threshold=None).skip == "only objectives are stated"


def test_a_test_is_read_as_it_is_served() -> None:
    case = of_sglang()
    assert case.settings["graph_sizes"] == [1, 40, 100] and case.settings["max_num_batched_tokens"] == 35000
    assert case.settings["speculation"]["length"] == 2.03 and case.load.requests == 4 * 80
    attention = of_sglang(dp=2.0, serve_args='["--moe-a2a-backend", "deepep", "--cuda-graph-bs", 4]')
    assert (attention.tp, attention.dp, attention.ep) == (1, 2, 2) and attention.settings["graph_sizes"] == [8]
    assert of_sglang(path="x/test_npu_qwen3_235b_a22b.py").gpu == "ascend-910c"
    assert of_sglang(path="x/test_npu_qwen3_32b_a2.py").gpu == "ascend-910b"
    pools = of_sglang(path="x/y_2p1d_32p.py", tp=32.0, dp=32.0, prefill_tp=16.0, prefill_dp=4.0).pools
    assert [(pool.workers, pool.tp, pool.dp) for pool in pools] == [(2, 4, 4), (1, 1, 32)]


def test_the_suffix_page_is_four_cards_of_910b() -> None:
    row = {
        "hardware": "Ascend NPU (see page)", "model": "Qwen/Qwen3-32B", "engine": "vllm-ascend", "workload": "ARC", "concurrency": 8.0,
        "input_tokens": 76.0, "output_tokens": 960.0, "num_requests": 100.0, "tpot_ms": 59.1, "output_tokens_per_s": 125.4, "ttft_ms": None,
        "tokens_per_s_per_npu": None, "source": "docs/suffix_speculative_decoding.md",
    }  # fmt: skip
    (case,) = published_points.read(pd.DataFrame([row]), "published")
    assert (case.gpu, case.tp, case.skip) == ("ascend-910b", 4, "")


def test_engines_by_version() -> None:
    assert [engine_profile_name("vLLM-Ascend", version) for version in ("0.9.1", "0.11.0", "")] == [
        "vllm-ascend-0.9",
        "vllm-ascend",
        "vllm-ascend",
    ]
    assert engine_profile_name("SGLang on Ascend") == "sglang-ascend"


def test_prompts_with_one_beginning_share_it_and_nothing_else() -> None:
    load = Load("closed", Lengths(1280.0), Lengths(8.0), requests=3, concurrency=2, shared_prefix_fraction=0.75)
    case = nightly()
    prefix = build_workload(replace(case, load=load)).requests.prefix
    assert prefix is not None
    rows = [prefix.ids[a:b].tolist() for a, b in zip(prefix.offsets[:-1], prefix.offsets[1:], strict=True)]
    assert [len(row) for row in rows] == [10, 10, 10]
    assert rows[0][:7] == rows[1][:7] == rows[2][:7]
    own = [tuple(row[7:]) for row in rows]
    assert len({number for row in own for number in row}) == 9
    assert "shared_prefix_fraction" not in case.description()["load"]  # what was cached before stays known


def test_lengths_that_are_pruned_keep_their_mean_and_their_bound() -> None:
    load = Load("burst", bench_pages.sharegpt(217.4, 0), bench_pages.sharegpt(201.5, 1), requests=1000)
    requests = build_workload(replace(nightly(), load=load)).requests
    assert requests.prompt_tokens.max() <= 1024 and requests.output_tokens.max() <= 2048
    assert requests.prompt_tokens.mean() == pytest.approx(217.4, rel=2e-3) and requests.output_tokens.mean() == pytest.approx(
        201.5, rel=2e-3
    )
