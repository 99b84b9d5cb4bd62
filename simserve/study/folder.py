"""The directory of a study's files: the rows of finished runs from the first one on, the result when all of them are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from simserve.errors import ConfigError, OutputError
from simserve.files.json_text import read_json
from simserve.report.files import write_json
from simserve.study.cache import RunCache

RUNS = "runs"
STUDY = "study"
"""Beside the rows: which kind of study they belong to, so that an unfinished one can say what it is."""

STUDIES = ("sweep", "capacity search", "placement search", "plan search")


T = TypeVar("T")


def stated(directory: str | Path, result: str, what: str, version: int, *beside: str) -> Mapping[str, Any]:
    """What the finished study in a directory says of itself: its file `result`, with the files `beside` it.

    what  the kind of study that is looked for, as of `opened`
    Raises OutputError where it is not there, is no JSON mapping, or is of another schema version.
    """
    folder = Path(directory)
    for name in (result, *beside):
        if not (folder / name).is_file():
            raise OutputError(f"{folder}: is not the output of a finished {what} (there is no {name})")
    about = read_json(folder / result, OutputError)
    found = about.get("schema_version") if isinstance(about, Mapping) else None
    if not isinstance(about, Mapping) or found != version:
        raise OutputError(f"{folder / result}: has schema version {found!r}; this version of simserve reads {version}")
    return about


def read_back(directory: str | Path, result: str, what: str, version: int, made: Callable[[Mapping[str, Any]], T], *beside: str) -> T:
    """A finished study read back: `made` of what `stated` found. Raises OutputError, for whatever `made` cannot read too."""
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    about = stated(directory, result, what, version, *beside)
    try:
        return made(about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError, pa.ArrowException) as error:
        raise OutputError(f"{Path(directory) / result}: cannot be read as a {what}: {type(error).__name__}: {error}") from error


def opened(out: Path, what: str, result: str, *, resume: bool, force: bool = False) -> RunCache:
    """The cache in the directory of a study (`what`: a sweep, a capacity search) whose file `result` is written last.

    resume  go on with what lies there: runs that are there are not computed again
    force   throw away what lies there

    Raises OutputError when it holds something else, or something and neither is asked for.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; an output directory is needed")
    if out.is_dir() and any(out.iterdir()):
        begun = unfinished(out)
        if not (out / result).is_file() and begun not in (what, ""):
            found = "something" if begun is None else f"an interrupted {begun}, something"
            raise OutputError(f"{out}: holds {found} that is not a {what}; choose another place (--out)")
        if not (resume or force):
            raise OutputError(f"{out}: holds a {what} already; continue it with --resume, or choose another place (--out)")
    try:
        if force:
            shutil.rmtree(out / RUNS, ignore_errors=True)
            (out / result).unlink(missing_ok=True)
        (out / RUNS).mkdir(parents=True, exist_ok=True)
        write_json(out / RUNS / STUDY, {"study": what, "result": result})
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error
    return RunCache(out / RUNS)


def other_versions_note(cache: RunCache) -> list[str]:
    """One line when rows of another version lie in the cache, none otherwise."""
    found = cache.other_versions()
    return [f"ignored in {cache.root}: runs of another version or code of simserve ({', '.join(found)})"] if found else []


def unfinished(out: Path) -> str | None:
    """Which kind of study was interrupted before its result was written, "" where that is not known; None when none was."""
    if not (out / RUNS).is_dir() or any(out.glob("*.json")):
        return None
    try:
        content = json.loads((out / RUNS / STUDY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    what = content.get("study") if isinstance(content, dict) else None
    return what if what in STUDIES else ""
