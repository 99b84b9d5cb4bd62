"""`simserve report`: the page that suits what is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simserve.errors import OutputError
from simserve.report import files
from simserve.report.compare.comparison import compare
from simserve.report.compare.html import comparison_page
from simserve.report.stored import StoredResult
from simserve.study.capacity.file import read_capacity
from simserve.study.capacity.page import capacity_page
from simserve.study.claims.html import claims_page
from simserve.study.outputs import Kind, read_sweep, recognise
from simserve.study.placement.file import read_placement
from simserve.study.placement.page import placement_page
from simserve.study.plan.file import read_plan
from simserve.study.plan.page import plan_page
from simserve.study.sweep.page import sweep_page

COMPARISON = "comparison.html"


class Page(NamedTuple):
    """A page, where it belongs when no place is given (`own`: a file of the output itself, always replaced), a note or ""."""

    html: str
    place: Path
    own: bool
    note: str = ""


def report(outputs: Sequence[str | Path]) -> Page:
    """The page of one output directory, or of several runs side by side. Raises OutputError, naming the output, when there is none."""
    if not outputs:
        raise OutputError("report: no outputs were given")
    found = [recognise(Path(output)) for output in outputs]
    if len(found) == 1:
        return _single(*found[0])
    for kind, path in found:
        if kind != found[0][0]:
            raise OutputError(f"{found[0][1]} is {found[0][0]}, {path} is {kind}: a comparison is of runs; report each on its own")
        if kind == Kind.VARIANTS:
            raise OutputError(f"{path}: is {kind}; name the variants to compare ({path}/...), or report it on its own")
        if kind != Kind.RUN:
            raise OutputError(f"a comparison is of runs; {path} is {kind}: report each on its own")
    paths = [path for _, path in found]
    comparison = compare([StoredResult(path) for path in paths])
    parents = {path.absolute().parent for path in paths}
    return Page(comparison_page(comparison), _shown(parents.pop()) / COMPARISON if len(parents) == 1 else Path(COMPARISON), False)


def _single(kind: Kind, path: Path) -> Page:
    place = path / files.REPORT if path.is_dir() else path.with_suffix(".html")
    if kind == Kind.SWEEP:
        return Page(sweep_page(read_sweep(path)), place, path.is_dir())
    if kind == Kind.CAPACITY:
        return Page(capacity_page(read_capacity(path)), place, path.is_dir())
    if kind == Kind.PLACEMENT:
        return Page(placement_page(read_placement(path)), place, path.is_dir())
    if kind == Kind.PLAN:
        return Page(plan_page(read_plan(path)), place, path.is_dir())
    if kind == Kind.VARIANTS:
        return Page(claims_page(path), place, path.is_dir())
    html, note = StoredResult(path).report()
    return Page(html, place, True, note)


def _shown(directory: Path) -> Path:
    """The directory as a person would write it: relative when it lies below the current one."""
    relative = os.path.relpath(directory)
    return directory if relative.startswith("..") else Path(relative)
