"""The claims of a paper on a page, with what the variants gave: figures of their runs, answers to their probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simserve.errors import OutputError
from simserve.report import files
from simserve.report.compare.comparison import compare
from simserve.report.compare.html import comparison_page
from simserve.report.page import render
from simserve.report.rows import number
from simserve.report.stored import StoredResult
from simserve.study.claims import kinds
from simserve.study.claims.check import Outcome
from simserve.study.claims.markdown import band_text, ours_text
from simserve.study.outputs import summary_of


class ClaimRow(NamedTuple):
    """One claim as text."""

    claim: str
    published: str
    ours: str
    band: str
    reproduced: bool
    note: str
    mark: str


@dataclass(frozen=True, slots=True)
class ClaimTable:
    """The claims of an experiment.

    paper    title, reference and setting, or empty
    counts   how many lie within their bands, a sentence for each kind of claim
    figures  names of the probes; answers: of each variant that was asked, in their order
    """

    paper: Mapping[str, Any]
    rows: list[ClaimRow]
    figures: list[str]
    answers: list[tuple[str, list[str]]]
    counts: list[str]


def claims_page(directory: Path) -> str:
    """The page of an experiment with variants: its claims, its probes, its runs side by side. Raises OutputError."""
    content = summary_of(directory)
    try:
        outcomes = [_outcome(claim) for claim in content["claims"]]
        title, paper = str(content["name"]), content["paper"]
        found = {place.name: summary_of(place) for place in sorted(directory.iterdir()) if (place / files.SUMMARY).is_file()}
        order = _order(outcomes, found)
        probes = [(name.removesuffix(".probes"), found[name]["probes"]) for name in order if "probes" in found[name]]
    except (KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{directory / files.SUMMARY}: is not the summary of an experiment with variants: {error!r}") from error
    if not order:
        raise OutputError(f"{directory}: holds the claims but none of the variants' results")
    figures = list(dict.fromkeys(figure for _, values in probes for figure in values))
    answers = [(name, [number(values.get(figure)) for figure in figures]) for name, values in probes]
    table = ClaimTable(paper, [_row(outcome) for outcome in outcomes], figures, answers, kinds.lines(outcomes))
    runs = [name for name in order if "probes" not in found[name]]
    if not runs:
        return render("claims_page.html.j2", title=title, claims=table)
    return comparison_page(compare([StoredResult(directory / name) for name in runs], runs), title, table)


def _outcome(claim: Mapping[str, Any]) -> Outcome:
    """A claim of summary.json; an order's values are there by name, and stand in the claim's own order here."""
    rising = claim["claim"].partition(" rises: ")[2].split(", ")
    values = claim["values"]
    if set(rising) == set(values):
        values = {name: values[name] for name in rising}
    return Outcome(**{**claim, "values": values})


def _row(outcome: Outcome) -> ClaimRow:
    published = "" if outcome.published is None else f"{outcome.published:.4g}"
    return ClaimRow(
        outcome.claim, published, ours_text(outcome), band_text(outcome.low, outcome.high), outcome.reproduced,
        " ".join(text for text in (outcome.note, outcome.because, outcome.bounds) if text), kinds.mark(outcome.kind)
    )  # fmt: skip


def _order(outcomes: Sequence[Outcome], found: Mapping[str, Any]) -> list[str]:
    """The variants that were found, in the order in which the claims name them, then the others by name."""
    named = dict.fromkeys(name for outcome in outcomes for name in outcome.values)
    return list(dict.fromkeys([*(name for name in named if name in found), *found]))
