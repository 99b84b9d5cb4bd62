"""What may be known of a request: the one list of columns, from which everything that handles them follows.

A column is declared here and nowhere else. Its checks, `RequestTable.take`, simserve's own files (CSV, JSONL, Parquet), what policies may
ask (`request.column(name)`) and its place in requests.parquet follow. Those that the simulator itself works with have an attribute of
`RequestTable` besides; all others are found by name: `table.column("adapter")`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simserve.bounds import MOST_EXACT

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_TOKENS = 10**9
"""Tokens of one request: a hundred times the longest context of any model; more is another quantity."""

MOST_SECONDS = 1e11
"""No clock of an operating system counts so many seconds (the year 5138): it counts milliseconds or less."""

MOST_NAMES = int(np.iinfo(np.int16).max)
"""Different names in a column of names: models, classes, kinds of logs. More is free text."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of names stored as small integers: `names[codes[i]]` is the name of row i."""

    codes: NDArray[np.int16] | NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @staticmethod
    def of(texts: list[str]) -> Labels:
        """Names as codes, in order of first appearance."""
        number: dict[str, int] = {}
        codes = np.array([number.setdefault(text, len(number)) for text in texts], dtype=np.int64)
        return Labels(small(codes, len(number)), tuple(number))


Values = I64 | F64 | Labels
"""One column of a table."""


@dataclass(frozen=True, slots=True)
class Column:
    """One property of requests.

    name     in files, in the table and in results
    kind     integer, or row (number of an earlier row of the table): int64; number: float64; name: Labels
    meaning  one line, for the documentation and the Parquet metadata
    unit     "" for none
    absent   value of a row that does not state it; None = every row must
    least, most  bounds of stated values, None = none. `most` bounds what files state; of names, how many different ones there may be
    always   a table has the column whether it is stated or not; otherwise only where a row states it
    visible  policies may see it
    content_key  prefixes of equal contents are shared only among requests that have this column alike
    """

    name: str
    kind: Literal["integer", "row", "number", "name"]
    meaning: str
    unit: str = ""
    absent: float | str | None = None
    least: float | None = None
    most: float = MOST_EXACT
    always: bool = False
    visible: bool = True
    content_key: bool = False

    def default(self, rows: int) -> Values:
        """The values of so many rows that do not state it: one number seen as many times (read-only), whatever the rows."""
        if self.kind == "name":
            return Labels(np.broadcast_to(np.int16(0), rows), (str(self.absent),))
        assert isinstance(self.absent, int | float)
        one: Any = np.float64(self.absent) if self.kind == "number" else np.int64(self.absent)
        return np.broadcast_to(one, rows)

    def values(self, given: Any) -> Values:
        """What a caller gives (an array, or Labels) as values of this column. Raises ValueError for the other kind."""
        if isinstance(given, Labels) != (self.kind == "name"):
            raise ValueError(f"column {self.name} takes {'Labels' if self.kind == 'name' else 'an array of numbers'}")
        if isinstance(given, Labels):
            return given
        return np.ascontiguousarray(given, dtype=np.float64) if self.kind == "number" else np.ascontiguousarray(given, dtype=np.int64)

    def stated(self, values: Values) -> NDArray[np.bool_]:
        """Of each row, whether it states this column."""
        if isinstance(values, Labels):
            return np.array([name != self.absent for name in values.names], dtype=bool)[values.codes]
        if self.absent is None:
            return np.ones(len(values), dtype=bool)
        missing = np.isnan(values) if isinstance(self.absent, float) and math.isnan(self.absent) else values == self.absent
        return np.asarray(~missing, dtype=bool)

    def check(self, values: Values) -> None:
        """Raises ValueError naming the first row whose value the column may not have."""
        if isinstance(values, Labels):
            first_bad((values.codes < 0) | (values.codes >= len(values.names)), self.name, "is the number of no name")
            return
        if self.kind == "number":
            bad = ~np.isfinite(values) if self.absent is None else np.isinf(values)
            first_bad(bad, self.name, "is not a finite number")
        if self.least is not None:
            first_bad(values < self.least, self.name, "is negative" if self.least == 0 else f"is below {self.least:g}")
        if self.kind == "row":
            first_bad(values >= np.arange(len(values)), self.name, "does not point to an earlier row")

    def take(self, values: Values, rows: I64, where: I64) -> Values:
        """The values of the rows given by index. `where` = new number of each old row, -1 = left out (numbers of rows follow)."""
        if isinstance(values, Labels):
            return Labels(values.codes[rows], values.names)
        taken = values[rows]
        return np.where(taken >= 0, where[taken.astype(np.int64)], -1) if self.kind == "row" else taken


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("arrival_s", "number", "arrival, or delay after the row named in `after`", "s", None, 0, MOST_SECONDS, visible=False),
        Column("prompt_tokens", "integer", "tokens to prefill", "tokens", None, 0, MOST_TOKENS),
        Column("output_tokens", "integer", "tokens to generate; 0 = failed at its source", "tokens", None, 0, MOST_TOKENS, visible=False),
        Column("elapsed_s", "number", "time the source system took to answer", "s", math.nan, 0, MOST_SECONDS, visible=False),
        Column("max_output_tokens", "integer", "limit that the client stated", "tokens", -1, -1, always=True),
        Column("priority", "integer", "larger is more urgent", absent=0, always=True),
        Column("session", "integer", "session number", absent=-1, least=-1, always=True),
        Column("after", "row", "row whose completion releases this one", absent=-1, least=-1, always=True, visible=False),
        Column("slo_class", "name", "SLO class", absent="default", most=MOST_NAMES, always=True, visible=False),
        Column("label_model", "name", "model named in the trace", absent="", most=MOST_NAMES, visible=False),
        Column("log_type", "name", "kind of log in the trace", absent="", most=MOST_NAMES, visible=False),
        Column("adapter", "name", "LoRA adapter it asks for", absent="", most=MOST_NAMES, content_key=True),
        Column("salt", "name", "cache salt: prefixes are shared within one only", absent="", most=10_000_000, content_key=True),
        Column(
            "patience_s", "number", "time after its release at which the client gives up", "s", math.nan, 0, MOST_SECONDS, visible=False
        ),
        Column("attempt_of", "row", "first attempt of which this one is a repetition", absent=-1, least=-1, visible=False),
        Column("task", "name", "kind of task, such as code: drafts are accepted by it", absent="", most=MOST_NAMES, visible=False),
        Column("acceptance_rate", "number", "probability that a drafted token is accepted", "", math.nan, 0, 1, visible=False),
        Column(
            "acceptance_length",
            "number",
            "tokens that a step with a draft emits on average",
            "tokens",
            math.nan,
            1,
            MOST_TOKENS,
            visible=False,
        ),
    )
}
"""By name, in the order in which files have them: a new one goes at the end."""


def small(codes: NDArray[np.integer[Any]], names: int) -> NDArray[np.int16] | NDArray[np.int32]:
    """Codes of so many names in the smallest type that holds them."""
    return codes.astype(np.int16) if names <= MOST_NAMES else codes.astype(np.int32)


def first_bad(bad: NDArray[np.bool_], column: str, what: str) -> None:
    """Raises ValueError for the first row that is bad."""
    if bool(bad.any()):
        raise ValueError(f"row {int(np.argmax(bad))}: {column} {what}")
