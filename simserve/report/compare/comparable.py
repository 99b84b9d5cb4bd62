"""What can be compared, and what the tables of a comparison say of each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from simserve.report.compare.differences import Difference
from simserve.report.rows import outcome, stack

if TYPE_CHECKING:
    import pandas as pd

_MOST_DIFFERENCES = 60


class Comparable(Protocol):
    """A Result or a StoredResult."""

    @property
    def name(self) -> str: ...

    @property
    def requests(self) -> pd.DataFrame: ...

    def summary_dict(self) -> dict[str, Any]: ...


def tables(results: Sequence[Comparable], differences: Sequence[Difference]) -> dict[str, Any]:
    """What the templates of a comparison show besides its figures."""
    summaries = [result.summary_dict() for result in results]
    return {
        "stacks": [stack(summary) for summary in summaries],
        "outcomes": [outcome(summary) for summary in summaries],
        "differences": differences[:_MOST_DIFFERENCES],
        "more_differences": max(0, len(differences) - _MOST_DIFFERENCES),
    }
