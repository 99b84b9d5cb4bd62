"""Collectives of devices without a scale-up fabric, against published nccl-tests (docs/cost-models.md)."""

import numpy as np
import pytest

from simserve.hardware.device import Device, Link
from simserve.hardware.operators.base import Context
from simserve.hardware.operators.collective import ALL_REDUCE, ALL_TO_ALL, P2P
from simserve.validation.devices import device_profile

GEN4 = {"host": Link(bytes_per_s=32e9, latency_s=8e-6)}
STAGED = {"peer_access": False}


def device(name: str, **changes: object) -> Device:
    return device_profile(name).device.model_copy(update=changes)


def seconds(operator, on: Device, gpus: int, message_bytes: float) -> float:
    columns = {"message_bytes": message_bytes, "num_gpus": gpus, "num_nodes": 1, "gpus_per_node_used": 0}
    context = Context(device=on, dtype="bf16", kv_dtype="")
    return float(operator.estimate_s(context, {name: np.array([float(value)]) for name, value in columns.items()})[0])


def bus_bytes_per_s(on: Device, gpus: int) -> float:
    message = 1e9
    return 2 * message * (gpus - 1) / gpus / seconds(ALL_REDUCE, on, gpus, message)


@pytest.mark.parametrize(
    ("operator", "name", "gpus", "message_bytes", "measured_us"),
    [
        (ALL_REDUCE, "rtx-4090", 8, 8, 42.1),  # NVIDIA/nccl issue 1530
        (ALL_TO_ALL, "rtx-4090", 2, 8, 11.8),  # tinygrad/open-gpu-kernel-modules issue 17, peer access off
        (ALL_REDUCE, "rtx-pro-6000", 8, 8192, 24.2),  # voipmonitor/rtx6kpro hardware/pcie-bandwidth.md
        (ALL_REDUCE, "rtx-pro-6000", 2, 16384, 12.0),
        (ALL_REDUCE, "rtx-pro-6000", 8, 16384, 23.0),
    ],
)
def test_small_messages_take_what_nccl_tests_measured(operator, name, gpus, message_bytes, measured_us):
    assert seconds(operator, device(name), gpus, message_bytes) * 1e6 == pytest.approx(measured_us, rel=0.12)


@pytest.mark.parametrize(
    ("changes", "gpus", "measured_gbytes_per_s"),
    [
        (GEN4, 2, 18.5),  # two RTX PRO 6000 in PCIe 4 slots
        ({}, 8, 26.0),  # eight in a server of two sockets
        (STAGED, 4, 35.0),  # RTX 5090 (the same slots, no peer access), NVIDIA/nccl issue 1639
        (STAGED, 8, 28.0),
    ],
)
def test_large_messages_reach_the_bus_bandwidth_that_was_measured(changes, gpus, measured_gbytes_per_s):
    assert bus_bytes_per_s(device("rtx-pro-6000", **changes), gpus) == pytest.approx(measured_gbytes_per_s * 1e9, rel=0.12)


def test_staging_in_host_memory_is_slower_than_peer_access():
    peers, staged = device("rtx-pro-6000"), device("rtx-pro-6000", **STAGED)
    for operator in (ALL_REDUCE, ALL_TO_ALL, P2P):
        for message in (64, 1e8):
            assert seconds(operator, staged, 2, message) > seconds(operator, peers, 2, message)


def test_geforce_has_no_peer_access_and_data_centre_cards_have():
    assert not device("rtx-4090").peer_access
    assert all(device(name).peer_access for name in ("l40s", "a10", "a40", "rtx-pro-6000"))


def test_a_scale_up_fabric_is_taken_where_there_is_one():
    whatever = device("h100-sxm-80gb")
    assert seconds(ALL_REDUCE, whatever, 8, 1e9) == seconds(ALL_REDUCE, device("h100-sxm-80gb", **STAGED), 8, 1e9)
    assert bus_bytes_per_s(whatever, 8) > 300e9
