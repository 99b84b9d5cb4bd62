"""A request in a decoding group that speculates: its steps from the tick at which it joined, as far as its course goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from simserve.contracts import Course
from simserve.contracts.cost import I64
from simserve.engine.kv_groups import KvGroups
from simserve.engine.request import LiveRequest

DRAFTED, ACCEPTED, CONTEXT, PAIRS, DURING, AFTER = range(6)
"""Rows of what the steps of members add up to: drafted tokens, accepted ones, attended tokens, (query, key) pairs, and blocks of the pool
held during a step and, where rejected KV is freed, after it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How members hold KV blocks.

    limit_tokens  longest sequence that a request may reach; nothing is drafted beyond
    frees         blocks without a valid token are given back after each step; otherwise they stay for the next tokens
    added         scratch: what a prompt adds to the rows before DURING, (rows, 1)
    """

    block_tokens: int
    limit_tokens: int
    groups: KvGroups | None
    frees: bool
    added: I64 = field(default_factory=lambda: np.zeros((DURING, 1), dtype=np.int64))

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return AFTER + 1 if self.frees else AFTER

    def owned(self, table: int) -> int:
        """Blocks of the pool of a request with a table of so many blocks."""
        return table if self.groups is None else self.groups.pool_blocks(table, True)

    def pool(self, tables: I64) -> I64:
        """The same for an array."""
        if self.groups is None:
            return tables
        blocks: I64 = self.groups.full * tables + self.groups.state
        for window in self.groups.windows:
            blocks += window.pool_blocks * np.minimum(tables, window.decode_blocks)
        return blocks


class Member:
    """A request in the group.

    tokens    that each of its steps gives it
    before    tokens of its output before each step, and after the last (length: steps + 1)
    table     blocks of its table during each step
    columns   its part in the rows, by step, (rows, steps)
    """

    __slots__ = ("before", "columns", "computed", "first_tick", "generated", "held", "request", "table", "tokens")

    columns: I64
    table: I64
    tokens: I64
    before: I64

    def __init__(self, request: LiveRequest, first_tick: int) -> None:
        self.request = request
        self.first_tick = first_tick
        self.computed = request.computed_tokens
        self.generated = request.generated_tokens
        self.held = request.held_blocks

    def gained_by(self, tick: int) -> int:
        """Tokens it has got before a tick since it joined."""
        return int(self.before[min(tick - self.first_tick, len(self.before) - 1)]) - self.generated

    def drafted(self, tick: int) -> int:
        """Drafted tokens of its step at a tick."""
        return int(self.columns[DRAFTED, tick - self.first_tick])

    def held_after(self, done: int, memory: Memory) -> int:
        """Blocks of its table between two steps, when so many of its steps have passed."""
        if not done:
            return self.held
        if memory.frees:
            return max(self.held, -(-(self.computed - self.generated + int(self.before[done])) // memory.block_tokens))
        return int(self.table[done - 1])

    def follow(self, done: int, course: Course, most: int, memory: Memory) -> None:
        """Takes up a course, of steps that draft no more than `most` tokens, after so many of its own, which stay."""
        tokens, drafts, before, sums, steady = course
        steps = len(tokens)
        if before is None:
            before = np.empty(steps + 1, dtype=np.int64)
            before[0] = self.before[done] if done else self.generated
            tokens.cumsum(out=before[1:])
            before[1:] += before[0]
        columns = np.empty((memory.rows, steps), dtype=np.int64)
        during = columns[DURING]
        earlier = self.computed - self.generated
        if sums is not None and earlier + int(before[-1]) + most <= memory.limit_tokens:
            added = memory.added
            added[CONTEXT, 0], added[PAIRS, 0] = earlier, earlier * steady
            np.add(sums, added, out=columns[:DURING])
            if not steady:
                columns[PAIRS] += (drafts + 1) * earlier
        else:
            self._work_out(columns, tokens, drafts, before[:-1] + earlier, memory.limit_tokens)
        held = self.held if memory.frees or not done else int(self.table[done - 1])
        table = during if memory.groups is None else np.empty(steps, dtype=np.int64)
        np.add(columns[CONTEXT], memory.block_tokens - 1, out=table)
        table //= memory.block_tokens
        if memory.frees:
            valid = (before[1:] + (earlier + memory.block_tokens - 1)) // memory.block_tokens
            columns[AFTER] = memory.pool(np.maximum(valid, held))
            np.maximum(table, held, out=table)
        elif not steady or held > table[0]:
            table[0] = max(held, int(table[0]))
            np.maximum.accumulate(table, out=table)
        if memory.groups is not None:
            during[:] = memory.pool(table)
        if done:
            columns, table = np.hstack([self.columns[:, :done], columns]), np.concatenate([self.table[:done], table])
            tokens, before = np.concatenate([self.tokens[:done], tokens]), np.concatenate([self.before[:done], before])
        self.tokens, self.before, self.columns, self.table = tokens, before, columns, table

    def _work_out(self, columns: I64, tokens: I64, drafts: I64, cached: I64, limit_tokens: int) -> None:
        """Drafted tokens to pairs of steps that begin after so many cached tokens; nothing is drafted beyond the longest sequence."""
        drafted, accepted, attended, pairs = columns[:DURING]
        np.subtract(tokens, 1, out=accepted)
        np.subtract(limit_tokens - 1, cached, out=drafted)
        np.minimum(drafts, drafted, out=drafted)
        np.maximum(drafted, accepted, out=drafted)
        width = drafted + 1
        np.add(cached, width, out=attended)
        np.add(cached, attended, out=pairs)  # the first query attends cached + 1 tokens, the last `attended`: on average half the sum and 1
        pairs += 1
        pairs *= width
        pairs >>= 1


def fault(course: Course, left: int, first: int | None, most: int) -> str:
    """What is wrong with a course of `left` tokens of which no step may draft more than `most` tokens, nor its first more than `first`;
    "" when nothing is."""
    tokens, drafted = course.tokens, course.drafted
    if any(not isinstance(column, np.ndarray) or column.dtype.kind != "i" or column.ndim != 1 for column in (tokens, drafted)):
        return "is not two arrays of whole numbers"
    if not len(tokens) or len(tokens) != len(drafted) or tokens.min() < 1 or tokens.sum() != left:
        return (
            f"has {int(tokens.sum())} tokens in {len(tokens)} steps, and drafts in {len(drafted)}, where {left} tokens are left; "
            "each step must have at least one"
        )
    if (drafted + 1 < tokens).any():
        step = int(np.argmax(drafted + 1 < tokens))
        return f"has a step of {int(tokens[step])} tokens for which {int(drafted[step])} are drafted; they can be one more"
    if drafted.max() > most:
        return f"drafts {int(drafted.max())} tokens in a step, where `most_drafted` says {most}"
    if first is not None and drafted[0] > first:
        return f"drafts {int(drafted[0])} tokens in a step that has room for {first}"
    return ""
