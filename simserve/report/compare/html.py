"""The page of a comparison."""

from __future__ import annotations

from typing import Any

from simserve.report.compare.comparable import tables
from simserve.report.compare.comparison import Comparison
from simserve.report.page import pictures, render


def comparison_page(comparison: Comparison, title: str = "Comparison", claims: Any = None) -> str:
    """One self-contained page. `claims` is what study/claims/html.py says of a paper; it stands first."""
    return render(
        "compare.html.j2",
        title=title,
        claims=claims,
        comparison=comparison,
        **tables(comparison.results, comparison.differences),
        plots=pictures(comparison.plot.figures()),
    )
