"""Output directories that are complete or absent: written apart from their place, moved into it at the end.

A place that does not exist yet is written beside itself and renamed. A directory that exists (an empty one, the current one, the target of
a symbolic link, a result that `--force` replaces) stays the directory it is: it is written inside, and what is in it changes at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simserve.errors import OutputError

MARKER = "summary.json"
"""Every result directory holds it; only such a directory may be replaced by --force."""

_PARTIAL, _OLD = ".partial-", ".old-"


@contextmanager
def staged(target: Path, *, force: bool) -> Iterator[Path]:
    """A fresh directory to write into; its content is at `target` when the block ends well, and disappears when it does not.

    Raises OutputError at once when `target` may not be written: it is a file, a link that leads nowhere, or not empty without `force`,
    or (even with `force`) not empty and not a result.
    """
    place = _place(target)
    _check(target, place, force)
    made: list[Path] = []
    try:
        made = _make_parents(place)
        beside = place if place.is_dir() else place.parent
        folder = Path(tempfile.mkdtemp(prefix=_PARTIAL if beside == place else f".{place.name[:100]}{_PARTIAL}", dir=beside))
    except OSError as error:
        _remove_empty(made)
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())  # mkdtemp makes private directories
        _check(target, place, force)  # another process may have finished meanwhile
        _move(folder, place)
    except BaseException as problem:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)
        if isinstance(problem, OutputError):  # it names the temporary place, which the user has never heard of
            raise OutputError(str(problem).replace(str(folder), str(target)) + "; nothing was kept") from problem
        if isinstance(problem, OSError) and str(folder) in str(problem.filename):
            name = str(problem.filename).replace(str(folder), str(target))
            raise OSError(problem.errno, problem.strerror, name) from problem
        raise


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A place for a file beside the directory of `staged`, from which it may be moved; afterwards it is not there."""
    part = folder.with_name(f"{folder.name}.requests")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def kept(target: Path, *places: Path) -> Iterator[None]:
    """Keeps the requests that a run has written to the first of these places that is there, when the block is left by an exception: beside
    `target`, under a name that no result has."""
    try:
        yield
    except BaseException as problem:
        place = target.with_name(f"{target.name}.interrupted.parquet")
        for part in places:
            with suppress(OSError):
                os.replace(part, place)
                print(f"the requests written until then are in {place}", file=sys.stderr)
                break
        if isinstance(problem, OutputError):  # of the first place, a name that the user has never heard of
            raise OutputError(str(problem).replace(str(places[0]), str(target / "requests.parquet"))) from problem
        raise


def _place(target: Path) -> Path:
    """Where `target` really is, links followed. Raises OutputError for links that lead nowhere and names that cannot be."""
    try:
        if target.is_symlink() and not target.exists():
            raise OutputError(f"{target}: is a link to {os.readlink(target)}, which does not exist")
        return target.resolve()
    except (OSError, ValueError, RuntimeError) as problem:  # a name too long, a NUL, links in a circle
        raise OutputError(f"{target}: cannot be written: {getattr(problem, 'strerror', None) or problem}") from None


def _check(target: Path, place: Path, force: bool) -> None:
    if not place.exists():
        return
    if not place.is_dir():
        raise OutputError(f"{target}: is a file; an output directory is needed")
    try:
        empty = not _content(place)
    except OSError as problem:
        raise OutputError(f"{target}: cannot be read: {problem.strerror}") from None
    if empty:
        return
    if not force:
        raise OutputError(f"{target}: exists; choose another place with --out, or replace it with --force")
    if not (place / MARKER).is_file():
        raise OutputError(f"{target}: holds something that is not a result (no {MARKER}); --force replaces results only")


def _content(place: Path) -> list[Path]:
    """What a directory holds, but for the unfinished output of a run."""
    return [path for path in place.iterdir() if not path.name.startswith((_PARTIAL, _OLD))]


def _move(folder: Path, place: Path) -> None:
    if folder.parent != place:
        folder.rename(place)
        return
    old = Path(tempfile.mkdtemp(prefix=_OLD, dir=place))
    try:
        # The marker goes first and comes last: without it a directory is no result.
        _move_all(place / MARKER, _content(place), old)
        try:
            _move_all(folder / MARKER, list(folder.iterdir()), place)
        except BaseException:
            for path in _content(place):
                path.rename(folder / path.name)
            raise
    except BaseException:
        for path in sorted(old.iterdir(), key=lambda one: one.name == MARKER):
            path.rename(place / path.name)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    folder.rmdir()


def _move_all(marker: Path, paths: list[Path], to: Path) -> None:
    leaving = to.name.startswith(_OLD)
    for path in sorted(paths, key=lambda one: (one != marker) if leaving else (one == marker)):
        path.rename(to / path.name)


def _make_parents(place: Path) -> list[Path]:
    """Makes the directories above `place`; those that were missing, innermost first."""
    missing = []
    parent = place.parent
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
