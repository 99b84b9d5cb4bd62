"""What every reader hands on: the columns of a trace as the file has them, before windows, filters and order of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from simserve.workload.columns import COLUMNS, F64, I64, MOST_SECONDS, MOST_TOKENS, Labels, Values
from simserve.workload.contents import AlsoAfter, PrefixBlocks

PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Units of a trace's times in a second."""


class ReadOptions(NamedTuple):
    """What the user says about a file.

    time_unit     unit of its times, where the format counts them; None = the format's
    block_tokens  tokens of the prompt that one content id stands for; None = the format's
    sniffed       the format was told by the content: its evidence must then be checked
    """

    time_unit: str | None = None
    block_tokens: int | None = None
    sniffed: bool = False


@dataclass(frozen=True, slots=True)
class TraceColumns:
    """One row a request, in file order.

    arrival_s   seconds on the trace's own clock (any origin), or None when the format has no arrivals. Where `after[i] >= 0` it is a delay.
    others      columns without an attribute here, by name
    The rest as in RequestTable.

    times_in    what the file's times were taken for: "s", "ms", "us", "ns" or "dates"; None without times
    evidence    what in the file speaks for that reading, a phrase each
    unused      columns of the file that say nothing here
    remarks     sentences on what a reader of results must know: contents that are not simulated, ids that were cut
    """

    arrival_s: F64 | None
    prompt_tokens: I64
    output_tokens: I64
    elapsed_s: F64 | None = None
    max_output_tokens: I64 | None = None
    priority: I64 | None = None
    slo_class: Labels | None = None
    session: I64 | None = None
    after: I64 | None = None
    label_model: Labels | None = None
    log_type: Labels | None = None
    prefix: PrefixBlocks | None = None
    also_after: AlsoAfter | None = None
    others: Mapping[str, Values] = field(default_factory=dict)
    times_in: str | None = None
    evidence: tuple[str, ...] = field(default=())
    unused: tuple[str, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())

    @staticmethod
    def of(values: Mapping[str, Any], **rest: Any) -> TraceColumns:
        """From declared columns by name; `rest` as attributes."""
        own = {item.name for item in fields(TraceColumns)}
        others = {name: column for name, column in values.items() if name not in own}
        return TraceColumns(**{name: column for name, column in values.items() if name in own}, others=others, **rest)

    def since(self, row: int) -> TraceColumns:
        """The rows from one on, without contents and further rows to wait for."""
        if not row:
            return self
        given = {name: values for name, values in self.declared().items() if values is not None}
        cut = {
            name: Labels(values.codes[row:], values.names) if isinstance(values, Labels) else values[row:] for name, values in given.items()
        }
        told = {name: getattr(self, name) for name in ("times_in", "evidence", "unused", "remarks")}
        return TraceColumns.of({"arrival_s": None, **cut}, **told)

    def column(self, name: str) -> Values | None:
        """The declared column of that name, or None."""
        found: Values | None = getattr(self, name, None) if name not in self.others else self.others[name]
        return found

    def declared(self) -> dict[str, Values | None]:
        """All declared columns by name."""
        return {name: self.column(name) for name in COLUMNS}


def count_of(number: int, singular: str, plural: str | None = None) -> str:
    """'1 request', '12,031 requests'."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


__all__ = ["MOST_SECONDS", "MOST_TOKENS", "PER_SECOND", "ReadOptions", "TraceColumns", "count_of"]
