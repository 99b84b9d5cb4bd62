"""Output directories are complete or absent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from simserve.cli.output import staged
from simserve.errors import OutputError


def fill(folder: Path, text: str = "{}") -> None:
    (folder / "summary.json").write_text(text)
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_bytes(b"x")


def test_a_finished_block_leaves_the_directory_and_nothing_else(tmp_path: Path) -> None:
    with staged(tmp_path / "out" / "run", force=False) as folder:
        assert not (tmp_path / "out" / "run").exists(), "nothing may look like a result before the end"
        fill(folder)
    assert (tmp_path / "out" / "run" / "plots" / "a.png").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]
    assert (tmp_path / "out" / "run").stat().st_mode & 0o055, "as readable as any directory made by hand"


@pytest.mark.parametrize(
    "problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), SystemExit(143), ValueError("x")]
)
def test_whatever_ends_the_block_early_leaves_nothing(tmp_path: Path, problem: BaseException) -> None:
    with pytest.raises(type(problem)), staged(tmp_path / "run", force=False) as folder:
        fill(folder)
        raise problem
    assert list(tmp_path.iterdir()) == []


def test_an_early_end_keeps_the_result_that_was_to_be_replaced(tmp_path: Path) -> None:
    with staged(tmp_path / "run", force=False) as folder:
        fill(folder, "old")
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "run", force=True) as folder:
        fill(folder, "new")
        raise KeyboardInterrupt
    assert (tmp_path / "run" / "summary.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_existing_result_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    fill(tmp_path / "run", "old")
    with pytest.raises(OutputError, match=r"exists.*--out.*--force"), staged(tmp_path / "run", force=False):
        raise AssertionError("the block must not start")
    assert (tmp_path / "run" / "summary.json").read_text() == "old"


def test_force_replaces_a_result_whole(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    fill(tmp_path / "run", "old")
    (tmp_path / "run" / "timeline.json").write_text("stale")
    with staged(tmp_path / "run", force=True) as folder:
        fill(folder, "new")
    assert (tmp_path / "run" / "summary.json").read_text() == "new"
    assert not (tmp_path / "run" / "timeline.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_force_never_deletes_what_is_not_a_result(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="not a result"), staged(tmp_path / "home", force=True):
        pass
    assert (tmp_path / "home" / "thesis.tex").read_text() == "precious"


def test_an_empty_directory_is_free_to_use(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with staged(tmp_path / "run", force=False) as folder:
        fill(folder)
    assert (tmp_path / "run" / "summary.json").exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError), staged(target, force=True):
            pass
