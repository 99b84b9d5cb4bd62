"""The rows of a study on disk: whatever happened to one, a resumed study computes it again and ends as if nothing had."""

from __future__ import annotations

import hashlib
import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.study import cache as cached
from simserve.study.cache import RunCache
from tests.study.conftest import RATE

KEY = "ab" * 32
ROW: dict[str, float | None] = {"ttft_p99_s": 0.25, "tpot_p99_s": None, "requests": 60.0}


@pytest.fixture
def cache(tmp_path: Path) -> RunCache:
    cache = RunCache(tmp_path / "runs")
    cache.put(KEY, ROW)
    return cache


def _file(cache: RunCache) -> Path:
    (path,) = cache.root.glob("*/*/*.json")
    return path


def test_a_row_comes_back_as_it_was_put(cache: RunCache) -> None:
    assert cache.get(KEY) == ROW and cache.get(KEY, ["requests"]) == ROW
    assert cache.get(KEY, ["e2e_p99_s"]) is None and cache.get("cd" * 32) is None


@pytest.mark.parametrize(
    "row",
    [
        dict.fromkeys(ROW, "boo"),
        {**ROW, "requests": True},
        {**ROW, "requests": 61.0},
        {**ROW, "requests": 60},
        {**ROW, "requests": [60.0]},
        {**ROW, "requests": float("nan")},
        {**ROW, "requests": float("inf")},
        {**ROW, "requests": 10**400},
        {**ROW, "more": 1.0},
        {"requests": 60.0},
        [1.0],
        None,
        "row",
    ],
)
def test_a_row_that_was_changed_is_as_good_as_none(cache: RunCache, row: Any) -> None:
    content = json.loads(_file(cache).read_text())
    _file(cache).write_text(json.dumps({**content, "row": row}))
    assert cache.get(KEY) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b"\x00" * 50, b"[" * 100_000, b'{"key": 1' + b"0" * 5000 + b"}", b" " * 3_000_000],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_row_file_is_as_good_as_none(cache: RunCache, content: bytes) -> None:
    _file(cache).write_bytes(content)
    assert cache.get(KEY) is None


def test_no_flipped_byte_is_believed(cache: RunCache) -> None:
    path, rng = _file(cache), random.Random(0)
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        assert cache.get(KEY) in (None, ROW)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache.get(KEY) is None


def test_a_directory_or_a_loop_in_its_place_is_as_good_as_none(cache: RunCache) -> None:
    path = _file(cache)
    path.unlink()
    path.mkdir()
    assert cache.get(KEY) is None
    path.rmdir()
    path.symlink_to(path)
    assert cache.get(KEY) is None


def test_a_sweep_with_a_damaged_row_resumes_to_the_same_table(tiny: dict[str, Any], tmp_path: Path) -> None:
    whole = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, jobs=1, out=tmp_path / "s")
    path = sorted((tmp_path / "s").glob("runs/*/*/*.json"))[0]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "row": dict.fromkeys(content["row"], "boo")}))
    assert simserve.sweep(tiny, {RATE: [4.0, 8.0]}, jobs=1, out=tmp_path / "s", resume=True).frame.equals(whole.frame)


def test_the_source_of_another_package_is_part_of_what_a_row_rests_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies and formulas of others change without simserve's version: their file counts. Our own count as a whole."""
    file = tmp_path / "module_of_theirs.py"
    file.write_text("class Theirs:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = importlib.import_module("module_of_theirs")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert cached._source_digest(theirs) == cached._source_digest(theirs.Theirs) == digest
    assert cached._source_digest(RunCache) == cached._source_digest(cached) == ""
    assert cached._source_digest(sys) == cached._source_digest(len) == "", "no file"
    assert cached._source_digest(type("Typed", (), {"__module__": "__nowhere__"})) == "", "typed in by hand"
    sys.modules.pop("module_of_theirs")
    assert len(cached.code_digest()) == 64
