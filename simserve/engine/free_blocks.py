"""The free blocks of a KV cache in the order in which they will be taken, with what they still contain (vLLM's FreeKVCacheBlockQueue).

Blocks that are alike lie in the queue as one part: a number of blocks without contents that can be found, or blocks of one `Run`.
"""

from __future__ import annotations

from typing import Any


class Run:
    """Consecutive blocks of a sequence that were computed together and can be found by name.

    names  of the contents, in order; a name says what is contained, and all before it
    alone  nothing with another name goes on in it: another copy of what is kept (the first is found), or what one request alone finds
    low    place of the first block in its sequence
    high   place behind the last that is kept
    ends   place behind the last block that a user uses -> such users; all use the blocks from `low` on
    idle   its parts in the queue, which are its last blocks: the end of a sequence is freed before its beginning, and taken before it
    """

    __slots__ = ("alone", "ends", "high", "idle", "low", "names")

    def __init__(self, names: list[Any], low: int, high: int, alone: bool) -> None:
        self.names = names
        self.alone = alone
        self.low = low
        self.high = high
        self.ends: dict[int, int] = {high: 1}
        self.idle: list[Part] = []

    @property
    def used(self) -> int:
        """Place behind the last block that is in use."""
        return max(self.ends, default=self.low)


class Part:
    """A part of the queue: blocks `low` to `high` of a run, or high - low blocks without contents (`run` is None)."""

    __slots__ = ("after", "before", "high", "low", "run")

    after: Part
    before: Part

    def __init__(self, run: Run | None, low: int, high: int) -> None:
        self.run = run
        self.low = low
        self.high = high


class FreeBlocks:
    """The queue.

    size   blocks in it
    named  of these, blocks that can be found
    """

    __slots__ = ("_ends", "named", "size")

    def __init__(self, blocks: int) -> None:
        self._ends = ends = Part(None, 0, 0)
        ends.after = ends.before = ends
        self.size = self.named = 0
        self.append(None, 0, blocks)

    def append(self, run: Run | None, low: int, high: int) -> None:
        """Blocks are freed, to be taken after all others."""
        self._insert(self._ends.before, run, low, high)

    def prepend(self, blocks: int) -> None:
        """Blocks without contents are freed, to be taken before all others."""
        first = self._ends.after
        if first.run is None and first is not self._ends:
            first.high += blocks
            self.size += blocks
        else:
            self._insert(self._ends, None, 0, blocks)

    def _insert(self, before: Part, run: Run | None, low: int, high: int) -> None:
        self.size += high - low
        if run is None:
            if before.run is None and before is not self._ends:
                before.high += high - low
                return
        else:
            self.named += high - low
        part = Part(run, low, high)
        if run is not None:
            run.idle.append(part)
        part.before, part.after = before, before.after
        before.after.before = part
        before.after = part

    def _unlink(self, part: Part) -> None:
        part.before.after, part.after.before = part.after, part.before

    def claim(self, run: Run, end: int) -> None:
        """Blocks of a run are used again, up to place `end`."""
        while run.idle and run.idle[-1].low < end:
            part = run.idle[-1]
            claimed = min(part.high, end) - part.low
            self.size -= claimed
            self.named -= claimed
            part.low += claimed
            if part.low == part.high:
                self._unlink(run.idle.pop())

    def forget(self, run: Run) -> None:
        """A run cannot be found any more; its blocks stay where they are."""
        for part in run.idle:
            part.run = None
            self.named -= part.high - part.low
        run.idle.clear()

    def take(self, blocks: int) -> list[Run]:
        """The next blocks are taken. Returns the runs that have lost some."""
        lost: list[Run] = []
        self.size -= blocks
        while blocks:
            part = self._ends.after
            taken = min(blocks, part.high - part.low)
            blocks -= taken
            part.high -= taken
            run = part.run
            if run is not None:
                self.named -= taken
                run.high -= taken
                lost.append(run)
            if part.low == part.high:
                self._unlink(part)
                if run is not None:
                    run.idle.remove(part)
        return lost

    @property
    def empty_first(self) -> int:
        """Blocks that are taken before the first that can be found."""
        first = self._ends.after
        return first.high - first.low if first.run is None else 0
