"""Devices without tables: what their operators reach, what is said of that, and links that are a wire to each peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from benchmarks.ascend import points
from benchmarks.ascend.fit import SHIPPED
from benchmarks.ascend.rows import EXPERTS, HOST
from simserve import resources
from simserve.config.engine_profile import load_engine
from simserve.cost.spread import UNVALIDATED_SPREAD, ScaledKernel, spread_log
from simserve.errors import ProfileError
from simserve.hardware import load_profile
from simserve.hardware.device import Link
from simserve.hardware.efficiency import Efficiency, efficiency_for

ASCEND = [name for name in resources.available("hardware_profiles") if name.startswith("ascend")]


def made(**changes: Any) -> Efficiency:
    return Efficiency(**{"operator": "gemm", "status": "assumed", "source": "here", **changes})


@pytest.mark.parametrize(("name", "published"), [("ascend-910c", points.DIE), ("ascend-910b", points.DEVICE_910B)])
def test_measured_efficiencies_are_as_far_off_their_points_as_they_say(name: str, published: Any) -> None:
    profile = load_profile(name)
    for (operator, dtype), errors in points.errors_percent(profile, published).items():
        stated = efficiency_for(profile.document.efficiencies, operator, dtype)
        assert stated is not None and stated.status == "measured", operator
        found = float(np.mean(np.abs(errors)))
        assert stated.error_percent is not None
        assert found <= stated.error_percent + 1.0, f"{operator} {dtype}: {found:.1f} %, the profile says {stated.error_percent}"


def test_fitted_numbers_of_profiles_are_those_that_the_fit_is_about() -> None:
    host = load_engine("vllm-ascend").host
    assert {name: getattr(host, name) for name in HOST} == {name: SHIPPED[name] for name in HOST}
    for name in ("ascend-910b", "ascend-910c"):
        experts = efficiency_for(load_profile(name).document.efficiencies, "moe", "bf16")
        assert experts is not None and experts.status == "fitted" and experts.bandwidth_fraction == SHIPPED[EXPERTS]


def test_time_is_the_arithmetic_and_the_traffic_at_what_is_reached_and_a_floor() -> None:
    profile = load_profile("ascend-910c")
    context = profile.estimate("gemm", "bf16").context
    columns = {"m": np.array([16.0]), "n": np.array([4096.0]), "k": np.array([4096.0])}
    device = profile.device
    compute = 2 * 16 * 4096 * 4096 / device.peak("bf16") / 0.5
    moved = 2 * (4096 * 4096 + 2 * 16 * 4096) / device.hbm_bytes_per_s / 0.25
    stated = made(compute_fraction=0.5, bandwidth_fraction=0.25, floor_s=1e-5)
    assert stated.seconds(context, columns)[0] == pytest.approx(np.hypot(compute, moved) + 1e-5, rel=1e-12)
    one = made(bandwidth_fraction=0.25).seconds(context, columns | {"m": np.array([1.0])})
    assert one[0] < stated.seconds(context, columns)[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"operator": "gem"}, "it must be one of"),
        ({"operator": "attention_mixed"}, "it must be one of"),
        ({"status": "fitted", "error_percent": 5}, "states the bounds"),
        ({"status": "measured"}, "states its error_percent"),
        ({"bounds": [{"parameter": "floor_s", "low": 1e-6, "high": 2e-6}], "floor_s": 3e-6}, "outside its bounds"),
        ({"bounds": [{"parameter": "floor_s", "low": 2e-6, "high": 1e-6}]}, "must be below high"),
        ({"status": "guessed"}, "measured"),
        ({"compute_fraction": 1.2}, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        made(**changes)


def test_an_operator_stated_twice_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    document = yaml.safe_load(resources.find("hardware_profiles", "ascend-910b").read_text())
    document["efficiencies"].append(document["efficiencies"][0])
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ProfileError, match=r"'gemm' \(all formats\) is stated twice"):
        load_profile(path)


def test_a_format_of_its_own_comes_before_all_others() -> None:
    both = (made(compute_fraction=0.5), made(compute_fraction=0.9, dtypes=("w8a8_int8",)))
    eight, sixteen = (efficiency_for(both, "gemm", dtype) for dtype in ("w8a8_int8", "bf16"))
    assert eight is not None and eight.compute_fraction == 0.9
    assert sixteen is not None and sixteen.compute_fraction == 0.5
    assert efficiency_for(both, "moe", "bf16") is None


@pytest.mark.parametrize("name", ASCEND)
def test_every_operator_says_what_stands_behind_it(name: str) -> None:
    profile = load_profile(name)
    for stated in profile.document.efficiencies:
        model = profile.estimate(stated.operator, stated.dtypes[0] if stated.dtypes else "bf16")
        assert model.status == stated.status
        assert model.label.endswith(f"({stated.status} efficiency)")
        assert model.validated == (stated.status == "measured")
    assert load_profile("a10").estimate("gemm", "bf16").status == "assumed"
    assert load_profile("a100-sxm-80gb").operator("gemm", "bf16").status == "measured"


def test_a_stated_error_is_how_far_the_operator_may_be_off() -> None:
    profile = load_profile("ascend-910c")
    experts, decode = profile.estimate("moe", "bf16"), profile.estimate("attention_decode", "bf16")
    assert experts.efficiency is not None and experts.efficiency.error_percent
    assert spread_log(experts) == pytest.approx(1.2533 * experts.efficiency.error_percent / 100)
    assert spread_log(decode) == UNVALIDATED_SPREAD["attention_decode"]  # assumed: no error is known


def test_a_scaled_operator_is_its_own_times_the_factor_and_keeps_what_stands_behind_it() -> None:
    experts = load_profile("ascend-910c").estimate("moe", "bf16")
    layer = {"num_tokens": 256.0, "hidden_size": 2048.0, "inter_size": 768.0, "topk": 8.0, "num_experts": 128.0}
    twice = ScaledKernel.of(experts, 2.0)
    assert twice.seconds(**layer) == pytest.approx(2.0 * experts.seconds(**layer))
    assert (twice.status, twice.label) == (experts.status, experts.label)


def test_a_wire_to_each_peer_is_used_by_groups_that_have_the_peer() -> None:
    mesh = Link(bytes_per_s=196e9, latency_s=0, mesh_peers=7)
    assert mesh.reached_by(np.array([2.0, 4.0, 8.0])) == pytest.approx([28e9, 84e9, 196e9])
    assert Link(bytes_per_s=196e9, latency_s=0).reached_by(np.array([2.0, 8.0])) == pytest.approx([196e9, 196e9])
    times = load_profile("ascend-910b").estimate("all_gather", "bf16").seconds(message_bytes=2.0**30, num_gpus=np.array([2.0, 8.0]))
    assert times[0] > 3 * times[1]  # limulidae: 38 and 149 GB/s


def test_four_bit_weights_widened_to_sixteen_cost_the_way_through_memory() -> None:
    profile = load_profile("ascend-910c")
    layer = {"num_tokens": 64.0, "hidden_size": 7168.0, "inter_size": 2048.0, "topk": 8.0, "num_experts": 384.0, "expert_parallel": 16.0}
    a16, a8 = (float(profile.estimate("moe", dtype).seconds(**layer)[0]) for dtype in ("w4a16_int4", "w4a8_int4"))
    assert a16 > 5 * a8
