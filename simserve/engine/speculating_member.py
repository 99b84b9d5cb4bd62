"""A request in a decoding group that speculates: its steps from the tick at which it joined, as far as its course goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve.contracts import Course
from simserve.contracts.cost import I64
from simserve.engine.kv_groups import KvGroups
from simserve.engine.request import LiveRequest
from simserve.errors import ConfigError

DRAFTED, ACCEPTED, CONTEXT, PAIRS, DURING, AFTER = range(6)
"""Rows of what the steps of members add up to: drafted tokens, accepted ones, attended tokens, (query, key) pairs, and blocks of the pool
held during a step and after it."""

ROWS = 6


@dataclass(frozen=True, slots=True)
class Memory:
    """How members hold KV blocks.

    limit_tokens  longest sequence that a request may reach; nothing is drafted beyond
    frees         blocks without a valid token are given back after each step; otherwise they stay for the next tokens
    """

    block_tokens: int
    limit_tokens: int
    groups: KvGroups | None
    frees: bool

    def tables(self, tokens: I64) -> I64:
        """Blocks of tables of so many tokens."""
        blocks: I64 = -(-tokens // self.block_tokens)
        return blocks

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

    gained    tokens it has got since it joined before each step, and after the last (length: steps + 1)
    drafted   drafted tokens of each step
    table     blocks of its table during each step
    columns   its part in the rows, by step, (ROWS, steps)
    attended  tokens that its last query attends, by step
    """

    __slots__ = ("attended", "columns", "computed", "drafted", "first_tick", "gained", "generated", "held", "request", "table")

    def __init__(self, request: LiveRequest, first_tick: int) -> None:
        self.request = request
        self.first_tick = first_tick
        self.computed = request.computed_tokens
        self.generated = request.generated_tokens
        self.held = request.held_blocks
        self.gained = np.zeros(1, dtype=np.int64)
        self.drafted = self.table = self.attended = np.empty(0, dtype=np.int64)
        self.columns = np.empty((ROWS, 0), dtype=np.int64)

    def gained_by(self, tick: int) -> int:
        """Tokens it has got before a tick."""
        return int(self.gained[min(tick - self.first_tick, len(self.gained) - 1)])

    def held_after(self, done: int, memory: Memory) -> int:
        """Blocks of its table between two steps, when so many of its steps have passed."""
        if not done:
            return self.held
        if memory.frees:
            return max(self.held, -(-(self.computed + int(self.gained[done])) // memory.block_tokens))
        return int(self.table[done - 1])

    def follow(self, done: int, course: Course, left: int, memory: Memory) -> I64:
        """Takes up a course of `left` tokens after so many of its steps, which stay. Returns the attended tokens of the new steps.

        Raises ConfigError for a course that is none.
        """
        tokens, gained = course.tokens, int(self.gained[done])
        total = gained + np.cumsum(tokens)
        if not len(tokens) or len(tokens) != len(course.drafted) or int(total[-1]) != gained + left or int(tokens.min()) < 1:
            raise ConfigError(
                f"speculation: the course of request {self.request.row} has {int(tokens.sum())} tokens in {len(tokens)} steps, "
                f"{len(course.drafted)} of which draft, where {left} tokens are left; each step must have at least one"
            )
        self.gained = after = np.concatenate([self.gained[: done + 1], total])
        cached = self.computed + after[done:-1]
        drafted = np.maximum(np.minimum(course.drafted, memory.limit_tokens - 1 - cached), tokens - 1)
        attended = cached + drafted + 1
        if memory.frees:
            tables = np.maximum(memory.tables(attended), self.held)
            ended = np.maximum(memory.tables(self.computed + total), self.held)
        else:
            held = int(self.table[done - 1]) if done else self.held
            tables = ended = np.maximum.accumulate(np.maximum(memory.tables(attended), held))
        columns = np.empty((ROWS, len(tokens)), dtype=np.int64)
        columns[DRAFTED] = drafted
        columns[ACCEPTED] = tokens - 1
        columns[CONTEXT] = attended
        columns[PAIRS] = (drafted + 1) * cached + (drafted + 1) * (drafted + 2) // 2
        columns[DURING] = memory.pool(tables)
        columns[AFTER] = columns[DURING] if ended is tables else memory.pool(ended)
        self.drafted = np.concatenate([self.drafted[:done], drafted])
        self.table = np.concatenate([self.table[:done], tables])
        self.attended = np.concatenate([self.attended[:done], attended])
        self.columns = np.concatenate([self.columns[:, :done], columns], axis=1)
        return self.attended[done:]
