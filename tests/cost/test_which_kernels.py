"""Which measurements answer for an operator: the engine's own first, those without launches in them, exact kernels, estimates last."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.cost.kernels import KernelChoice
from simserve.cost.options import CostOptions
from simserve.hardware import load_profile
from simserve.hardware.kernel_model import KernelModel
from simserve.model.operators import ExpertExchange

A100, H100, H200 = (load_profile(name) for name in ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb"))
SIZES = {"m": np.array([1.0, 300.0]), "n": np.array([4096.0, 4096.0]), "k": np.array([4096.0, 4096.0])}
EIGHT = CostOptions(kv_bits=8)


def backend(model: KernelModel) -> tuple[str, str]:
    assert model.entry is not None
    return model.entry.backend, model.entry.kernel


def test_the_engines_own_rows_come_first_and_anothers_where_it_has_none() -> None:
    for engine, found in (("sglang", "sglang 0.5.14"), ("trtllm", "trtllm 1.3.0rc20"), ("vllm", "vllm 0.24.0"), ("VLLM", None)):
        kernels = KernelChoice(H100, engine)
        assert backend(kernels.operator("gemm", "fp8"))[0] == (found or backend(H100.operator("gemm", "fp8"))[0])
    assert backend(KernelChoice(A100, "sglang").operator("gemm", "w4a16_int4"))[0] == "trtllm 1.0.0"
    assert KernelChoice(A100, "sglang", analytic=True).operator("gemm", "bf16").entry is None
    assert KernelChoice(A100, "sglang").operator("gemm", "fp8").entry is None


def test_rows_with_the_hosts_launches_in_them_give_way_to_device_times() -> None:
    """vLLM's latent attention was timed without graphs, and SGLang's with them."""
    assert backend(KernelChoice(H100, "vllm").operator("mla", "bf16", kv_dtype="bf16", starting="decode kernel"))[0] == "sglang 0.5.14"
    assert "graph" in backend(KernelChoice(H100, "vllm").operator("all_reduce", "bf16"))[1]
    only = KernelChoice(A100, "vllm").operator("mla", "bf16", kv_dtype="bf16", kernel="decode kernel vllm_triton_mla")
    assert backend(only) == ("vllm 0.14.0", "decode kernel vllm_triton_mla"), "where there are no others they are taken"


def test_a_kernel_that_was_not_measured_is_estimated_and_named() -> None:
    kernels = KernelChoice(H100)
    assert backend(kernels.operator("mla", "bf16", kv_dtype="bf16", starting="prefill kernel"))[1].startswith("prefill kernel")
    assert kernels.operator("gemm", "bf16", kernel="no such kernel").entry is None
    assert kernels.operator("gemm", "bf16", starting="no such").entry is None
    assert [label for label in kernels.used if label.endswith("(no such kernel)")]
    assert kernels.measured("gemm", "bf16") and not kernels.measured("gemm", "bf16", "no such kernel")
    assert not kernels.measured("gemm", "w4a4_int4") and not KernelChoice(H100, analytic=True).measured("gemm", "bf16")


def test_smooth_quant_stands_for_eight_bits_where_it_was_measured() -> None:
    smooth = A100.operator("gemm", "w8a8_int8_smoothquant").seconds(**SIZES)
    assert (KernelChoice(A100).gemm_seconds("w8a8_int8", **SIZES) == smooth).all()
    estimated = KernelChoice(A100, analytic=True)
    estimated.gemm_seconds("w8a8_int8", **SIZES)
    assert [label for label in estimated.used if "smoothquant" not in label] == list(estimated.used)
    known = KernelChoice(A100)
    known.gemm_seconds("w8a16_int8", **SIZES)
    assert "smoothquant" not in str(list(known.used))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_part_of_the_depth_runs_with_eight_bit_activations(fraction: float) -> None:
    four, eight = (KernelChoice(A100).operator("gemm", dtype).seconds(**SIZES) for dtype in ("w4a4_int4", "w4a8_int4"))
    kernels = KernelChoice(A100, options=CostOptions(a8_fraction=fraction))
    assert kernels.gemm_seconds("w4a4_int4", **SIZES) == pytest.approx(fraction * eight + (1 - fraction) * four)
    bf16 = KernelChoice(A100).gemm_seconds("bf16", **SIZES)
    assert (kernels.gemm_seconds("bf16", **SIZES) == bf16).all(), "other formats are as they were"


def test_only_tensorrt_llms_fp8_rows_hold_the_quantisation() -> None:
    for profile, engine, dtype in (
        (H100, "vllm", "fp8"),
        (H100, "trtllm", "bf16"),
        (H100, "trtllm", "fp8_block128"),
        (H100, "sglang", "fp8"),
    ):
        kernels = KernelChoice(profile, engine)
        assert (kernels.gemm_seconds(dtype, **SIZES) == kernels.operator("gemm", dtype).seconds(**SIZES)).all()
    apart = KernelChoice(H100, "trtllm")
    rows = apart.operator("gemm", "fp8", starting="").seconds(**SIZES)
    off = rows - apart.gemm_seconds("fp8", **SIZES)
    narrow = {"m": 1.0, "n": 256.0, "k": 4096.0}
    whole = float(
        (apart.operator("gemm", "fp8").seconds(**narrow) - H100.operator("gemm", "bf16", "trtllm 1.3.0rc20").seconds(**narrow)).item()
    )
    assert off == pytest.approx(np.full(2, whole - H100.device.launch_s)) and whole > H100.device.launch_s > 0


def test_a_cache_of_eight_bits_was_timed_or_not() -> None:
    assert KernelChoice(H100, options=EIGHT).stored_kv("attention_decode", "bf16") == "fp8"
    for kernels in (
        KernelChoice(H100), KernelChoice(H100, options=CostOptions(kv_bits=4)), KernelChoice(H100, options=EIGHT, analytic=True),
        KernelChoice(A100, options=EIGHT), KernelChoice(H100, options=CostOptions(kv_bits=8, kv_exact_tokens=64)),
    ):  # fmt: skip
        assert kernels.stored_kv("attention_decode", "bf16") == "bf16"


def test_rows_that_do_not_say_the_format_of_the_cache_are_not_of_eight_bits() -> None:
    unsaid: Any = SimpleNamespace(candidates=lambda *names, **more: [SimpleNamespace(entry=SimpleNamespace(kv_dtype=""))])
    assert KernelChoice(unsaid, options=EIGHT).stored_kv("attention_decode", "bf16") == "bf16"


def test_prefixes_were_measured_by_few_and_the_most_rows_count() -> None:
    found = KernelChoice(H100).prefix_attention("bf16")
    assert found is not None and found.entry is not None and (found.entry.points, found.entry.with_prefix) == (5703, True)
    assert KernelChoice(H100, analytic=True).prefix_attention("bf16") is None
    assert KernelChoice(load_profile("a10")).prefix_attention("bf16") is None


@pytest.mark.parametrize(("group", "nodes"), [(2, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_collectives_span_as_many_nodes_as_they_need(group: int, nodes: int) -> None:
    sizes = np.array([1e4, 1e7])
    estimate = KernelChoice(H100, analytic=True)
    model = estimate._estimate("all_reduce", "bf16", "")
    assert (estimate.communication("all_reduce", group, sizes, "bf16") == model.seconds(
        message_bytes=sizes, num_gpus=float(group), num_nodes=float(nodes)
    )).all()  # fmt: skip
    measured = KernelChoice(H100, "vllm")
    seconds = measured.communication("all_reduce", group, sizes, "bf16")
    (used,) = measured.used.values()
    keys = [{"num_gpus": float(group), "num_nodes": float(nodes), "gpus_per_node_used": each} for each in (0.0, float(min(group, 8)))]
    curves = [used.seconds(message_bytes=sizes, **key) for key in keys if used.entry is None or used.covers(**key)]
    assert any((seconds == curve).all() for curve in curves)


def exchange(name: Any = "moe_dispatch", bytes_per_token: int = 7168, group: int = 8) -> ExpertExchange:
    return ExpertExchange(name, bytes_per_token, 8, 256, group, group)


def test_experts_get_tokens_by_the_faster_of_two_kernels() -> None:
    tokens = np.array([1.0, 16.0, 128.0, 1024.0, 8192.0])
    for name, dtype, element in (("moe_dispatch", "fp8", 1.0), ("moe_combine", "bf16", 2.0)):
        kernels = KernelChoice(H100)
        seconds = kernels.exchange(exchange(name, int(7168 * element)), tokens)
        common = {
            "num_tokens_per_gpu": tokens, "hidden_size": 7168.0, "topk": 8.0, "num_experts": 256.0, "num_gpus": 8.0, "num_nodes": 1.0
        }  # fmt: skip
        each = [
            KernelChoice(H100).operator(name, dtype, kernel=kernel).seconds(sms=sms, **common)
            for kernel, sms in (("low_latency", 0.0), ("normal", 20.0))
        ]
        assert (seconds == np.minimum(*each)).all()


def test_experts_on_several_nodes_were_not_measured() -> None:
    kernels = KernelChoice(H100)
    far = kernels.exchange(exchange(group=16), np.array([64.0]))
    assert all(model.entry is None for model in kernels.used.values()) and far > 0
    near = KernelChoice(H100)
    near.exchange(exchange("moe_combine", 2 * 7168), np.array([64.0]))
    assert all(model.entry is not None for model in near.used.values())


def test_a_factor_multiplies_the_times_of_its_operator_alone() -> None:
    label = KernelChoice(H100).operator("gemm", "bf16").label
    twice = KernelChoice(H100, factors={label: 2.0})
    assert twice.operator("gemm", "bf16").seconds(**SIZES) == pytest.approx(2 * H100.operator("gemm", "bf16").seconds(**SIZES))
    assert (twice.operator("gemm", "fp8").seconds(**SIZES) == KernelChoice(H100).operator("gemm", "fp8").seconds(**SIZES)).all()
    assert list(twice.used) == [label, KernelChoice(H100).operator("gemm", "fp8").label]


def test_the_description_lists_measured_operators_and_what_is_not() -> None:
    kernels = KernelChoice(H100, "vllm")
    kernels.operator("gemm", "bf16")
    kernels.operator("gemm", "w4a4_int4")
    kernels.assume("a guess")
    found = kernels.describe()
    (row,) = found["operators"]
    assert (row["operator"], row["dtype"], row["backend"], row["points"]) == ("gemm", "bf16", "vllm 0.24.0", 25872)
    assert set(row["check_mape_percent"]) <= {"points", "shapes"} and row["check_mape_percent"]
    assert len(found["unvalidated"]) == 2 and "a guess" in found["unvalidated"] and found["unvalidated"] == sorted(found["unvalidated"])
