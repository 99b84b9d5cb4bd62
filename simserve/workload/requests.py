"""Requests as columns: what every reader and generator produces and the engine consumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from simserve.errors import nearest
from simserve.workload.columns import COLUMNS, F64, I64, Column, Labels, Values
from simserve.workload.contents import AlsoAfter, PrefixBlocks

__all__ = ["ATTRIBUTES", "F64", "I64", "AlsoAfter", "Labels", "PrefixBlocks", "RequestTable", "Workload"]


@dataclass(frozen=True, slots=True)
class RequestTable:
    """Requests in order of arrival, one row a request, every column of equal length n. `columns.COLUMNS` says what each holds and which
    values it may have.

    arrival_s      seconds from the start of the workload, non-decreasing, finite, >= 0. For a row with `after[i] >= 0` it is
                   instead the delay in seconds (think time) after the completion of row `after[i]`, which must be < i.
    prompt_tokens  tokens to prefill, >= 0. A prompt of 0 tokens is served as 1 token (a sequence has at least its start token).
    output_tokens  tokens to generate, >= 0. 0 means that the source system failed this request: it is kept and counted
                   as failed and costs nothing.
    max_output_tokens  the limit the client stated, visible to policies; -1 = none stated.
    priority       larger is more urgent.
    slo_class      name of the SLO class of each row.
    session        session number, -1 = none.
    after          row whose completion releases this one, -1 = released at its own arrival time.
    label_model, log_type   what the trace says (kept for filters and reports only), or None.
    elapsed_s      seconds the source system took to answer, from request to last token; NaN = not recorded; or None. Think times are
                   told from it (`sessions: dependent`), and it is kept when the trace is written.
    prefix         identities of contents, or None.
    also_after     further rows that rows wait for, or None.
    others         columns without an attribute here, by name, where a row states them: see `column`.
    """

    arrival_s: F64
    prompt_tokens: I64
    output_tokens: I64
    max_output_tokens: I64
    priority: I64
    slo_class: Labels
    session: I64
    after: I64
    label_model: Labels | None = None
    log_type: Labels | None = None
    prefix: PrefixBlocks | None = None
    elapsed_s: F64 | None = None
    also_after: AlsoAfter | None = None
    others: Mapping[str, Values] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @staticmethod
    def build(
        arrival_s: F64,
        prompt_tokens: I64,
        output_tokens: I64,
        *,
        prefix: PrefixBlocks | None = None,
        also_after: AlsoAfter | None = None,
        provenance: dict[str, Any] | None = None,
        **columns: Values | None,
    ) -> RequestTable:
        """A table of these and any other declared columns (arrays, names as `Labels`), with defaults for those that a source lacks.

        Raises ValueError when lengths differ, a value is illegal or no such column is declared.
        """
        given = {"arrival_s": arrival_s, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, **columns}
        unknown = given.keys() - COLUMNS.keys()
        if unknown:
            raise ValueError(f"requests have no column '{min(unknown)}'{nearest(min(unknown), COLUMNS)}")
        own: dict[str, Any] = {}
        others: dict[str, Values] = {}
        for column in COLUMNS.values():
            values = given.get(column.name)
            found = None if values is None else column.values(values)
            if found is None and column.always:
                found = column.default(len(arrival_s))
            if column.name in ATTRIBUTES:
                own[column.name] = found
            elif found is not None:
                others[column.name] = found
        table = RequestTable(**own, prefix=prefix, also_after=also_after, others=others, provenance=dict(provenance or {}))
        table.validate()
        stated = {name: values for name, values in others.items() if bool(COLUMNS[name].stated(values).any())}
        return table if len(stated) == len(others) else replace(table, others=stated)

    def column(self, name: str) -> Values | None:
        """The column of that name, None where no row states it. Raises ValueError for one that is not declared."""
        if name not in COLUMNS:
            raise ValueError(f"requests have no column '{name}'{nearest(name, COLUMNS)}")
        found: Values | None = getattr(self, name) if name in ATTRIBUTES else self.others.get(name)
        return found

    def stated_columns(self) -> Iterator[tuple[Column, Values]]:
        """The columns that say something: those that every row must state, those that some row states."""
        for column in COLUMNS.values():
            values = self.column(column.name)
            if values is None:
                continue
            if isinstance(values, Labels) and not column.always:
                says = column.name in ATTRIBUTES or values.names != (column.absent,)
            elif isinstance(values, Labels):
                says = values.names != (column.absent,)
            else:
                says = column.absent is None or bool(column.stated(values).any())
            if says:
                yield column, values

    def other_columns(self) -> Iterator[tuple[Column, Values]]:
        """The columns without an attribute of their own."""
        for name, values in self.others.items():
            yield COLUMNS[name], values

    def content_owners(self) -> I64 | None:
        """A number for each row: requests with different ones share no prefix, whatever they contain; None = all may.

        vLLM puts the adapter's name and the cache salt among the keys of a block's hash (`vllm/v1/core/kv_cache_utils.py`,
        `generate_block_hash_extra_keys`); SGLang keeps a radix tree for each such key (`srt/mem_cache/radix_cache.py`, `extra_key`).
        """
        owner: I64 | None = None
        for column in COLUMNS.values():
            values = self.column(column.name) if column.content_key else None
            if values is None:
                continue
            names = values.codes if isinstance(values, Labels) else values
            _, code = np.unique(names, return_inverse=True)
            owner = (
                code.astype(np.int64) if owner is None else np.unique(owner * (int(code.max(initial=0)) + 1) + code, return_inverse=True)[1]
            )
        return owner

    def validate(self) -> None:
        """Raises ValueError naming the first column and row that break the rules above."""
        n = len(self)
        columns = [(column, values) for column in COLUMNS.values() if (values := self.column(column.name)) is not None]
        for column, values in columns:
            if len(values) != n:
                raise ValueError(f"column {column.name} has {len(values)} rows, arrival_s has {n}")
        if n == 0:
            return
        for column, values in columns:
            column.check(values)
        if self.also_after is not None:
            self.also_after.check(self.after)
        own = self.arrival_s[self.after < 0]
        if len(own) > 1 and bool(np.any(np.diff(own) < 0)):
            raise ValueError("arrival_s is not in order of time")

    def part(self, first: int, last: int) -> RequestTable:
        """The rows first .. last - 1 without copying them; without what they contain and wait for."""
        own: dict[str, Any] = {}
        others: dict[str, Values] = {}
        for column in COLUMNS.values():
            values = self.column(column.name)
            if isinstance(values, Labels):
                values = Labels(values.codes[first:last], values.names)
            elif values is not None:
                values = values[first:last]
            if column.name in ATTRIBUTES:
                own[column.name] = values
            elif values is not None:
                others[column.name] = values
        return replace(self, **own, prefix=None, also_after=None, others=others)

    def take(self, rows: I64) -> RequestTable:
        """The rows given by index, in that order. Dependencies (`after`, `also_after`) on rows left out are dropped; where all are, the
        delay becomes the arrival."""
        where = np.full(len(self), -1, dtype=np.int64)
        where[rows] = np.arange(len(rows))
        taken: dict[str, Any] = {}
        for column in COLUMNS.values():
            values = self.column(column.name)
            taken[column.name] = None if values is None else column.take(values, rows, where)
        others = {name: taken.pop(name) for name in list(taken) if name not in ATTRIBUTES}
        also_after = None
        if self.also_after is not None:
            also_after, taken["after"] = self.also_after.take(rows, where, taken["after"])
        return replace(
            self,
            **taken,
            prefix=None if self.prefix is None else self.prefix.take(rows),
            also_after=also_after,
            others={name: values for name, values in others.items() if values is not None},
        )


ATTRIBUTES = {item.name for item in fields(RequestTable)}
"""Columns among them have an attribute of their own."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests and how they are released.

    concurrency  None = open loop: each row at its own time (or after the row it depends on). A number = closed loop: that many
                 clients, each sends the next row of the table as soon as its last one has ended, `think_s` later; arrival times
                 of the table are then ignored.
    max_concurrency  open loop only: the client keeps at most so many requests under way. A row whose time has come while as many
                 are waits at the client, first come, first served, and is released when another has ended, `think_s` later as in a
                 closed loop. None = no bound.
    tables       rows that are drawn while a run goes on: called with how many at a time, gives their tables; `requests` has none then.
                 None = all are in `requests`. `total` of them, the last of which arrives at `about_s` or so.
    """

    requests: RequestTable
    concurrency: int | None = None
    think_s: float = 0.0
    max_concurrency: int | None = None
    tables: Callable[[int], Iterator[RequestTable]] | None = None
    total: int = 0
    about_s: float = 0.0

    def __len__(self) -> int:
        return len(self.requests) if self.tables is None else self.total

    def __post_init__(self) -> None:
        """Raises ValueError for a bound below 1, or a bound on a closed loop, whose `concurrency` is the bound."""
        if self.max_concurrency is not None and (self.max_concurrency < 1 or self.concurrency is not None):
            raise ValueError("max_concurrency is at least 1, and bounds open arrivals: a closed loop has its concurrency")
