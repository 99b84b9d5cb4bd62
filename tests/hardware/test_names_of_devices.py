"""Names under which devices are sold, and as measurement files spell them."""

from __future__ import annotations

import pytest

from simserve.errors import ProfileError
from simserve.hardware import load_profile
from simserve.validation.names import hardware_name


@pytest.mark.parametrize(
    ("name", "profile"),
    [("b200", "b200-sxm"), ("HGX-B200", "b200-sxm"), ("gb200-nvl72", "gb200"), ("gb300-nvl72", "gb300"), ("b300", "b300-sxm")],
)
def test_a_name_that_means_one_profile_is_taken(name: str, profile: str) -> None:
    assert load_profile(name).name == profile


def test_a_name_that_means_two_is_refused_with_both() -> None:
    with pytest.raises(ProfileError, match="'h100-pcie' or 'h100-sxm-80gb'"):
        load_profile("h100")


@pytest.mark.parametrize(
    ("spelled", "profile"),
    [
        ("NVIDIA B200", "b200-sxm"),
        ("NVIDIA GB200", "gb200"),
        ("8xGB300", "gb300"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("RTXPRO6000", "rtx-pro-6000"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_devices_as_measurement_files_spell_them(spelled: str, profile: str) -> None:
    assert hardware_name(spelled) == profile
