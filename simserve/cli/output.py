"""Output directories that are complete or absent: written beside their place, renamed into it at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simserve.errors import OutputError

MARKER = "summary.json"
"""Every result directory holds it; only such a directory may be replaced by --force."""


@contextmanager
def staged(target: Path, *, force: bool) -> Iterator[Path]:
    """A fresh directory to write into; it becomes `target` when the block ends well, and disappears when it does not.

    Raises OutputError at once when `target` may not be written: it is a file, or not empty without `force`, or (even with `force`)
    not empty and not a result.
    """
    _check(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())  # mkdtemp makes private directories
        _replace(folder, target, force)
    except BaseException as problem:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(problem, OutputError):  # it names the temporary place, which the user has never heard of
            raise OutputError(str(problem).replace(str(folder), str(target)) + "; nothing was kept") from problem
        raise


def _check(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{target}: is a file; an output directory is needed")
    if not any(target.iterdir()):
        return
    if not force:
        raise OutputError(f"{target}: exists; choose another place with --out, or replace it with --force")
    if not (target / MARKER).is_file():
        raise OutputError(f"{target}: holds something that is not a result (no {MARKER}); --force replaces results only")


def _replace(folder: Path, target: Path, force: bool) -> None:
    _check(target, force)  # somebody else may have finished meanwhile
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    target.rename(old / target.name)
    try:
        folder.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
