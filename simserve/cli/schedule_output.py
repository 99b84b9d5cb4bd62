"""What `simserve validate schedule` shows: counts by kind, and the first step that differs with the state of both sides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from simserve.cli import tables
from simserve.errors import OutputError
from simserve.validation.schedules.compare import Comparison, Tally
from simserve.validation.schedules.report import count, headline, markdown, remarks, state_rows


def show(counts: Sequence[Tally]) -> None:
    """The table, and the state where the first workload parts."""
    rows = [(tally.kind, tally.label, tally.profile, count(tally), remarks(tally)) for tally in counts]
    tables.show(("kind", "engine", "profile", "equal", "first difference"), rows)
    equal, compared = sum(tally.equal for tally in counts), sum(tally.compared for tally in counts)
    print(f"\n{equal} of {compared} schedules equal, step for step")
    first = next((tally for tally in counts if tally.first is not None), None)
    if first is None or first.first is None:
        return
    print(f"\n{first.label}, {headline(first.first)}\n")
    if first.first.difference is not None:
        sides = first.label, f"simserve ({first.profile})"
        tables.show(("", *sides), state_rows(first.first.difference))


def print_json(counts: Sequence[Tally]) -> None:
    """The counts as a list of objects."""
    rows = []
    for tally in counts:
        row = {name: getattr(tally, name) for name in ("engine", "version", "profile", "kind", "equal", "different")}
        row |= {"not_driven": tally.not_driven, "not_simulated": tally.not_simulated, "refusals": list(tally.refusals)}
        rows.append(row | {"first_difference": None if tally.first is None else headline(tally.first)})
    print(json.dumps(rows, indent=2, ensure_ascii=False))


def write_summary(comparisons: Sequence[Comparison], path: Path) -> None:
    """The Markdown summary. Raises OutputError where it cannot be written."""
    try:
        path.write_text(markdown(comparisons), encoding="utf-8")
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written: {problem.strerror or problem}") from None
    typer.echo(f"wrote {path}", err=True)
