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


def test_a_link_stays_a_link_and_the_data_land_in_its_target(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    for force in (False, True):
        with staged(tmp_path / "link", force=force) as folder:
            fill(folder, f"{force}")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "summary.json").read_text() == f"{force}"
        assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["plots", "summary.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_a_link_in_the_middle_of_the_path_stays_too(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with staged(tmp_path / "link" / "run", force=False) as folder:
        fill(folder)
    assert (tmp_path / "disk" / "run" / "summary.json").exists()


def test_a_link_that_leads_nowhere_is_named_as_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dangling").symlink_to("nowhere")
    Path("circle").symlink_to("circle")
    with pytest.raises(OutputError, match=r"^dangling: is a link to nowhere, which does not exist$"), staged(Path("dangling"), force=False):
        raise AssertionError("the block must not start")
    with pytest.raises(OutputError, match=r"^circle: "), staged(Path("circle"), force=True):
        raise AssertionError("the block must not start")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "dangling"]


def test_the_current_directory_is_a_place_when_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = Path().stat().st_ino
    with staged(Path(), force=False) as folder:
        fill(folder, "old")
    assert Path("summary.json").read_text() == "old", "a shell that stands in the directory sees the result"
    assert Path().stat().st_ino == inode
    with pytest.raises(OutputError, match="exists"), staged(Path(), force=False):
        raise AssertionError("the block must not start")
    with pytest.raises(KeyboardInterrupt), staged(Path(), force=True) as folder:
        fill(folder, "cut")
        raise KeyboardInterrupt
    assert Path("summary.json").read_text() == "old"
    with staged(Path(), force=True) as folder:
        (folder / "summary.json").write_text("new")
    assert [path.name for path in Path().iterdir()] == ["summary.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_result_that_cannot_be_moved_in_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    fill(tmp_path / "run", "old")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.parent.name.startswith(".partial-") and self.name == "summary.json":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match=r"run/summary\.json"), staged(tmp_path / "run", force=True) as folder:
        fill(folder, "new")
    assert (tmp_path / "run" / "summary.json").read_text() == "old"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["plots", "summary.json"]


def test_an_error_while_writing_names_the_place_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"run/plots/a\.png") as caught, staged(tmp_path / "run", force=False) as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "plots" / "a.png"))
    assert ".partial-" not in str(caught.value)


def test_parents_made_for_nothing_disappear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), staged(tmp_path / "a" / "b" / "run", force=False):
        raise ValueError("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"), staged(tmp_path / name, force=False):
        raise AssertionError("the block must not start")
