"""Prefix caching block by block, free blocks taken in order: vLLM V1's (vllm/v1/core/block_pool.py, kv_cache_manager.py).

Every full block of a request can be found again by its contents and all before it, from the moment its step is planned: newcomers of the
same step find it. What the workload does not tell is a request's own: only the request itself finds it, when it comes back after a
preemption. Two requests that compute the same have a block each; the first of them is found. Blocks that no request uses are free, and
are taken in order.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from simserve.engine.free_blocks import FreeBlocks, Run
from simserve.engine.prefix_cache import Contents
from simserve.engine.request import LiveRequest
from simserve.errors import ConfigError


class BlockContents:
    """The index of one instance (`PrefixIndex`). A match is a number of blocks.

    free         the free blocks in the order in which they are taken
    empty_first  freed blocks without contents are taken before all others (since vLLM 0.24, block_pool.py line 622); otherwise in the order
                 in which they are freed (before, line 325 of 0.11)
    """

    pool_blocks_per_id = 1
    when_planned = True

    def __init__(
        self, blocks: int, block_tokens: int, tokens_per_id: int, outputs: Contents | None = None, empty_first: bool = False
    ) -> None:
        if tokens_per_id % block_tokens:
            raise ConfigError(
                f"prefix caching needs KV blocks that divide the trace's prefix blocks of {tokens_per_id} tokens, "
                f"found block_tokens {block_tokens}; kv.prefix_match: token matches whatever their sizes"
            )
        self.outputs = outputs
        self.empty_first = empty_first
        self._total = blocks
        self._block_tokens = block_tokens
        self._tokens_per_id = tokens_per_id
        self._per_id = tokens_per_id // block_tokens
        self._kept: dict[Any, tuple[Run, ...]] = {}
        self._looked: tuple[LiveRequest, tuple[int, int], list[tuple[Run, int, int]]] | None = None
        """What was found of a request (and asked for, and found up to) since anything has changed: an admission asks several times."""
        self.blocks_in_use = 0
        self.free = FreeBlocks(blocks)

    def tokens(self, match: int) -> int:
        """Tokens of so many blocks."""
        return match * self._block_tokens

    def blocks(self, match: int) -> int:
        """Blocks of a table that are shared."""
        return match

    def shared(self, request: LiveRequest) -> int:
        """Of the blocks of a request, those that are counted once for all who use them."""
        return sum([end - start for _, start, end in request.pinned_ids])

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def _told(self, request: LiveRequest, blocks: int) -> list[int]:
        """The names of what a request's first `blocks` blocks contain, one for `_per_id` of them, as far as the workload tells them."""
        ids, last = request.prompt_tokens // self._tokens_per_id, -(-blocks // self._per_id)
        return request.prefix_ids[: min(ids, last)] if self.outputs is None or last <= ids else self.outputs.first(request.row, last)

    def _found(self, request: LiveRequest, match: int) -> list[tuple[Run, int, int]]:
        """The runs in which the first `match` blocks of a request are, from where to where, as far as they are kept."""
        if self._looked is not None and self._looked[0] is request and match in self._looked[1]:
            return self._looked[2]
        found: list[tuple[Run, int, int]] = []
        size, told, place = self._per_id, self._told(request, match), 0
        while place < match:
            number = place // size
            is_told = number < len(told)
            runs = self._kept.get(told[number] if is_told else (request.row,), ())
            run = next((run for run in runs if run.low <= place < run.high), None)
            if run is None:
                break
            end = run.high if run.high < match else match
            if is_told:
                alike = _alike(run.names, number - run.low // size, told, number)
                if not alike:  # a name that does not stand for all before it
                    break
                end = min(end, (number + alike) * size)
            if found and found[-1][0] is run:
                found[-1] = run, found[-1][1], end
            else:
                found.append((run, place, end))
            place = end
        self._looked = request, (match, place), found
        return found

    def match(self, request: LiveRequest) -> int:
        """Leading blocks of the request that are kept, leaving at least one token to compute (get_computed_blocks)."""
        found = self._found(request, (request.target_tokens - 1) // self._block_tokens)
        return found[-1][2] if found else 0

    def blocks_to_pin(self, request: LiveRequest, match: int) -> int:
        """Free blocks that using a match takes."""
        return sum([max(0, end - run.used) for run, _, end in self._found(request, match)])

    # -- use -----------------------------------------------------------------------------------------------------------------------

    def pin(self, request: LiveRequest, match: int) -> None:
        """The request uses a match."""
        request.pinned_ids = list(self._found(request, match))
        self._looked = None
        request.offered_ids = match
        for run, _, end in request.pinned_ids:
            self.blocks_in_use += max(0, end - run.used)
            self.free.claim(run, end)
            run.ends[end] = run.ends.get(end, 0) + 1

    def add(self, request: LiveRequest) -> None:
        """What the request has computed can be found."""
        self.offer(request, request.computed_tokens)

    def offer(self, request: LiveRequest, tokens: int) -> None:
        """Full blocks among the first `tokens` tokens of the request can be found."""
        full, low = tokens // self._block_tokens, request.offered_ids
        if full <= low:
            return
        size, kept, told, own = self._per_id, self._kept, self._told(request, full), (request.row,)
        self.blocks_in_use += full - low
        request.offered_ids = full
        self._looked = None
        pinned = request.pinned_ids
        while low < full:
            number, run = low // size, None
            if pinned and pinned[-1][2] == low == pinned[-1][0].high:  # the request goes on where its last run ends
                run = pinned[-1][0]
            names: list[Any] = told[number:] or [own]
            name = names[0]
            if run is not None and run.names[-1] == name:
                names = []
            elif name in kept or name == own:  # another copy, of which only the first is found; or what only the request itself finds
                run, names = None, [name]
            else:
                if not kept.keys().isdisjoint(names):
                    names = list(takewhile(lambda other: other not in kept, names))
                if run is not None and run.alone:
                    run = None
            high = full if name == own else min(full, (number + (len(names) or 1)) * size)
            if run is None:
                run = Run(names, low, high, alone=name in kept or name == own)
                pinned.append((run, low, high))
            else:
                pinned[-1] = run, pinned[-1][1], high
                self._leave(run, low)
                run.ends[high] = run.ends.get(high, 0) + 1
                run.high = high
                run.names += names
            if run.alone and names:
                kept[name] = (*kept.get(name, ()), run)
            elif names:
                kept.update(dict.fromkeys(names, (run,)))
            low = high

    @staticmethod
    def _leave(run: Run, end: int) -> None:
        users = run.ends[end] - 1
        if users:
            run.ends[end] = users
        else:
            del run.ends[end]

    def release(self, request: LiveRequest, gone: bool = False) -> int:
        """The request frees its blocks, the last first. Returns how many of those that can be found no other uses. What is its own cannot
        be found again when it is `gone`."""
        self._free_empty(request.held_blocks - self.shared(request))
        freed, own = 0, (request.row,)
        self._looked = None
        for run, _, end in reversed(request.pinned_ids):
            self._leave(run, end)
            used = run.used
            if used < end:
                freed += end - used
                self.free.append(None if gone and run.names[0] == own else run, used, end)
        if gone:
            for run in self._kept.pop(own, ()):
                self.free.forget(run)
        self.blocks_in_use -= freed
        request.pinned_ids = []
        request.offered_ids = 0
        return freed

    # -- the pool ------------------------------------------------------------------------------------------------------------------

    def trim(self, free_blocks: int) -> None:
        """So many blocks are free now: the others have been taken from the queue, or have come back without contents."""
        taken = self.free.size - free_blocks
        if taken > 0:
            self._looked = None
            for run in self.free.take(taken):
                self._forget_end(run)
        else:
            self._free_empty(-taken)

    def _forget_end(self, run: Run) -> None:
        """A run has lost its last blocks: what they contained is not found in it any more."""
        if run.low == run.high:
            left = len(run.names) if run.ends else 0
        else:
            left = 1 if run.alone else -(-run.high // self._per_id) - run.low // self._per_id
        kept = self._kept
        for name in run.names[left:]:
            runs = kept.pop(name)
            if len(runs) > 1:
                kept[name] = tuple([one for one in runs if one is not run])
        del run.names[left:]

    def _free_empty(self, blocks: int) -> None:
        """Blocks come back without contents."""
        if blocks and self.empty_first:
            self.free.prepend(blocks)
        elif blocks:
            self.free.append(None, 0, blocks)

    def clear(self) -> None:
        """Forgets everything, users included."""
        self._kept.clear()
        self._looked = None
        self.blocks_in_use = 0
        self.free = FreeBlocks(self._total)

    def spare(self, free_blocks: int) -> int:
        """Free blocks that can be taken before contents are forgotten."""
        return min(free_blocks, self.free.empty_first)

    @property
    def idle_blocks(self) -> int:
        """Free blocks whose contents are kept."""
        return self.free.named


def _alike(names: list[Any], first: int, told: list[int], number: int) -> int:
    """How many names of a run, from one that is told on, are those that are told."""
    most = min(len(names) - first, len(told) - number)
    mine, its = names[first : first + most], told[number : number + most]
    return most if mine == its else next(k for k in range(most) if mine[k] != its[k])
