"""Rows of finished runs on disk, so that an interrupted study continues. One small file per run, written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from simserve.catalogue import METRICS
from simserve.config.cost_models import cost_class
from simserve.config.experiment import Experiment
from simserve.errors import OutputError
from simserve.policies import registry
from simserve.version import __version__
from simserve.workload import formats

Row = dict[str, float | None]

_MOST_BYTES = 1 << 20
"""Of a row's file: a row is a few kilobytes, so anything larger is not one."""


class RunCache:
    """Rows by fingerprint of the experiment, in `<folder>/<version>-<digest of the code>/`.

    The digest covers the package's own source, so a change to simserve itself makes earlier rows those of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.folder = folder / f"{__version__}-{code_digest()[:12]}"

    def other_versions(self) -> list[str]:
        """Versions whose rows lie here and are ignored."""
        if not self.root.is_dir():
            return []
        return sorted(f.name for f in self.root.iterdir() if f.is_dir() and f != self.folder and any(f.iterdir()))

    def get(self, key: str, columns: Iterable[str] = ()) -> Row | None:
        """The row of a run, if it is there, as it was put, and has these columns. Whatever else lies in its place is as good as nothing."""
        path = self._path(key)
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
                return None
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or content.get("key") != key:
            return None
        row = content.get("row")
        if not _is_row(row) or content.get("sha256") != _row_digest(key, row):
            return None
        return row if all(column in row for column in columns) else None

    def put(self, key: str, row: Row) -> None:
        """Keeps a row. Raises OutputError when the place is full or read-only."""
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            text = json.dumps({"key": key, "row": row, "sha256": _row_digest(key, row)})
            try:
                part.write_text(text, encoding="utf-8")
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(NotADirectoryError):  # below a file there is no part
                part.unlink(missing_ok=True)
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"  # many thousands of files in one folder make listings slow


def _is_row(row: Any) -> TypeGuard[Row]:
    """Whether it is a row: names with numbers or null, nothing that only counts as a number (true, an integer beyond any float)."""
    return isinstance(row, dict) and all(value is None or (isinstance(value, float) and math.isfinite(value)) for value in row.values())


def _row_digest(key: str, row: Row) -> str:
    """Of the row's text: a figure changed on disk is damage like any other. Python writes a float so that it reads back the same."""
    return hashlib.sha256(f"{key} {json.dumps(row, sort_keys=True)}".encode()).hexdigest()


def run_key(experiment: Experiment) -> str:
    """What a run's row depends on, as a name: the experiment's fingerprint and the source of what other packages have a part in it."""
    digest = hashlib.sha256(experiment.fingerprint().encode())
    for thing in _things(experiment):
        digest.update(_source_digest(thing).encode())
    return digest.hexdigest()


def _things(experiment: Experiment) -> Iterator[Any]:
    """The policies, cost model, reader of a trace and metrics of a run."""
    for policy in sorted({group.policy for group in experiment.groups}):
        yield registry.scheduler_class(policy)
    for order in sorted({group.order for group in experiment.groups}):
        yield registry.order(order)
    for router in (experiment.policies.router, experiment.policies.decode_router):
        yield registry.router_class(router.policy)
    for controller in experiment.policies.controllers:
        yield registry.controller_class(controller.policy)
    if experiment.cost_model is not None:
        yield cost_class(experiment.cost_model.name)
    workload = experiment.spec.workload
    sources = [] if workload is None else [workload.trace, workload.lengths.trace if workload.lengths else None]
    for trace in sources:
        if trace is not None:
            # A file of no stated format may be of any of them.
            yield from (formats.load(name).read for name in formats.of_packages() if trace.format in (None, name))
    yield from (metric.formula for metric in METRICS if metric.formula is not None)


@functools.lru_cache(maxsize=1)
def code_digest() -> str:
    """sha256 (hex) of the package's source files."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _source_digest(thing: Any) -> str:
    """Digest of the module file of a policy, a formula or the like of another package; "" of our own, and of one without a file."""
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    if name.startswith("simserve.") or file is None:
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
