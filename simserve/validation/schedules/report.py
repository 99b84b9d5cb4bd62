"""A difference between two schedules in words, and a summary of many comparisons for a terminal or a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.validation.schedules.compare import Comparison, Tally, tallies
from simserve.validation.schedules.difference import Difference, Side
from simserve.validation.schedules.schedule import seconds

MOST_ROWS = 12
"""Requests named in one cell; of more, the count."""

Row = tuple[str, str, str]


def headline(comparison: Comparison) -> str:
    """Where a workload parts, in a sentence."""
    if comparison.difference is None:
        return f"{comparison.workload.name}: {comparison.why}"
    found = comparison.difference
    where = f"at {seconds(found.at_s)}" if found.step is None else f"in step {found.step}, {seconds(found.at_s)}"
    who = "" if found.row is None else f" (request {found.row})"
    return f"{comparison.workload.name} differs {where}: {found.about}{who}"


def state_rows(difference: Difference) -> list[Row]:
    """The state of both sides as (what, engine, simserve); of what is equal on both only the counts."""
    if difference.left is None or difference.right is None:
        return [] if difference.times is None else [(f"request {difference.row}", difference.times[0], difference.times[1])]
    left, right = difference.left, difference.right
    rows: list[Row] = [("step starts", _time(left), _time(right))]
    rows += [("tokens", _total(left), _total(right))]
    unlike = sorted(row for row in left.tokens.keys() | right.tokens.keys() if left.tokens.get(row) != right.tokens.get(row))
    for row in unlike[:MOST_ROWS]:
        rows.append((f"request {row}", _doing(row, left), _doing(row, right)))
    if len(unlike) > MOST_ROWS:
        rows.append((f"and {len(unlike) - MOST_ROWS} more", "", ""))
    rows.append(("preempted", _list(left.preempted), _list(right.preempted)))
    rows.append(("admitted", _admitted(left), _admitted(right)))
    rows.append(("running", *_lists(left.running, right.running)))
    rows.append(("waiting", *_lists(left.waiting, right.waiting)))
    if left.free_blocks is not None or right.free_blocks is not None:
        rows.append(("free blocks", _blocks(left), _blocks(right)))
    return rows


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A summary for a pull request: what was equal by kind, and the first difference of each kind with the state of both sides."""
    counts = tallies(comparisons)
    equal, compared = sum(t.equal for t in counts), sum(t.compared for t in counts)
    versions = ", ".join(dict.fromkeys(t.label for t in counts))
    lines = [f"## Schedules: {equal} of {compared} equal, step for step", "", f"simserve against {versions or 'nothing'}.", ""]
    lines += ["| engine | profile | kind | equal | first difference |", "|---|---|---|--:|---|"]
    lines += [f"| {t.label} | {t.profile} | {t.kind} | {count(t)} | {remarks(t)} |" for t in counts]
    for tally in counts:
        if tally.first is None or tally.first.difference is None:
            continue
        lines += ["", f"### {tally.label}, {headline(tally.first)}", ""]
        lines += [f"| | {tally.label} | simserve ({tally.profile}) |", "|---|---|---|"]
        lines += [f"| {what} | {a} | {b} |" for what, a, b in state_rows(tally.first.difference)]
    return "\n".join(lines) + "\n"


def count(tally: Tally) -> str:
    """How many of a kind were equal, or that none was compared."""
    return f"{tally.equal} of {tally.compared}" if tally.compared else "–"


def remarks(tally: Tally) -> str:
    """The first difference of a kind, and why workloads of it were not compared."""
    said = [headline(tally.first)] if tally.first is not None else []
    for verdict, number in (("not driven", tally.not_driven), ("not simulated", tally.not_simulated)):
        if number:
            said.append(f"{number} {verdict}: {'; '.join(tally.refusals)}")
    return "; ".join(said)


def _time(side: Side) -> str:
    return "no such step" if side.start_s is None else seconds(side.start_s)


def _blocks(side: Side) -> str:
    return "not known" if side.free_blocks is None else f"{side.free_blocks:,}"


def _total(side: Side) -> str:
    return f"{sum(side.tokens.values()):,} of {len(side.tokens)} request{'s' if len(side.tokens) != 1 else ''}"


def _doing(row: int, side: Side) -> str:
    """What becomes of a request in the step."""
    if row in side.tokens:
        return f"{side.tokens[row]} token{'s' if side.tokens[row] != 1 else ''}"
    if row in side.preempted:
        return "none, preempted"
    if row in side.running:
        return "none, runs"
    return "none, waits" if row in side.waiting else "none, is not there"


def _list(rows: Sequence[int]) -> str:
    if not rows:
        return "none"
    if len(rows) > MOST_ROWS:
        return f"{len(rows)}: {', '.join(str(row) for row in rows[:MOST_ROWS])} ..."
    return ", ".join(str(row) for row in rows)


def _lists(left: Sequence[int], right: Sequence[int]) -> tuple[str, str]:
    """Requests on both sides; of long lists the count, and those that the other does not have."""
    if max(len(left), len(right)) <= MOST_ROWS:
        return _list(left), _list(right)
    return _also(left, right), _also(right, left)


def _also(rows: Sequence[int], others: Sequence[int]) -> str:
    only = [row for row in rows if row not in set(others)]
    return f"{len(rows)}, among them {_list(only)}" if only else f"{len(rows)}"


def _admitted(side: Side) -> str:
    cached = {row: f"{row} ({tokens} cached)" if tokens else str(row) for row, tokens in side.admitted.items()}
    if len(cached) > MOST_ROWS:
        return _list(tuple(cached))
    return ", ".join(cached.values()) or "none"
