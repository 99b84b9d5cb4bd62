"""Cost tables from kept answers of trees are those of the trees, and a damaged profile is an error all the same."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve import resources
from simserve.errors import ProfileError
from simserve.hardware import load_profile, trees
from simserve.hardware.kernel_model import KernelModel

POINTS: dict[str, Any] = {"m": np.arange(1.0, 200.0, 7.0), "n": 4096.0, "k": 4096.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trees"


def gemm(profile: str | Path = "a100-sxm-80gb") -> KernelModel:
    return load_profile(profile).operator("gemm", "bf16")


def test_kept_answers_are_those_of_the_trees(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    walk = trees.Trees.log_factor
    monkeypatch.setattr(trees.Trees, "log_factor", lambda self, columns: asked.append(1) or walk(self, columns))
    first = gemm().seconds(**POINTS)
    again = gemm().seconds(**POINTS)
    assert first.tobytes() == again.tobytes() and asked == [1]
    other = gemm().seconds(**{**POINTS, "n": 4097.0})
    assert other.tobytes() != first.tobytes() and asked == [1, 1]
    assert gemm("h100-sxm-80gb").seconds(**POINTS).tobytes() != first.tobytes() and len(asked) == 3
    for file in own_cache.iterdir():
        file.write_bytes(b"damaged")
    assert gemm().seconds(**POINTS).tobytes() == first.tobytes() and len(asked) == 4


def test_a_changed_file_of_coefficients_is_an_error_whatever_is_kept_of_it(tmp_path: Path) -> None:
    source = resources.find("hardware_profiles", "a100-sxm-80gb")
    shutil.copytree(source.parent, tmp_path / "profiles")
    profile = tmp_path / "profiles" / source.name
    model = gemm(profile)
    before = model.seconds(**POINTS)
    assert model.entry is not None
    file = profile.parent / model.entry.model.file
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ProfileError, match="sha256"):
        gemm(profile).seconds(**POINTS)
    file.write_bytes(data)
    assert gemm(profile).seconds(**POINTS).tobytes() == before.tobytes()
