"""Ray and Dask are the same call with the same rows; where they are not installed the message says what to install."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.errors import ConfigError
from tests.study.conftest import RATE

PACKAGES = {"ray": "ray", "dask": "distributed"}


@pytest.mark.parametrize("backend", sorted(PACKAGES))
@pytest.mark.nightly
def test_rows_are_byte_identical(backend: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[backend]) is None:
        pytest.skip(f"{PACKAGES[backend]} is not installed (extra '{backend}')")
    over = {RATE: [4.0, 8.0, 16.0]}
    simserve.sweep(tiny, over, jobs=1, out=tmp_path / "here")
    simserve.sweep(tiny, over, jobs=2, backend=backend, out=tmp_path / "there")
    for name in ("sweep.parquet", "sweep.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize("backend", sorted(PACKAGES))
def test_a_missing_package_is_named_with_its_extra(backend: str, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[backend], None)
    with pytest.raises(ConfigError, match=rf"pip install '{PACKAGES[backend]}' \(the extra '{backend}'"):
        simserve.sweep(tiny, {RATE: [4.0, 8.0]}, backend=backend)
