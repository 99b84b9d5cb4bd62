"""What a suite found: for people, for machines, for a pull request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.report.rows import milliseconds, number
from simserve.study.regress.suite import Kpi, Suite
from simserve.study.regress.verdict import Row
from simserve.version import __version__

SCHEMA_VERSION = 1
_ORDER = ("fail", "unclear", "better", "pass")
_WORDS = {"fail": "worse", "unclear": "unclear", "better": "better", "pass": "in its band"}


@dataclass(frozen=True)
class RegressReport:
    """rows of figures, errors of cases that could not be run, cases without a baseline (only when updating), notes."""

    suite: Suite
    rows: tuple[Row, ...]
    errors: dict[str, str]
    new: tuple[str, ...]
    notes: tuple[str, ...]
    updated: bool

    @property
    def failures(self) -> tuple[Row, ...]:
        """Figures that became worse than their band allows."""
        return tuple(row for row in self.rows if row.verdict == "fail")

    @property
    def ok(self) -> bool:
        """Whether nothing became worse and every case could be run."""
        return not self.failures and not self.errors

    @property
    def exit_code(self) -> int:
        """0, or 1 when something became worse (not when the baselines were just recorded)."""
        return 0 if self.ok or self.updated else 1

    @property
    def headline(self) -> str:
        """The outcome in a line."""
        counts = {verdict: sum(row.verdict == verdict for row in self.rows) for verdict in _ORDER}
        parts = [f"{counts[v]} {_WORDS[v]}" for v in _ORDER if counts[v]]
        if self.errors:
            parts.insert(0, f"{_cases(len(self.errors))} could not be run")
        if self.new:
            parts.append(f"{_cases(len(self.new))} new")
        seeds = len(self.suite.seeds)
        cases = len({row.case for row in self.rows} | set(self.errors) | set(self.new))
        passed = "no regression shown" if counts["unclear"] else "no regression"
        verb = "baselines recorded" if self.updated else passed if self.ok else "REGRESSION"
        return f"{self.suite.name}: {verb}. {', '.join(parts)} ({_cases(cases)}, {seeds} paired seed{'s' if seeds != 1 else ''})"

    def sorted_rows(self) -> list[Row]:
        """Rows, those that need eyes first."""
        return sorted(self.rows, key=lambda row: _ORDER.index(row.verdict))

    def cells(self, row: Row) -> tuple[str, ...]:
        """case, figure, before, now, change with its interval, band, verdict."""
        return (
            row.case,
            row.kpi.quantity.text,
            _value(row.kpi, row.before),
            _value(row.kpi, row.now),
            _change(row) or row.note,
            row.kpi.band(),
            _WORDS[row.verdict],
        )

    def text(self, every: bool = False) -> str:
        """Plain text for a terminal or an assertion: the figures that need eyes, or every one."""
        lines = [self.headline]
        lines += [f"  {case}: could not be run: {error}" for case, error in self.errors.items()]
        for row in self.sorted_rows():
            if every or row.verdict != "pass":
                case, figure, before, now, change, band, verdict = self.cells(row)
                lines.append(f"  {verdict:8} {case} {figure}: {before} -> {now}, {change} (allowed {band})")
        return "\n".join([*lines, *(f"  ! {note}" for note in self.notes)])

    def markdown(self) -> str:
        """A summary for a pull request: what needs eyes in a table, the rest folded away."""
        mark = "📝" if self.updated else "✅" if self.ok else "❌"
        lines = [f"### {mark} {self.headline}", ""]
        lines += [f"- **{case}** could not be run: {error}" for case, error in self.errors.items()]
        eyes = [row for row in self.sorted_rows() if row.verdict != "pass"]
        rest = [row for row in self.sorted_rows() if row.verdict == "pass"]
        if eyes:
            lines += ["", *self._table(eyes)]
        if rest:
            lines += ["", f"<details><summary>{len(rest)} figures in their bands</summary>", "", *self._table(rest), "", "</details>"]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        means = "mean over paired seeds, of log ratios where the allowed change is a fraction and of differences where it is an amount"
        interval = " with its 95 % confidence interval" if len(self.suite.seeds) > 1 else "; one seed tells nothing of chance"
        lines += ["", f"Change: {means}{interval}. simserve {__version__}.", ""]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, for machines."""
        return {
            "schema_version": SCHEMA_VERSION,
            "simserve_version": __version__,
            "suite": self.suite.name,
            "ok": self.ok,
            "updated": self.updated,
            "seeds": list(self.suite.seeds),
            "errors": self.errors,
            "new": list(self.new),
            "notes": list(self.notes),
            "rows": [
                {
                    "case": row.case,
                    "figure": row.kpi.quantity.text,
                    "worse": row.kpi.worse,
                    "tolerance": row.kpi.tolerance,
                    "relative": row.kpi.relative,
                    "before": row.before,
                    "now": row.now,
                    "change": row.change,
                    "interval": None if row.low is None else [row.low, row.high],
                    "verdict": row.verdict,
                    "note": row.note,
                }
                for row in self.rows
            ],
        }

    def _table(self, rows: list[Row]) -> list[str]:
        head = ["| case | figure | before | now | change | allowed | |", "|---|---|--:|--:|---|--:|---|"]
        return [*head, *("| " + " | ".join(cell.replace("|", "\\|") for cell in self.cells(row)) + " |" for row in rows)]


def _cases(number: int) -> str:
    return f"{number} case{'s' if number != 1 else ''}"


def _value(kpi: Kpi, value: float | None) -> str:
    column = kpi.quantity.column
    return milliseconds(value) if column.endswith(("_s", "_s_per_token")) and not column.endswith("_per_s") else number(value)


def _change(row: Row) -> str:
    if row.change is None or row.low is None or row.high is None:
        return ""
    if row.change == row.low == row.high == 0:
        return "equal"
    if row.change == row.low == row.high:  # one seed, or seeds that make no difference: there is no interval to speak of
        return f"{100 * row.change:+.1f} %" if row.kpi.relative else f"{row.change:+.3g}"
    if row.kpi.relative:
        return f"{100 * row.change:+.1f} % ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    return f"{row.change:+.3g} ({row.low:+.3g} to {row.high:+.3g})"
