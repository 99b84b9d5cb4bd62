"""What a notebook shows of a study: a sentence, a table, notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simserve.report.page import render
from simserve.study.cells import headings, texts

if TYPE_CHECKING:
    import pandas as pd


def fragment(sentence: str, table: pd.DataFrame, notes: Sequence[str], more: int = 0) -> str:
    """HTML without a style sheet. `more`: rows that the table leaves out."""
    columns = headings(list(table.columns))
    return render("notebook_table.html.j2", sentence=sentence, headings=columns, rows=texts(table), more=more, notes=notes)
