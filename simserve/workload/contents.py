"""Lists of numbers of different lengths, one a row: identities of what requests contain, and the rows that a row waits for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.workload.columns import I64


def parts(offsets: I64, rows: I64, kept: I64 | None = None) -> tuple[I64, I64]:
    """Of lists one after the other, those of the rows given (their first `kept[i]` entries, or all): (their offsets, the places in the old
    array of their entries)."""
    lengths = np.diff(offsets)[rows] if kept is None else kept
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return new, np.repeat(offsets[rows] - new[:-1], lengths) + np.arange(new[-1])


@dataclass(frozen=True, slots=True)
class AlsoAfter:
    """What a row waits for besides the row in its column `after`: row i also waits for `rows[offsets[i]:offsets[i + 1]]`, all of them
    earlier rows, none named twice. It is released when the last of all has ended."""

    offsets: I64
    rows: I64

    @property
    def counts(self) -> I64:
        """Further rows that each row waits for."""
        return np.diff(self.offsets)

    def check(self, after: I64) -> None:
        """Raises ValueError naming the first row that waits for what it may not."""
        n = len(after)
        if len(self.offsets) != n + 1 or int(self.offsets[-1]) != len(self.rows):
            raise ValueError(f"also_after has lists for {len(self.offsets) - 1} rows, arrival_s has {n}")
        own = np.repeat(np.arange(n), self.counts)
        wrong = (self.rows < 0) | (self.rows >= own)
        if bool(wrong.any()):
            at = int(np.argmax(wrong))
            raise ValueError(f"row {own[at]}: also_after holds {self.rows[at]}, which is no earlier row")
        alone = after[own] < 0
        if bool(alone.any()):
            raise ValueError(f"row {own[int(np.argmax(alone))]}: also_after needs a row in 'after'")
        both_own, both_rows = np.concatenate([own, np.arange(n)]), np.concatenate([self.rows, after])
        order = np.lexsort((both_rows, both_own))
        twice = (np.diff(both_own[order]) == 0) & (np.diff(both_rows[order]) == 0)
        if bool(twice.any()):
            at = order[int(np.argmax(twice))]
            raise ValueError(f"row {both_own[at]}: waits twice for row {both_rows[at]}")

    def take(self, rows: I64, where: I64, after: I64) -> tuple[AlsoAfter | None, I64]:
        """(what the rows given by index also wait for, their column `after`). `where` = new number of each old row, -1 = left out; `after`
        in new numbers: where its row was left out, one of the others takes its place."""
        offsets, index = parts(self.offsets, rows)
        found = where[self.rows[index]]
        own = np.repeat(np.arange(len(rows)), np.diff(offsets))
        own, found = own[found >= 0], found[found >= 0]
        bereft = (after[own] < 0) & np.concatenate([[True], np.diff(own) > 0])[: len(own)]
        after = after.copy()
        after[own[bereft]] = found[bereft]
        own, found = own[~bereft], found[~bereft]
        if not len(own):
            return None, after
        counts = np.bincount(own, minlength=len(rows))
        return AlsoAfter(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), found), after

    def of(self, row: int) -> list[int]:
        """The further rows that a row waits for."""
        found: list[int] = self.rows[self.offsets[row] : self.offsets[row + 1]].tolist()
        return found


@dataclass(frozen=True, slots=True)
class PrefixBlocks:
    """Content identity of prompts for prefix reuse: row i owns `ids[offsets[i]:offsets[i + 1]]`, one id per `block_tokens` tokens.

    Two prompts share a prefix as far as their leading ids are equal (Mooncake's `hash_ids`). Ids are whole numbers of 64 bits, signed or
    unsigned; they say whether contents are equal and nothing else. The last id may stand for a block that the prompt fills in part.

    outputs  the ids go on through the generated tokens: they stand for blocks of prompt and output together, so that the next turn of a
             conversation can say that its prompt repeats an answer
    """

    offsets: I64
    ids: I64 | NDArray[np.uint64]
    block_tokens: int
    outputs: bool = False

    def told(self, prompt_tokens: I64, output_tokens: I64) -> I64:
        """Tokens of each request that the ids may speak of: of its prompt, or of prompt and output."""
        return prompt_tokens + output_tokens if self.outputs else prompt_tokens

    def within(self, tokens: I64) -> PrefixBlocks:
        """The blocks that begin inside so many tokens of each row."""
        counts = np.diff(self.offsets)
        kept = np.minimum(counts, -(-tokens // self.block_tokens))
        if np.array_equal(kept, counts):
            return self
        return self.leading(kept)

    def whole(self, tokens: I64) -> PrefixBlocks:
        """The blocks that so many tokens of each row fill: what a prefix cache keeps (vLLM and SGLang cache full blocks only)."""
        return self.leading(np.minimum(np.diff(self.offsets), tokens // self.block_tokens))

    def leading(self, kept: I64) -> PrefixBlocks:
        """The first `kept[i]` blocks of each row i."""
        offsets, index = parts(self.offsets, np.arange(len(kept)), kept)
        return replace(self, offsets=offsets, ids=self.ids[index])

    def take(self, rows: I64) -> PrefixBlocks:
        """Those of the rows given by index, in that order."""
        offsets, index = parts(self.offsets, rows)
        return replace(self, offsets=offsets, ids=self.ids[index])

    def first(self, row: int, count: int) -> list[int]:
        """The first `count` ids of a row, or all."""
        begin = self.offsets[row]
        found: list[int] = self.ids[begin : min(begin + count, self.offsets[row + 1])].tolist()
        return found

    def clipped(self, prompt_tokens: I64, output_tokens: I64, cut: NDArray[np.bool_]) -> PrefixBlocks:
        """What is left when requests are shortened to these lengths. `cut` = rows whose prompt lost its end: what was said of the block
        there, and of all that followed, holds no more."""
        if not self.outputs:
            return self.within(prompt_tokens)
        kept = np.where(cut, prompt_tokens // self.block_tokens, -(-(prompt_tokens + output_tokens) // self.block_tokens))
        return self.leading(np.minimum(kept, np.diff(self.offsets)))

    def chained(self, owner: I64 | None = None) -> PrefixBlocks:
        """The same prompts with ids that stand for a block *and everything before it*, as the keys of engines' prefix caches do (vLLM
        hashes a block's tokens together with the hash of the block before it). `owner` = a number >= 0 for each row: rows of different
        owners have no key in common (`RequestTable.content_owners`).

        A trace whose ids name the block alone may repeat an id inside one prompt, or have it after different beginnings: the same text,
        but another key, whose KV cannot be reused. Where every id has one predecessor only, nothing changes and `self` is returned.
        """
        if not len(self.ids):
            return self
        if owner is not None and bool(np.any(owner != owner[0])):
            return replace(self, ids=self._numbered_by_beginning(owner))
        previous, first = self._predecessors()
        order = np.lexsort((previous, first, self.ids))
        same_id = self.ids[order][1:] == self.ids[order][:-1]
        same_before = (previous[order][1:] == previous[order][:-1]) & (first[order][1:] == first[order][:-1])
        if not bool(np.any(same_id & ~same_before)):
            return self
        return replace(self, ids=self._numbered_by_beginning())

    def _predecessors(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The id before each id, and whether it is the first of its prompt."""
        previous = np.zeros_like(self.ids)
        previous[1:] = self.ids[:-1]
        first = np.zeros(len(self.ids), dtype=bool)
        starts = self.offsets[:-1][np.diff(self.offsets) > 0]
        first[starts] = True
        previous[starts] = 0
        return previous, first

    def _numbered_by_beginning(self, owner: I64 | None = None) -> I64:
        """One number for each distinct beginning: place by place, a pair (number of the beginning before it, id) is a beginning. Before
        the first id it is the number of its owner."""
        _, code = np.unique(self.ids, return_inverse=True)
        kinds = int(code.max()) + 1
        keys = np.empty(len(code), dtype=np.int64)
        lengths = np.diff(self.offsets)
        rows = np.flatnonzero(lengths > 0)
        before = np.zeros(len(rows), dtype=np.int64) if owner is None else owner[rows]
        used, place = 0, 0
        while len(rows) > 1:
            at = self.offsets[rows] + place
            distinct, number = np.unique(before * kinds + code[at], return_inverse=True)
            keys[at] = used + number
            used, place = used + len(distinct), place + 1
            longer = lengths[rows] > place
            rows, before = rows[longer], number[longer].astype(np.int64)
        if len(rows):  # the rest of the longest prompt is not shared
            keys[self.offsets[rows[0]] + place : self.offsets[rows[0] + 1]] = used + np.arange(lengths[rows[0]] - place)
        return keys
