"""The page of a comparison, and its tables for a notebook."""

from __future__ import annotations

from typing import Any

from simserve.report.compare.comparison import Comparison
from simserve.report.page import pictures, render
from simserve.report.rows import outcome, stack

_MOST_DIFFERENCES = 60


def comparison_page(comparison: Comparison, title: str = "Comparison", claims: Any = None) -> str:
    """One self-contained page. `claims` is what study/claims/html.py says of a paper; it stands first."""
    return render("compare.html.j2", title=title, claims=claims, **_content(comparison), plots=pictures(comparison.plot.figures()))


def fragment(comparison: Comparison) -> str:
    """The tables without page and plots: what a notebook shows. They need no style sheet."""
    return render("notebook_compare.html.j2", **_content(comparison))


def _content(comparison: Comparison) -> dict[str, Any]:
    summaries = [result.summary_dict() for result in comparison.results]
    return {
        "comparison": comparison,
        "stacks": [stack(summary) for summary in summaries],
        "outcomes": [outcome(summary) for summary in summaries],
        "differences": comparison.differences[:_MOST_DIFFERENCES],
        "more_differences": max(0, len(comparison.differences) - _MOST_DIFFERENCES),
    }
