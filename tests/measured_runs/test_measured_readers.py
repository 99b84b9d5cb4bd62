from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.measured_runs import TABLES
from benchmarks.measured_runs.command_line import read_command
from simserve.model import load_model
from simserve.validation.case import Pool
from simserve.validation.evaluate import Outcome
from simserve.validation.predict import predict
from simserve.validation.readers import read_file
from simserve.validation.validate import ServingValidation

FIXED = {
    "id": "x_h200_sxm_trtllm_agg_1024x1024_c64_tp8_ep8_1",
    "backend": "trtllm",
    "backend_version": "1.1.0",
    "model_path": "deepseek-ai/DeepSeek-R1",
    "system": "h200_sxm",
    "precision": "fp8",
    "mode": "agg",
    "input_tokens": 1024,
    "output_tokens": 1024,
    "gemm_quant_mode": "fp8",
    "batch_size": 64.0,
    "tp_size": 64.0,
    "pp_size": 1.0,
    "attention_dp_size": 1.0,
    "moe_tp_size": 8.0,
    "moe_ep_size": 8.0,
    "ttft_ms": 500.0,
    "tpot_ms": 20.0,
    "concurrency": 64.0,
    "collection": "public inference benchmark dump",
}


def fixed(tmp_path: Path, **changes: Any) -> Any:
    path = tmp_path / "runs.parquet"
    pd.DataFrame([FIXED | changes]).to_parquet(path)
    return read_file(path, TABLES)[0]


def test_one_node_whose_degrees_were_multiplied_is_read_from_its_id(tmp_path: Path) -> None:
    found = fixed(tmp_path)
    assert (found.tp, found.dp, found.ep) == (8, 1, 8)
    attention_dp = fixed(tmp_path, tp_size=1.0, attention_dp_size=64.0)
    assert (attention_dp.tp, attention_dp.dp, attention_dp.ep) == (1, 8, 8)
    unlabelled = fixed(tmp_path, id="dsr1_h200_trtllm_fp8_agg_1024x1024_c64_cfg181")
    assert (unlabelled.tp, unlabelled.dp, unlabelled.ep) == (8, 1, 8)


def test_a_copy_is_served_in_the_format_that_its_name_states(tmp_path: Path) -> None:
    told: dict[str, Any] = {"gemm_quant_mode": None, "tp_size": 1.0, "moe_tp_size": 1.0, "moe_ep_size": 1.0}
    named = fixed(tmp_path, model_path="vllm-ascend/Qwen3-8B-W8A8", **told)
    apart = fixed(tmp_path, model_path="Qwen3-8B", **(told | {"gemm_quant_mode": "w8a8"}))
    assert (named.skip, named.model, named.quantisation) == ("", "vllm-ascend/Qwen3-8B-W8A8", None)
    assert load_model(named.model) == replace(load_model("qwen3-8b", quantisation="w8a8_int8"), taken=load_model(named.model).taken)
    assert named.seed() == apart.seed()
    (taken,) = ServingValidation((Outcome(named, {}), Outcome(apart, {}))).document()["models_taken"]
    assert taken == load_model(named.model).taken and "taken as the bundled qwen3-8b" in taken
    assert "weights in GGUF are not simulated" in fixed(tmp_path, model_path="unsloth/Qwen3-8B-GGUF", **told).skip
    assert fixed(tmp_path, model_path="/data/models/Qwen3-8B", **told).model == "Qwen3-8B"


DISAGG = {"mode": "disagg", "backend": "sglang", "backend_version": "0.5.8", "input_tokens": 8192} | {
    f"{role}_{name}": value
    for role in ("prefill", "decode")
    for name, value in {"num_workers": None, "tp_size": 8.0, "attention_dp_size": 1.0, "moe_ep_size": 1.0}.items()
}


def test_workers_that_a_disaggregated_row_counts_are_taken(tmp_path: Path) -> None:
    told = {
        "prefill_num_workers": 2.0,
        "decode_num_workers": 1.0,
        "decode_tp_size": 1.0,
        "decode_attention_dp_size": 8.0,
        "decode_moe_ep_size": 8.0,
    }
    assert fixed(tmp_path, **(DISAGG | told)).pools == (Pool(2, 8), Pool(1, 1, 8, 8))


def test_workers_that_it_does_not_count_come_from_the_public_recipe_or_the_row_is_counted_as_skipped(tmp_path: Path) -> None:
    recipe = fixed(tmp_path, **DISAGG)
    assert recipe.pools == (Pool(2, 8), Pool(3, 8)) and not recipe.skip and recipe.load.requests == 5 * 64
    nowhere = fixed(tmp_path, **(DISAGG | {"input_tokens": 4096}))
    assert nowhere.pools is None and "workers are not known" in nowhere.skip and nowhere.measured


def test_a_run_without_its_number_of_clients_is_not_guessed(tmp_path: Path) -> None:
    assert fixed(tmp_path, concurrency=None).skip == "the number of clients is not stated"


def test_public_runs_draw_shorter_lengths_than_they_say(tmp_path: Path) -> None:
    assert fixed(tmp_path).load.prompt.mean == pytest.approx(0.9 * 1024)
    assert fixed(tmp_path, collection="aic gap analysis").load.prompt.mean == 1024


def test_per_tensor_fp8_checkpoints_have_an_fp8_cache_under_tensorrt_llm(tmp_path: Path) -> None:
    dense = {"model_path": "meta-llama/Llama-3.1-70B", "tp_size": 4.0, "moe_tp_size": 1.0, "moe_ep_size": 1.0}
    gap = {"collection": "aic gap analysis"}
    assert fixed(tmp_path, **dense, **gap).settings["kv_bits"] == 8.0
    assert "kv_bits" not in fixed(tmp_path, backend="vllm", backend_version="0.11", **dense, **gap).settings


def test_experts_decide_the_format_of_a_model_that_has_them(tmp_path: Path) -> None:
    qwen = {"model_path": "Qwen/Qwen3.5-397B-A17B", "gemm_quant_mode": "fp8", "moe_quant_mode": "fp8_block"}
    assert fixed(tmp_path, **qwen).quantisation == "fp8_block128"


def test_gap_runs_have_the_token_budgets_of_their_generator(tmp_path: Path) -> None:
    gap = {"collection": "aic gap analysis", "model_path": "Qwen/Qwen3-32B", "input_tokens": 1000}
    assert fixed(tmp_path, **gap).settings["max_num_batched_tokens"] == 2592  # 64 + 1000 + 1500, up to a multiple of 32
    vllm = fixed(tmp_path, backend="vllm", backend_version="0.12", **gap)
    assert vllm.settings["max_num_batched_tokens"] == 2564 and vllm.load.distinct_prompts == 100
    assert fixed(tmp_path, backend="vllm", backend_version="0.12", **(gap | {"input_tokens": 1024})).load.distinct_prompts == 0
    mixed = fixed(tmp_path, backend="sglang", backend_version="0.5.6", **gap)
    assert mixed.settings == {"max_num_batched_tokens": 2500, "policy": "vllm-v1"}


def test_public_runs_look_nothing_up_and_schedule_ahead_under_vllm(tmp_path: Path) -> None:
    vllm = {"backend": "vllm", "backend_version": "0.11.2"}
    assert fixed(tmp_path, **vllm).profile == "vllm-v1-async"
    assert fixed(tmp_path, collection="aic gap analysis", **vllm).profile == "vllm-v1"
    assert fixed(tmp_path, **vllm).settings["prefix_caching"] is fixed(tmp_path).settings["prefix_caching"] is False
    assert fixed(tmp_path, collection="aic gap analysis", **vllm).settings["prefix_caching"] is True


def test_tensorrt_llm_runs_that_wait_for_fuller_batches_say_so(tmp_path: Path) -> None:
    assert fixed(tmp_path, tp_size=1.0, attention_dp_size=8.0).settings["balance_wait_steps"] == 60
    dense = {"model_path": "meta-llama/Llama-3.1-70B", "moe_tp_size": 1.0, "moe_ep_size": 1.0}
    assert fixed(tmp_path, tp_size=4.0, **dense).settings["batch_wait_steps"] == 20
    assert "batch_wait_steps" not in fixed(tmp_path, tp_size=8.0, **dense).settings


def test_unknown_device_and_model_are_named(tmp_path: Path) -> None:
    assert fixed(tmp_path, system="tpu_v9").skip == "no hardware profile for tpu_v9"
    assert fixed(tmp_path, model_path="who/knows").skip == "unknown model who/knows"


def test_serve_commands_give_layout_and_settings() -> None:
    vllm = read_command("vllm serve openai/gpt-oss-120b --max-model-len 32768 --max-num-batched-tokens 4096 -tp 2")
    assert (vllm.engine, vllm.model, vllm.tp) == ("vLLM", "openai/gpt-oss-120b", 2)
    assert vllm.settings == {"max_model_len": 32768, "max_num_batched_tokens": 4096}
    sglang = read_command("python3 -m sglang.launch_server --model-path a/b --tp-size 8 --dp-size 8 --enable-dp-attention")
    assert (sglang.engine, sglang.tp, sglang.dp) == ("SGLang", 1, 8)
    assert read_command("vllm serve a/b --kv-cache-dtype=fp8").settings == {"kv_bits": 8.0}
    assert "kv-cache-dtype" in read_command("vllm serve a/b --kv-cache-dtype=nvfp4").unsupported
    assert read_command("vllm serve a/b --no-enable-prefix-caching").settings == {"prefix_caching": False}


PAGE = {
    "page": "qwen3-32b/h100",
    "gpu_page": "h100",
    "engine_versions": "- vLLM: v0.11.0",
    "section": "1",
    "case": "",
    "serve_command": "vllm serve Qwen/Qwen3-14B",
    "mean_input_tokens": 200.0,
    "mean_output_tokens": 200.0,
    "successful_requests": 1000.0,
    "max_concurrency": None,
    "output_tokens_per_s": 900.0,
    "total_tokens_per_s": 1800.0,
    "mean_ttft_ms": 100.0,
    "mean_tpot_ms": 10.0,
}


def page(tmp_path: Path, **changes: Any) -> Any:
    path = tmp_path / "pages.parquet"
    pd.DataFrame([PAGE | changes]).to_parquet(path)
    return read_file(path, TABLES)[0]


def test_a_command_that_names_a_neighbour_of_the_pages_model_is_a_slip(tmp_path: Path) -> None:
    assert load_model(page(tmp_path).model).name == "qwen3-32b"
    assert load_model(page(tmp_path, serve_command="vllm serve Qwen/Qwen3-32B-FP8").model).quantisation.name != "none"
    assert load_model(page(tmp_path, page="some-models/h100").model).name == "qwen3-14b"


def test_a_page_of_a_model_that_fits_only_in_fp8_means_its_fp8_checkpoint(tmp_path: Path) -> None:
    flags = "backend parameters: --tp-size=8"
    assert load_model(page(tmp_path, page="glm-5.2/h200", gpu_page="h200", serve_command=flags).model).name == "glm-5.2-fp8"
    assert load_model(page(tmp_path, page="glm-4.6/h200", gpu_page="h200", serve_command=flags).model).name == "glm-4.6"


def test_a_power_cap_slows_prompts_and_not_decodes_and_stays_with_its_device_in_the_split(tmp_path: Path) -> None:
    row = {"model": "llama2-70b", "prompt_tokens": 512, "batch": 4, "output_tokens": 128, "tensor_parallel": 8, "dtype": "fp16"}
    row |= {"prompt_phase_ms": 100.0, "decode_step_ms": 30.0}
    pd.DataFrame([row | {"hardware": "h100-80gb"}, row | {"hardware": "h100-80gb-pcap"}]).to_parquet(tmp_path / "phases.parquet")
    free, capped = (predict(found) for found in read_file(tmp_path / "phases.parquet", TABLES))
    assert capped["prompt_phase"] == pytest.approx(1.3 * free["prompt_phase"]) and capped["decode_step"] == free["decode_step"]
    assert len({found.run for found in read_file(tmp_path / "phases.parquet", TABLES)}) == 1
