"""The record of claims as Markdown, between two marks of docs/serving-accuracy.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from simserve.errors import OutputError
from simserve.study.claims import kinds
from simserve.study.claims.check import Outcome
from simserve.study.claims.record import Recorded, Sensitivity

BEGIN = "<!-- claims: written by simserve experiments run -->"
END = "<!-- end of claims -->"

_WIDTH = 120  # characters of a line of prose


def page(records: Mapping[str, Recorded]) -> str:
    """What is in its band, kind by kind, a table of the experiments, then one of the claims of each."""
    lines = [f"- {line}" for line in kinds.lines(outcome for recorded in records.values() for outcome in recorded.outcomes)]
    lines += ["", "| experiment | paper | priority | published | of these nothing fitted | no published value | flags | identities |"]
    lines += ["|---|---|---|--:|--:|--:|--:|--:|"]
    for name, recorded in sorted(records.items()):
        about = [recorded.paper.get("title", "–"), recorded.paper.get("priority", "")]
        lines.append(f"| `{name}` | {' | '.join([*about, *kinds.cells(recorded.outcomes)])} |")
    for name, recorded in sorted(records.items()):
        lines += ["", *_section(name, recorded)]
    return "\n".join(lines) + "\n"


def summary(records: Mapping[str, Recorded]) -> str:
    """The lines of the README: what is in its band, kind by kind."""
    return "\n".join(f"- {line}" for line in kinds.lines(o for recorded in records.values() for o in recorded.outcomes)) + "\n"


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


def rewrite(file: Path, text: str) -> bool:
    """Puts a text between the marks of the file. False when the file has none. Raises OutputError."""
    try:
        whole = file.read_text(encoding="utf-8")
        if whole.count(BEGIN) != 1 or whole.count(END) != 1:
            return False
        before, rest = whole.split(BEGIN)
        file.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
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
        verdict = ", ".join(word for word in ("in" if outcome.reproduced else "**out**", kinds.mark(outcome.kind)) if word)
        band = band_text(outcome.low, outcome.high)
        lines.append(f"| {outcome.claim} | {_number(outcome.published)} | {ours_text(outcome)} | {band} | {verdict} |")
    notes = [f"{outcome.claim}: {outcome.note.rstrip('.')}." for outcome in recorded.outcomes if outcome.note]
    reasons = [*_reasons(recorded, "because", "From published figures"), *_reasons(recorded, "bounds", "Band")]
    lines += [line for text in [paper.get("misses", ""), *notes, *reasons] if text for line in ("", _wrapped(text))]
    if values := [row for row in recorded.sensitivity if row.value is not None]:
        for key in dict.fromkeys(row.key for row in values):
            lines += ["", "The same at neighbouring values of the number that was chosen:", ""]
            lines += _at_values(recorded, [row for row in values if row.key == key])
    if factors := [row for row in recorded.sensitivity if row.factor is not None]:
        lines += ["", *_by_factors(recorded, factors)]
    return lines


def _reasons(recorded: Recorded, of: str, title: str) -> list[str]:
    """A sentence for each reason that claims give, with the claims it is of."""
    claims: dict[str, list[str]] = {}
    for outcome in recorded.outcomes:
        if reason := str(getattr(outcome, of)):
            claims.setdefault(reason, []).append(outcome.claim)
    return [f"{title} ({'; '.join(named)}): {reason.rstrip('.')}." for reason, named in claims.items()]


def _at_values(recorded: Recorded, rows: Sequence[Sensitivity]) -> list[str]:
    outcomes = [outcome for outcome in recorded.outcomes if outcome.ours is not None]
    lines = [f"| `{rows[0].key}` | {' | '.join(outcome.claim for outcome in outcomes)} |", "|--:|" + "--:|" * len(outcomes)]
    lines.append(f"| published | {' | '.join(_number(outcome.published) for outcome in outcomes)} |")
    for row in rows:
        lines.append(f"| {row.value:g} | {' | '.join(_number(row.ours[outcome.claim]) for outcome in outcomes)} |")
    return lines


def _by_factors(recorded: Recorded, rows: Sequence[Sensitivity]) -> list[str]:
    """What hangs on each chosen number: the figures when it is multiplied, how far they move, how many published ones are then in."""
    heads = [f"`{row.key}` x {row.factor:g}" for row in rows]
    lines = [_wrapped(f"{key}: {why.rstrip('.')}.") for key, why in {f"`{row.key}`": row.chosen for row in rows}.items() if why]
    lines += ["" for _ in lines[:1]] + [f"| claim | ours | {' | '.join(heads)} |", "|---|--:|" + "--:|" * len(rows)]
    moving = [outcome for outcome in recorded.outcomes if any(_moves(outcome, row) for row in rows)]
    for outcome in moving:
        cells = [_moved(outcome, row) for row in rows]
        lines.append(f"| {outcome.claim} | {'' if outcome.ours is None else _number(outcome.ours)} | {' | '.join(cells)} |")
    published = [outcome for outcome in recorded.outcomes if outcome.kind in ("predicted", "fitted")]
    if published:
        inside = [sum(row.reproduced[outcome.claim] for outcome in published) for row in rows]
        now = sum(outcome.reproduced for outcome in published)
        lines.append(f"| published numbers within their bands, of {len(published)} | {now} | {' | '.join(map(str, inside))} |")
    still = len(recorded.outcomes) - len(moving)
    return [*lines, *(["", f"{still} of the claims do not move."] if still else [])]


def _moves(outcome: Outcome, row: Sensitivity) -> bool:
    """Whether a figure moves by half a per cent or more, or the verdict changes."""
    now = row.ours[outcome.claim]
    if row.reproduced[outcome.claim] != outcome.reproduced or (now is None) != (outcome.ours is None):
        return True
    return now is not None and outcome.ours is not None and abs(now - outcome.ours) >= 0.005 * abs(outcome.ours)


def _moved(outcome: Outcome, row: Sensitivity) -> str:
    """The figure, how far it moved, and the verdict where that changed; of an order the verdict alone."""
    now, inside = row.ours[outcome.claim], row.reproduced[outcome.claim]
    verdict = "" if inside == outcome.reproduced else " in" if inside else " **out**"
    if outcome.ours is None or now is None:
        return ("in" if inside else "out") if not verdict else verdict.strip()
    change = f" ({100 * (now / outcome.ours - 1):+.0f} %)" if outcome.ours else ""
    return f"{_number(now)}{change}{verdict}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if abs(value) >= 1e6 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
