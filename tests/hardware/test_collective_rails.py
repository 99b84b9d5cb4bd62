"""Collectives over several nodes use the NICs of all devices of a node."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.hardware import load_profile


def seconds(operator: str, gpus: int, nodes: int, size_bytes: float) -> float:
    kernel = load_profile("h20").operator(operator, "bf16")  # a profile without measurements: the estimate
    columns = {"message_bytes": np.array([size_bytes]), "num_gpus": np.array([float(gpus)]), "num_nodes": np.array([float(nodes)])}
    return float(kernel.seconds(**columns)[0])


def test_eight_rails_carry_eight_times_as_much_as_one() -> None:
    size = 256 * 2.0**20
    one_each, eight_each = seconds("all_reduce", 2, 2, size), seconds("all_reduce", 16, 2, size)
    # 2 (g - 1) / g of the buffer over each rank's share of the rails: 1 buffer over one NIC, 1.875 over eight.
    assert one_each / eight_each == pytest.approx(8 / 1.875, rel=0.1)


def test_crossing_nodes_is_never_faster_than_staying() -> None:
    for size in (2.0**12, 2.0**20, 2.0**28):
        assert seconds("all_reduce", 8, 2, size) >= seconds("all_reduce", 8, 1, size)


def test_an_all_to_all_is_held_by_one_nic_for_each_device() -> None:
    assert seconds("all_to_all", 16, 2, 2.0**28) > 3 * seconds("all_reduce", 16, 2, 2.0**28)
