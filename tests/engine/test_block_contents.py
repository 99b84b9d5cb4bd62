"""Free blocks in order and what they contain, beside a pool of one object a block, written from the rules of vLLM's BlockPool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine.block_contents import BlockContents
from simserve.engine.kv_cache import KvCache
from simserve.engine.request import LiveRequest

SIZE, BLOCKS = 2, 7


@dataclass(eq=False)
class Block:
    """`content` = all tokens up to its end, None = not full; `users` = requests that have it."""

    content: Any = None
    users: int = 0


@dataclass
class Pool:
    """`queue` = free blocks, the next first; `kept` = blocks with contents, in the order in which they became full."""

    empty_first: bool
    queue: list[Block] = field(default_factory=lambda: [Block() for _ in range(BLOCKS)])
    kept: list[Block] = field(default_factory=list)

    def find(self, contents: list[Any]) -> list[Block]:
        found: list[Block] = []
        for content in contents:
            block = next((block for block in self.kept if block.content == content), None)
            if block is None:
                break
            found.append(block)
        return found

    def take(self, blocks: int) -> list[Block]:
        taken, self.queue = self.queue[:blocks], self.queue[blocks:]
        for block in taken:
            if block in self.kept:
                self.kept.remove(block)
            block.content, block.users = None, 1
        return taken

    def share(self, found: list[Block]) -> None:
        for block in found:
            if not block.users:
                self.queue.remove(block)
            block.users += 1

    def fill(self, blocks: list[Block], contents: list[Any]) -> None:
        for block, content in zip(blocks, contents, strict=False):
            if block.content is None:
                block.content = content
                self.kept.append(block)

    def free(self, blocks: list[Block]) -> None:
        for block in blocks:
            block.users -= 1
        freed = [block for block in reversed(blocks) if not block.users]
        empty = [block for block in freed if block.content is None]
        self.queue = [*empty, *self.queue, *(b for b in freed if b.content is not None)] if self.empty_first else [*self.queue, *freed]


@dataclass
class Sequence:
    """A request on both sides."""

    live: LiveRequest
    blocks: list[Block] = field(default_factory=list)
    runs: bool = False

    def contents(self, tokens: int, per_id: int) -> list[Any]:
        ids = [(one, part) for one in self.live.prefix_ids[: self.live.prompt_tokens // (per_id * SIZE)] for part in range(per_id)]
        own = [(f"own {self.live.row}", k) for k in range(len(ids), 1000)]
        return [tuple([*ids, *own][: k + 1]) for k in range(tokens // SIZE)]


CHAINS = ([1, 2, 3], [1, 2, 4], [1, 5, 6], [7])


@pytest.mark.parametrize("empty_first", [False, True])
@pytest.mark.parametrize("per_id", [1, 2])
def test_blocks_are_found_and_forgotten_as_in_a_pool_of_single_blocks(empty_first: bool, per_id: int) -> None:
    prompts = st.lists(st.tuples(st.integers(0, len(CHAINS) - 1), st.integers(1, 9)), min_size=2, max_size=5)
    actions = st.lists(st.tuples(st.sampled_from("ggggpe"), st.integers(0, 4), st.integers(1, 4)), min_size=10, max_size=60)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(prompts, actions)
    def run(prompts: list[tuple[int, int]], actions: list[tuple[str, int, int]]) -> None:
        index, pool = BlockContents(BLOCKS, SIZE, SIZE * per_id, None, empty_first), Pool(empty_first)
        kv = KvCache(BLOCKS, SIZE, 0, 0, index)
        told = [Sequence(LiveRequest(row, 0.0, tokens, 0, -1, -1)) for row, (_, tokens) in enumerate(prompts)]
        for one, (chain, tokens) in zip(told, prompts, strict=True):
            one.live.prefix_ids = CHAINS[chain][: tokens // (SIZE * per_id)]
        for action, number, tokens in actions:
            one = told[number % len(told)]
            live = one.live
            if action == "g" and not one.runs:
                found = pool.find(one.contents(live.target_tokens - 1, per_id))
                assert kv.cached_tokens(live) == len(found) * SIZE
                table = -(-min(live.target_tokens, len(found) * SIZE + tokens) // SIZE)
                fits = table - len(found) + sum(not block.users for block in found) <= len(pool.queue)
                assert kv.admit(live, table) == fits
                if not fits:
                    continue
                pool.share(found)
                one.blocks, one.runs = [*found, *pool.take(table - len(found))], True
                live.preemptions = 1
            elif action == "g":
                table = -(-(live.computed_tokens + tokens) // SIZE)
                fits = table - len(one.blocks) <= len(pool.queue)
                assert kv.grow(live, live.computed_tokens + tokens) == fits
                if not fits:
                    continue
                one.blocks += pool.take(max(0, table - len(one.blocks)))
            elif one.runs:
                kv.release(live, gone=action == "e")
                pool.free(one.blocks)
                one.blocks, one.runs = [], False
                computed = live.computed_tokens
                live.lose_kv()
                if action == "e":
                    live.row += 100  # the next is another
                else:
                    live.target_tokens = max(live.prompt_tokens, computed + 1)
                continue
            else:
                continue
            live.computed_tokens = max(live.computed_tokens, min(live.held_blocks * SIZE, live.computed_tokens + tokens))
            index.offer(live, live.computed_tokens)
            pool.fill(one.blocks, one.contents(live.computed_tokens, per_id))
            assert kv.free_blocks == len(pool.queue) == index.free.size
            assert index.blocks_in_use == sum(block.users > 0 for block in pool.kept)
            for other in told:
                if not other.runs:
                    assert kv.cached_tokens(other.live) == SIZE * len(pool.find(other.contents(other.live.target_tokens - 1, per_id)))

    run()
