"""Arrays kept between processes: what comes back is what was put, or nothing."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from simserve.files.kept import KeptArrays, cache_folder

KEY = "ab" * 20
VALUES = np.array([0.1, -1.0 / 3.0, 5e-324, np.inf, 0.0])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "numbers"


def test_an_array_comes_back_bit_by_bit_and_under_its_own_key_only() -> None:
    kept = KeptArrays("numbers")
    assert kept.get(KEY) is None
    kept.put(KEY, VALUES)
    found = KeptArrays("numbers").get(KEY)
    assert found is not None and found.tobytes() == VALUES.tobytes()
    assert kept.get("cd" * 20) is None and KeptArrays("others").get(KEY) is None


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 40, None])
def test_what_is_not_as_it_was_written_counts_as_nothing(own_cache: Path, damage: bytes | None) -> None:
    kept = KeptArrays("numbers")
    kept.put(KEY, VALUES)
    written = (own_cache / KEY).read_bytes()
    (own_cache / KEY).write_bytes(written[:-1] + bytes([written[-1] ^ 1]) if damage is None else damage)
    assert kept.get(KEY) is None
    (own_cache / ("cd" * 20)).write_bytes(written)  # the content of another key
    assert kept.get("cd" * 20) is None


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "file"))
    kept = KeptArrays("numbers")
    kept.put(KEY, VALUES)
    assert kept.get(KEY) is None
    monkeypatch.delenv("SIMSERVE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    kept.put(KEY, VALUES)
    assert kept.get(KEY) is None


def test_the_oldest_go_when_there_are_too_many(own_cache: Path) -> None:
    kept = KeptArrays("numbers", most_files=8)
    for number in range(50):
        kept.put(f"{number:040x}", VALUES)
        assert len(list(own_cache.iterdir())) <= 8
        assert kept.get(f"{number:040x}") is not None
    assert kept.get(f"{0:040x}") is None


def _put_many(worker: int) -> bool:
    kept = KeptArrays("numbers", most_files=8)
    whole = True
    for number in range(200):
        key = f"{number % 12:040x}"
        kept.put(key, VALUES + number % 12)
        found = kept.get(key)
        whole &= found is None or found.tobytes() == (VALUES + number % 12).tobytes()
    return whole


def test_processes_share_the_folder(own_cache: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(_put_many, range(2)))
    assert not list(own_cache.glob("*.part"))


def test_the_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMSERVE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder("trees") == Path("/x/simserve/trees")
