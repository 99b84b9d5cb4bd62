"""Which experiment to deploy: one that is written, that of a run, or the answer of a plan search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve.config.experiment import Experiment
from simserve.errors import OutputError
from simserve.report.files import EXPERIMENT
from simserve.study.base import VARIANT, base
from simserve.study.plan.file import read_plan
from simserve.study.plan.result import PLAN
from simserve.study.plan.search import BEST


def to_deploy(source: str, changes: Mapping[str, Any]) -> tuple[Experiment, list[str]]:
    """(experiment, notes). `source` is a YAML file, the name of a bundled experiment, or the directory of a plan search or a run.

    Raises OutputError for a directory that is neither, and for a search that found no plan; ConfigError for an experiment that is wrong.
    """
    path = Path(source)
    if not path.is_dir():
        origin = base(source, changes)
        notes = []
        if origin.variants and origin.variant is None:
            notes = [f"this is the experiment as it stands; it has the variants {', '.join(origin.variants)} (--set {VARIANT}=NAME)"]
        return origin.load(), notes
    if (path / PLAN).is_file():
        found = read_plan(path)
        if found.best is None:
            raise OutputError(f"{source}: the search found no plan, so there is nothing to deploy: {found.message}")
    for name in (BEST, EXPERIMENT):
        if (path / name).is_file():
            return base(path / name, changes).load(), []
    raise OutputError(f"{source}: holds neither a finished plan search ({BEST}) nor a run ({EXPERIMENT})")
