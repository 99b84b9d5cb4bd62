"""The files of a result. Each is written under a temporary name and then renamed; summary.json is the last, so a directory that has one
is complete. Same run, same bytes: no dates, no machine, keys in a fixed order."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.errors import OutputError

SUMMARY = "summary.json"
REQUESTS = "requests.parquet"
STEPS = "steps.parquet"
SCALING = "scaling.parquet"
TIMELINE = "timeline.json"
REPORT = "report.html"
EXPERIMENT = "experiment.resolved.yaml"
PLOTS = "plots"


def make_directory(path: Path, force: bool) -> None:
    """Create the output directory. Raises OutputError when it holds something already, unless `force`."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: a file of that name exists; choose another output directory")
    if path.is_dir() and not force and any(path.iterdir()):
        raise OutputError(f"{path}: the directory exists and is not empty; choose another one or overwrite it (--force)")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot create the output directory: {error.strerror or error}") from error
    (path / SUMMARY).unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file under a temporary name, then give it its own. Raises OutputError when the place is full or read-only."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(NotADirectoryError):  # below a file there is no part
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Indented JSON with sorted keys; NaN is an error, not a literal that JSON does not have."""
    write_whole(path, lambda part: part.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"))


def write_yaml(path: Path, content: Any) -> None:
    """YAML in the order of the mapping."""
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_summary(directory: Path) -> dict[str, Any]:
    """The content of a result's summary.json. Raises OutputError when there is none or it is not one of ours."""
    path = directory / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        what = "is not the output of a finished run" if directory.is_dir() else "does not exist"
        raise OutputError(f"{directory}: {what} (there is no {SUMMARY})") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OutputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or "latency" not in content or "throughput" not in content:
        raise OutputError(f"{path}: is not the summary of a simserve run")
    from simserve.report.summary import SCHEMA_VERSION

    if content.get("schema_version") != SCHEMA_VERSION:
        raise OutputError(f"{path}: has schema version {content.get('schema_version')!r}; this version of simserve reads {SCHEMA_VERSION}")
    content = dict(renamed.apply(content, renamed.SUMMARY_KEYS))
    for part in ("latency", "slo"):  # sorted keys in the file; "all" comes first for people
        if isinstance(content.get(part), dict) and "all" in content[part]:
            content[part] = {"all": content[part]["all"], **content[part]}
    return content
