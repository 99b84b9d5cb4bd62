"""The record of claims as Markdown, between two marks of docs/serving-accuracy.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from simserve.errors import OutputError
from simserve.study.claims.check import Outcome
from simserve.study.claims.record import Recorded

BEGIN = "<!-- claims: written by simserve experiments run -->"
END = "<!-- end of claims -->"

_WIDTH = 120  # characters of a line of prose


def page(records: Mapping[str, Recorded]) -> str:
    """A table of the experiments, then one of the claims of each."""
    claims = sum(len(recorded.outcomes) for recorded in records.values())
    reproduced = sum(recorded.reproduced for recorded in records.values())
    lines = [f"{reproduced} of {claims} claims are within their bands.", ""]
    lines += ["| experiment | paper | priority | in | of |", "|---|---|---|--:|--:|"]
    for name, recorded in sorted(records.items()):
        paper = recorded.paper
        lines.append(
            f"| `{name}` | {paper.get('title', '–')} | {paper.get('priority', '')} | {recorded.reproduced} | {len(recorded.outcomes)} |"
        )
    for name, recorded in sorted(records.items()):
        lines += ["", *_section(name, recorded)]
    return "\n".join(lines) + "\n"


def band_text(low: float | None, high: float | None) -> str:
    """A band in words, for people."""
    if low is None and high is None:
        return "order"
    if low is None:
        return f"at most {_number(high)}"
    return f"at least {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}"


def ours_text(outcome: Outcome) -> str:
    """Our figure; of an order, the figures that should rise."""
    if outcome.low is None and outcome.high is None:
        return " < ".join(_number(value) or "?" for value in outcome.values.values())
    return _number(outcome.ours) or "?"


def rewrite(file: Path, records: Mapping[str, Recorded]) -> bool:
    """Puts the page between the marks of the file. False when the file has none. Raises OutputError."""
    try:
        text = file.read_text(encoding="utf-8")
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            return False
        before, rest = text.split(BEGIN)
        file.write_text(f"{before}{BEGIN}\n\n{page(records)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error
    return True


def _section(name: str, recorded: Recorded) -> list[str]:
    paper = recorded.paper
    lines = [f"### {paper.get('title', 'Our own')}: `{name}`", ""]
    if about := " ".join(f"{text.rstrip('.')}." for key in ("reference", "setting") if (text := paper.get(key))):
        lines += [_wrapped(about), ""]
    lines += ["| claim | published | ours | band | |", "|---|--:|--:|--:|---|"]
    for outcome in recorded.outcomes:
        verdict = "in" if outcome.reproduced else "**out**"
        band = band_text(outcome.low, outcome.high)
        lines.append(f"| {outcome.claim} | {_number(outcome.published)} | {ours_text(outcome)} | {band} | {verdict} |")
    notes = [f"{outcome.claim}: {outcome.note.rstrip('.')}." for outcome in recorded.outcomes if outcome.note]
    lines += [line for text in [paper.get("misses", ""), *notes] if text for line in ("", _wrapped(text))]
    if recorded.sensitivity:
        lines += ["", "The same at neighbouring values of the number that was chosen:", "", *_sensitivity(recorded)]
    return lines


def _sensitivity(recorded: Recorded) -> list[str]:
    outcomes = [outcome for outcome in recorded.outcomes if outcome.ours is not None]
    key = recorded.sensitivity[0].key
    lines = [f"| `{key}` | {' | '.join(outcome.claim for outcome in outcomes)} |", "|--:|" + "--:|" * len(outcomes)]
    lines.append(f"| published | {' | '.join(_number(outcome.published) for outcome in outcomes)} |")
    for row in recorded.sensitivity:
        lines.append(f"| {row.value:g} | {' | '.join(_number(row.ours[outcome.claim]) for outcome in outcomes)} |")
    return lines


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if abs(value) >= 1e6 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
