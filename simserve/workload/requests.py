"""Requests as columns: what every reader and generator produces and the engine consumes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of names stored as small integers: `names[codes[i]]` is the name of row i."""

    codes: NDArray[np.int16]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrefixBlocks:
    """Content identity of prompts for prefix reuse: row i owns `ids[offsets[i]:offsets[i + 1]]`, one id per `block_tokens` tokens.

    Two prompts share a prefix as far as their leading ids are equal (Mooncake's `hash_ids`). Ids are whole numbers of 64 bits, signed or
    unsigned; they say whether contents are equal and nothing else. The last id may stand for a block that the prompt fills in part.
    """

    offsets: I64
    ids: I64 | NDArray[np.uint64]
    block_tokens: int

    def within(self, prompt_tokens: I64) -> PrefixBlocks:
        """The blocks that begin inside their prompt, of so many tokens."""
        counts = np.diff(self.offsets)
        kept = np.minimum(counts, -(-prompt_tokens // self.block_tokens))
        if np.array_equal(kept, counts):
            return self
        return self.leading(kept)

    def whole(self, prompt_tokens: I64) -> PrefixBlocks:
        """The blocks that their prompt fills: what a prefix cache keeps (vLLM and SGLang cache full blocks only)."""
        return self.leading(np.minimum(np.diff(self.offsets), prompt_tokens // self.block_tokens))

    def leading(self, kept: I64) -> PrefixBlocks:
        """The first `kept[i]` blocks of each row i."""
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        index = np.repeat(self.offsets[:-1] - offsets[:-1], kept) + np.arange(offsets[-1])
        return PrefixBlocks(offsets, self.ids[index], self.block_tokens)

    def chained(self) -> PrefixBlocks:
        """The same prompts with ids that stand for a block *and everything before it*, as the keys of engines' prefix caches do (vLLM
        hashes a block's tokens together with the hash of the block before it).

        A trace whose ids name the block alone may repeat an id inside one prompt, or have it after different beginnings: the same text,
        but another key, whose KV cannot be reused. Where every id has one predecessor only, nothing changes and `self` is returned.
        """
        previous, first = self._predecessors()
        if not len(self.ids):
            return self
        order = np.lexsort((previous, first, self.ids))
        same_id = self.ids[order][1:] == self.ids[order][:-1]
        same_before = (previous[order][1:] == previous[order][:-1]) & (first[order][1:] == first[order][:-1])
        if not bool(np.any(same_id & ~same_before)):
            return self
        return PrefixBlocks(self.offsets, self._numbered_by_beginning(), self.block_tokens)

    def _predecessors(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The id before each id, and whether it is the first of its prompt."""
        previous = np.zeros_like(self.ids)
        previous[1:] = self.ids[:-1]
        first = np.zeros(len(self.ids), dtype=bool)
        starts = self.offsets[:-1][np.diff(self.offsets) > 0]
        first[starts] = True
        previous[starts] = 0
        return previous, first

    def _numbered_by_beginning(self) -> I64:
        """One number for each distinct beginning: place by place, a pair (number of the beginning before it, id) is a beginning."""
        _, code = np.unique(self.ids, return_inverse=True)
        kinds = int(code.max()) + 1
        keys = np.empty(len(code), dtype=np.int64)
        lengths = np.diff(self.offsets)
        rows = np.flatnonzero(lengths > 0)
        before = np.zeros(len(rows), dtype=np.int64)
        used, place = 0, 0
        while len(rows) > 1:
            at = self.offsets[rows] + place
            distinct, number = np.unique(before * kinds + code[at], return_inverse=True)
            keys[at] = used + number
            used, place = used + len(distinct), place + 1
            longer = lengths[rows] > place
            rows, before = rows[longer], number[longer].astype(np.int64)
        if len(rows):  # the rest of the longest prompt is shared with nobody
            keys[self.offsets[rows[0]] + place : self.offsets[rows[0] + 1]] = used + np.arange(lengths[rows[0]] - place)
        return keys


@dataclass(frozen=True, slots=True)
class RequestTable:
    """Requests in order of arrival, one row a request, every column of equal length n.

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
    prefix         block identities of the prompts, or None.
    elapsed_s      seconds the source system took to answer, from request to last token; NaN = not recorded; or None. Think times are
                   told from it (`sessions: dependent`), and it is kept when the trace is written.
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
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival_s)

    @staticmethod
    def build(
        arrival_s: F64,
        prompt_tokens: I64,
        output_tokens: I64,
        *,
        max_output_tokens: I64 | None = None,
        priority: I64 | None = None,
        slo_class: Labels | None = None,
        session: I64 | None = None,
        after: I64 | None = None,
        label_model: Labels | None = None,
        log_type: Labels | None = None,
        prefix: PrefixBlocks | None = None,
        elapsed_s: F64 | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> RequestTable:
        """A table with defaults for the columns that a source lacks. Raises ValueError when lengths differ or a value is illegal."""
        n = len(arrival_s)
        arrival = np.ascontiguousarray(arrival_s, dtype=np.float64)
        none = np.full(n, -1, dtype=np.int64)
        table = RequestTable(
            arrival_s=arrival,
            prompt_tokens=np.ascontiguousarray(prompt_tokens, dtype=np.int64),
            output_tokens=np.ascontiguousarray(output_tokens, dtype=np.int64),
            max_output_tokens=none if max_output_tokens is None else np.ascontiguousarray(max_output_tokens, dtype=np.int64),
            priority=np.zeros(n, dtype=np.int64) if priority is None else np.ascontiguousarray(priority, dtype=np.int64),
            slo_class=slo_class or Labels(np.zeros(n, dtype=np.int16), ("default",)),
            session=none if session is None else np.ascontiguousarray(session, dtype=np.int64),
            after=none if after is None else np.ascontiguousarray(after, dtype=np.int64),
            label_model=label_model,
            log_type=log_type,
            prefix=prefix,
            elapsed_s=None if elapsed_s is None else np.ascontiguousarray(elapsed_s, dtype=np.float64),
            provenance=dict(provenance or {}),
        )
        table.validate()
        return table

    def validate(self) -> None:
        """Raises ValueError naming the first column and row that break the rules above."""
        n = len(self)
        for name in ("prompt_tokens", "output_tokens", "max_output_tokens", "priority", "session", "after"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"column {name} has {len(getattr(self, name))} rows, arrival_s has {n}")
        for name in ("slo_class", "label_model", "log_type"):
            labels = getattr(self, name)
            if labels is not None and len(labels.codes) != n:
                raise ValueError(f"column {name} has {len(labels.codes)} rows, arrival_s has {n}")
        if self.elapsed_s is not None and len(self.elapsed_s) != n:
            raise ValueError(f"column elapsed_s has {len(self.elapsed_s)} rows, arrival_s has {n}")
        if n == 0:
            return
        _first_bad(~np.isfinite(self.arrival_s), "arrival_s", "is not a finite number")
        _first_bad(self.arrival_s < 0, "arrival_s", "is negative")
        _first_bad(self.prompt_tokens < 0, "prompt_tokens", "is negative")
        _first_bad(self.output_tokens < 0, "output_tokens", "is negative")
        _first_bad(self.after >= np.arange(n), "after", "does not point to an earlier row")
        own = self.arrival_s[self.after < 0]
        if len(own) > 1 and bool(np.any(np.diff(own) < 0)):
            raise ValueError("arrival_s is not in order of time")

    def take(self, rows: I64) -> RequestTable:
        """The rows given by index, in that order. Dependencies (`after`) on rows left out become -1 with their delay as arrival."""
        where = np.full(len(self), -1, dtype=np.int64)
        where[rows] = np.arange(len(rows))
        after = self.after[rows]
        prefix = None
        if self.prefix is not None:
            p = self.prefix
            lengths = (p.offsets[1:] - p.offsets[:-1])[rows]
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            index = np.repeat(p.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
            prefix = PrefixBlocks(offsets, p.ids[index], p.block_tokens)

        def labels(column: Labels | None) -> Labels | None:
            return None if column is None else Labels(column.codes[rows], column.names)

        slo = labels(self.slo_class)
        assert slo is not None
        return replace(
            self,
            arrival_s=self.arrival_s[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            max_output_tokens=self.max_output_tokens[rows],
            priority=self.priority[rows],
            slo_class=slo,
            session=self.session[rows],
            after=np.where(after >= 0, where[after], -1),
            label_model=labels(self.label_model),
            log_type=labels(self.log_type),
            prefix=prefix,
            elapsed_s=None if self.elapsed_s is None else self.elapsed_s[rows],
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests and how they are released.

    concurrency  None = open loop: each row at its own time (or after the row it depends on). A number = closed loop: that many
                 clients, each sends the next row of the table as soon as its last one has ended, `think_s` later; arrival times
                 of the table are then ignored.
    max_concurrency  open loop only: the client keeps at most so many requests under way. A row whose time has come while as many
                 are waits at the client, first come, first served, and is released when another has ended, `think_s` later as in a
                 closed loop. None = no bound.
    """

    requests: RequestTable
    concurrency: int | None = None
    think_s: float = 0.0
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a bound below 1, or a bound on a closed loop, whose `concurrency` is the bound."""
        if self.max_concurrency is not None and (self.max_concurrency < 1 or self.concurrency is not None):
            raise ValueError("max_concurrency is at least 1, and bounds open arrivals: a closed loop has its concurrency")


def _first_bad(bad: NDArray[np.bool_], column: str, what: str) -> None:
    if bool(bad.any()):
        raise ValueError(f"row {int(np.argmax(bad))}: {column} {what}")
