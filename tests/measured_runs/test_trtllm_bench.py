"""What TensorRT-LLM's benchmark tool decides by itself, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.measured_runs import fixed_concurrency, offline_throughput, trtllm_bench, vllm_experts
from simserve.model import load_model
from simserve.validation.devices import device_profile
from simserve.validation.machine import build_instance
from simserve.validation.predict import simulate_case
from simserve.validation.workloads import build_workload

ROW = {
    "engine": "TensorRT-LLM v1.0",
    "gpu": "h100_sxm",
    "model": "Llama-3.1-8B",
    "dtype": "fp8",
    "tensor_parallel": 1,
    "input_tokens": 1000,
    "output_tokens": 1000,
    "num_requests": 3000,
    "output_tokens_per_s": 15220.0,
}


def offline(**changes: Any) -> Any:
    return offline_throughput.read(pd.DataFrame([ROW | changes]), "x")[0]


def test_slots_and_tokens_of_a_dense_model() -> None:
    """85 GB less 9 GB, 0.95 of it, over 65,536 bytes a token and 2,000 tokens: 550 sequences, up to a multiple of 128; twice as many
    tokens, which are below the tool's least."""
    model = load_model("llama-3.1-8b", quantisation="fp8")
    found = trtllm_bench.settings(model, "h100-sxm-80gb", 1, 1000, 1000, 1.0)
    assert found["max_seqs"] == 640
    assert found["max_num_batched_tokens"] == 2048
    assert found["graph_sizes"][-1] == found["max_seqs"]
    long = trtllm_bench.settings(model, "h100-sxm-80gb", 1, 20_000, 2000, 1.0)
    assert long["max_seqs"] == 64
    assert long["max_num_batched_tokens"] == 20_000 + 64, "prompts are not cut: a step holds one, and all slots"


def test_more_slots_than_memory_holds_are_optimistic_up_to_a_step() -> None:
    model = load_model("llama-3.1-8b", quantisation="fp8")
    slots = [trtllm_bench.settings(model, "h200-sxm-141gb", 1, 128, out, 1.0)["max_seqs"] for out in (128, 2048, 4096)]
    assert slots == sorted(slots, reverse=True)
    assert slots[0] == 4096, "the tool's most"


def test_models_with_experts_run_attention_data_parallel() -> None:
    dense, sparse = offline(), offline(model="Llama-4-Maverick", tensor_parallel=8)
    assert (dense.tp, dense.dp, dense.ep) == (1, 1, 1)
    assert (sparse.tp, sparse.dp, sparse.ep) == (1, 8, 8)
    assert dense.settings["kv_bits"] == 8.0
    assert "kv_bits" not in sparse.settings, "NVIDIA's Llama-4 checkpoints state no format of the cache"


def test_the_run_holds_no_more_sequences_than_whole_answers_fit() -> None:
    case = offline(num_requests=1200)
    spec = build_instance(case)
    assert spec.scheduler.params.reserve == "stated"
    assert list(build_workload(case).requests.max_output_tokens[:2]) == [1000, 1000]
    _, records = simulate_case(case, _overheads(case))
    most = max(int(lane.span_decode_requests.max()) for lane in records.lanes)
    assert most == min(spec.max_seqs, spec.kv_blocks // -(-2000 // spec.block_tokens))


def _overheads(case: Any) -> Any:
    from simserve.config.engine_profile import load_engine
    from simserve.validation.machine import overheads_of

    return overheads_of(load_engine(case.profile))


FIXED = {
    "id": "gpt_oss_c512",
    "backend": "vllm",
    "backend_version": "0.11.2",
    "model_path": "openai/gpt-oss-120b",
    "system": "h100_sxm",
    "mode": "agg",
    "input_tokens": 1024,
    "output_tokens": 1024,
    "gemm_quant_mode": None,
    "moe_quant_mode": None,
    "tp_size": 4.0,
    "pp_size": 1.0,
    "attention_dp_size": 1.0,
    "moe_tp_size": 4.0,
    "moe_ep_size": 1.0,
    "tpot_ms": 4.7,
    "ttft_ms": 19_977.0,
    "concurrency": 512.0,
    "collection": "public inference benchmark dump",
}


@pytest.mark.parametrize(("ttft_ms", "known"), [(19_977.0, False), (900.0, True)])
def test_a_row_that_waits_though_every_client_has_a_slot_is_not_simulated(ttft_ms: float, known: bool) -> None:
    case = fixed_concurrency.read(pd.DataFrame([FIXED | {"ttft_ms": ttft_ms}]), "x")[0]
    assert (case.skip == "") is known
    assert known or "slots are not stated" in case.skip
    assert case.settings["expert_kernel"] == "marlin", "VLLM_MXFP4_USE_MARLIN=1 in the launch script"
    assert build_instance(case).cost.describe()["options"] == {"expert_kernel": "marlin", "expert_popularity": 1.3}


@pytest.mark.parametrize(
    ("version", "model", "gpu", "split", "kernel"),
    [
        ("0.11.0", "gpt-oss-20b", "h100-sxm-80gb", 1, "marlin"),
        ("0.19.0", "gpt-oss-20b", "h100-sxm-80gb", 1, ""),
        ("0.11.0", "qwen3-30b-a3b", "h100-sxm-80gb", 1, ""),
        ("", "gpt-oss-20b", "h100-sxm-80gb", 1, ""),
        ("0.12.0", "qwen3-235b-a22b-fp8", "h200-sxm-141gb", 4, "deepgemm-padded"),
        ("0.11.2", "deepseek-r1", "h200-sxm-141gb", 8, "deepgemm-padded"),
        ("0.12.0", "deepseek-r1", "h200-sxm-141gb", 8, ""),
        ("0.11.0", "qwen3-235b-a22b-fp8", "h200-sxm-141gb", 4, ""),
        ("0.13.0", "qwen3-235b-a22b-fp8", "h200-sxm-141gb", 4, ""),
        ("0.12.0", "qwen3-235b-a22b-fp8", "a100-sxm-80gb", 4, ""),
        ("0.12.0", "llama-3.1-8b", "h200-sxm-141gb", 1, ""),
    ],
)
def test_which_kernel_older_versions_of_vllm_run(version: str, model: str, gpu: str, split: int, kernel: str) -> None:
    assert vllm_experts.expert_kernel(version, load_model(model), gpu, split).get("expert_kernel", "") == kernel


def test_a_board_with_a_measured_chip_has_its_kernels_and_memory_of_its_own() -> None:
    pcie, sxm = device_profile("h100-pcie"), device_profile("h100-sxm-80gb")
    assert pcie.device.hbm_bytes_per_s < 0.7 * sxm.device.hbm_bytes_per_s
    assert not pcie.candidates("all_reduce", "bf16")
    (few, many), (few_sxm, many_sxm) = (
        profile.candidates("gemm", "bf16", "vllm")[0].seconds(m=np.array([1.0, 8192.0]), n=8192.0, k=8192.0) for profile in (pcie, sxm)
    )
    assert few / few_sxm == pytest.approx(3.35 / 2.04, rel=0.1)
    assert many / many_sxm == pytest.approx(989 / 756, rel=0.1)
