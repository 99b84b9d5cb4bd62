"""Ids of prompt contents as traces write them: whole numbers of 64 bits, or text."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import shown
from simserve.workload.readers.columns import count_of
from simserve.workload.requests import I64, PrefixBlocks
from simserve.workload.source import Source

SIZES = tuple(2**k for k in range(17))
"""Tokens per block that engines and traces use: powers of two (vLLM's 16, SGLang's 1, Mooncake's 512)."""


class ContentIds:
    """Collects the ids of one prompt after another."""

    def __init__(self, source: Source, key: str) -> None:
        self._source, self._key = source, key
        self.raw: list[Any] = []
        self._counts: list[int] = []
        self.lines: list[int] = []
        self._kind: type | None = None

    def add(self, line: int, raw: Any) -> None:
        """The ids of the prompt in `line`; None = its contents are unknown. Raises TraceError for anything but a list of ids."""
        self.lines.append(line)
        if raw is None:
            raw = []
        if not isinstance(raw, list):
            raise self.wrong(line, f"is {shown(raw)}, not a list of integers (or of text)")
        kinds = set(map(type, raw))
        if kinds - {int, str}:
            odd = next(i for i in raw if type(i) not in (int, str))
            raise self.wrong(line, f"holds {shown(odd)}; ids are integers (or text)")
        if len(kinds) > 1 or (kinds and self._kind not in (None, *kinds)):
            raise self.wrong(line, "mixes integers and text")
        self._kind = kinds.pop() if kinds else self._kind
        self._counts.append(len(raw))
        self.raw.extend(raw)

    def wrong(self, line: int, what: str) -> TraceError:
        return TraceError(f"{self._source.path}: line {line}: '{self._key}' {what}")

    @property
    def counts(self) -> I64:
        """Ids of each prompt."""
        return np.array(self._counts, dtype=np.int64)

    @property
    def any(self) -> bool:
        return bool(self.raw)

    @property
    def remarks(self) -> tuple[str, ...]:
        if self._kind is not str:
            return ()
        return (f"'{self._key}' holds text: {count_of(len(set(self.raw)), 'content')} numbered by first appearance",)

    def blocks(self, block_tokens: int, outputs: bool = False) -> PrefixBlocks:
        """The ids as they are; text as numbers in order of first appearance. Raises TraceError for an integer beyond 64 bits."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        if self._kind is str:
            number: dict[str, int] = {}
            return PrefixBlocks(
                offsets, np.array([number.setdefault(i, len(number)) for i in self.raw], dtype=np.int64), block_tokens, outputs
            )
        if -1 in self.raw:  # a hash of 64 bits is -1 once in 2^64: it is a mark
            line = self.line_of(offsets, self.raw.index(-1))
            raise self.wrong(line, "holds -1, which may mark a block of unknown content; leave the ids from there on out")
        try:
            return PrefixBlocks(offsets, np.array(self.raw, dtype=np.int64), block_tokens, outputs)
        except OverflowError:
            pass
        try:
            return PrefixBlocks(offsets, np.array(self.raw, dtype=np.uint64), block_tokens, outputs)
        except OverflowError:
            pass
        for place, one in enumerate(self.raw):
            if not -(2**63) <= one < 2**64:
                what = f"holds {shown(one)}: an integer of more than 64 bits; write such ids as text"
                raise self.wrong(self.line_of(offsets, place), what)
        line = self.line_of(offsets, self.raw.index(min(self.raw)))
        raise self.wrong(line, "holds a negative integer, and others are above 2^63 - 1: signed and unsigned ids in one file")

    def line_of(self, offsets: I64, place: int) -> int:
        return self.lines[int(np.searchsorted(offsets, place, side="right")) - 1]


def fitting(prompt_tokens: I64, counts: I64, block_tokens: int) -> int:
    """How many prompts with ids have as many as they have blocks of that size, the one filled in part counted or not."""
    rows = counts > 0
    n, tokens = counts[rows], prompt_tokens[rows]
    return int(np.count_nonzero((n == -(-tokens // block_tokens)) | (n == tokens // block_tokens)))


def sizes_that_fit(prompt_tokens: I64, counts: I64) -> list[int]:
    """The block sizes that most prompts with ids agree with, all of them if any fits all; smallest first, empty when none fits half."""
    having = int(np.count_nonzero(counts))
    fits = {size: fitting(prompt_tokens, counts, size) for size in SIZES}
    best = max(fits.values())
    return [size for size, fit in fits.items() if fit == best] if 2 * best > having else []
