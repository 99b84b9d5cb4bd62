"""The harness on an Ascend NPU, with a stand-in for torch and torch_npu: what it asks of them, not what a device answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.calibration.measure import attention_kernels, devices
from simserve.calibration.measure.attention_kernels import Batch, Heads, fused_infer
from simserve.errors import ConfigError


class Recorder:
    """A device module as torch.npu: remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*_: Any, **__: Any) -> Any:
            self.asked.append(name)
            return self

        return call

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append("exit")

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def get_device_properties(self, _: int) -> Any:
        return SimpleNamespace(name="Ascend910B2", total_memory=64 << 30, cube_core_num=24)

    def mem_get_info(self) -> tuple[int, int]:
        return 60 << 30, 64 << 30

    def memory_reserved(self) -> int:
        return 3 << 30

    def memory_allocated(self) -> int:
        return 1 << 30


class Array(np.ndarray):
    """NumPy with the few methods of a tensor that the plan uses."""

    def to(self, _: Any) -> Array:
        return self


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> tuple[devices.TorchDevice, list[dict[str, Any]]]:
    """Device 1 of two, and the calls of its attention kernel."""
    calls: list[dict[str, Any]] = []

    def attend(q: Any, keys: Any, values: Any, **options: Any) -> tuple[Any, None]:
        calls.append({"q": q, "keys": keys, "values": values, **options})
        return q, None

    torch = SimpleNamespace(
        npu=Recorder(),
        device=lambda kind, index=0: f"{kind}:{index}",
        as_tensor=lambda values, device=None: np.asarray(values).view(Array),
        ones=lambda shape, device=None, dtype=None: np.ones(shape, dtype=bool),
        triu=lambda values, diagonal=0: np.triu(values, diagonal),
        int32="int32",
        int64="int64",
        bool="bool",
    )
    library = SimpleNamespace(npu_fused_infer_attention_score=attend)
    monkeypatch.setattr(devices, "load_torch", lambda: torch)
    for module in (devices, fused_infer):
        monkeypatch.setattr(module, "load_optional", lambda name: library if name == "torch_npu" else None)
    return devices.open_device("npu:1"), calls


def test_its_facts_are_those_that_the_driver_tells_without_torch(npu: Any) -> None:
    device, _ = npu
    assert (device.kind, device.name, device.sms, device.count) == ("npu", "Ascend910B2", 24, 2)
    assert device.l2_bytes == 192 << 20  # torch_npu does not tell it
    assert device.free_bytes() == (60 + 3 - 1) << 30


def test_kernels_are_captured_in_a_graph_of_the_npu_without_torch(npu: Any) -> None:
    device, _ = npu
    ran: list[int] = []
    replay = device.capture(lambda: ran.append(1))
    replay()
    assert device.has_graphs
    assert "NPUGraph" in device._module.asked and "CUDAGraph" not in device._module.asked
    assert device._module.asked[-1] == "replay"
    assert len(ran) == 2  # once to warm up, once captured; a replay is the device's


def test_a_torch_npu_without_graphs_launches_one_by_one_without_torch(npu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device, _ = npu
    monkeypatch.setattr(devices, "_GRAPHS", {"cuda": "CUDAGraph"})
    assert not devices.open_device("npu").has_graphs
    assert device.has_graphs


def test_attention_is_the_kernel_that_engines_run_over_blocks_of_128_without_torch(npu: Any) -> None:
    device, calls = npu
    assert attention_kernels.best_for_measuring(device) == "fused_infer"
    heads, batch = Heads(q_heads=8, kv_heads=2, head_dim=128), Batch(new_tokens=(1, 300), context_tokens=(200, 0))
    plan = fused_infer.FusedInferPlan(device, heads, batch)
    assert plan.cache_shape() == (2, 2 + 3, 128, 2 * 128)
    options = plan.options
    assert options["actual_seq_lengths"] == [1, 301]  # queries, added up
    assert options["actual_seq_lengths_kv"] == [201, 300]  # keys of each
    assert options["block_table"].shape == (2, 3)
    assert sorted(options["block_table"][0][:2].tolist() + options["block_table"][1].tolist()) == [0, 1, 2, 3, 4]
    assert options["sparse_mode"] == 3 and options["atten_mask"][0, 1] and not options["atten_mask"][1, 0]
    decode = fused_infer.FusedInferPlan(device, heads, Batch(new_tokens=(1, 1), context_tokens=(5, 9)))
    assert "atten_mask" not in decode.options
    assert not calls


def test_no_such_device_says_what_is_missing_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "load_torch", lambda: SimpleNamespace(__version__="2.9"))
    monkeypatch.setattr(devices, "load_optional", lambda _: None)
    with pytest.raises(ConfigError, match="torch_npu package"):
        devices.open_device("npu")
