"""Prefix caching in a tree of sequences: SGLang's radix cache (arXiv 2312.07104, section 3; sglang/srt/mem_cache/unified_cache of 0.5.23).

A node is a stretch of a sequence that its users have in common; children go on differently. What a request has computed is entered when a
chunk or its prompt has been computed, and with its output when it has ended; another copy of something entered is given up. Nodes without
users are idle, inside the free blocks; when these are taken, whole leaves are forgotten, least recently used first. Looking a request up
uses what it finds, whether it is admitted or not, and cuts a node where the request parts from it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from simserve.engine.prefix_cache import Contents
from simserve.engine.request import LiveRequest
from simserve.errors import ConfigError

BESIDE = 1e-5
"""A node is looked up this much earlier than its child (unified_tree_core.py line 1033): leaves are the most recent of a path."""


class Node:
    """Tokens `start` to `end` of a sequence. `used` says when last, as a number that grows; `users` are requests that have it locked."""

    __slots__ = ("children", "end", "keys", "own", "parent", "start", "used", "users")

    def __init__(self, start: int, end: int, keys: list[int], own: tuple[int], parent: Node | None, used: float) -> None:
        self.start, self.end = start, end
        self.keys, self.own = keys, own
        self.parent, self.used = parent, used
        self.users = 0
        self.children: dict[Any, Node] = {}

    def label(self, run: int) -> Any:
        """What the run of this number holds: a key that stands for it and all before it, or the request whose own it is."""
        return self.keys[run] if run < len(self.keys) else self.own


class RadixContents:
    """The index of one instance (`PrefixIndex`). A match is a number of tokens, in whole blocks.

    blocks_in_use  blocks of nodes that have users
    idle_blocks    blocks of nodes that have none
    """

    pool_blocks_per_id = 1
    when_planned = False

    def __init__(self, block_tokens: int, tokens_per_id: int, outputs: Contents | None = None) -> None:
        if tokens_per_id % block_tokens:
            raise ConfigError(
                f"prefix caching needs KV blocks that divide the trace's prefix blocks of {tokens_per_id} tokens, "
                f"found block_tokens {block_tokens}; kv.prefix_match: token matches whatever their sizes"
            )
        self.outputs = outputs
        self._block, self._run = block_tokens, tokens_per_id
        self.clear()

    def clear(self) -> None:
        """Forgets everything, users included."""
        self._clock = 0.0
        self._root = Node(0, 0, [], (-1,), None, 0.0)
        self._leaves: list[tuple[float, int, Node]] = []
        self._pushed = 0
        self.blocks_in_use = self.idle_blocks = 0
        self._room: int | None = None

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def _keys(self, request: LiveRequest, tokens: int) -> list[int]:
        told = request.prompt_tokens // self._run
        if self.outputs is None or tokens <= told * self._run:
            return request.prefix_ids[:told]
        return self.outputs.first(request.row, tokens // self._run)

    def _alike(self, node: Node, keys: list[int], own: tuple[int], end: int) -> int:
        """How far a sequence is as a node, whose beginning it reaches; at most to `end`."""
        end = min(end, node.end)
        place = node.start
        run = place // self._run
        told = min(len(keys), len(node.keys), -(-end // self._run))
        if told > run:
            asked, kept = keys[run:told], node.keys[run:told]
            if asked != kept:
                parts = next(k for k in range(told - run) if asked[k] != kept[k])
                return (run + parts) * self._run if parts else place
            run, place = told, told * self._run
        while place < end:
            mine = keys[run] if run < len(keys) else own
            if mine != node.label(run):
                return place
            if run >= len(keys) and run >= len(node.keys):
                return end
            run += 1
            place = run * self._run
        return end

    def _child(self, node: Node, keys: list[int], own: tuple[int], place: int) -> Node | None:
        run = place // self._run
        return node.children.get(keys[run] if run < len(keys) else own)

    def _limit(self, request: LiveRequest, whole: bool = False) -> int:
        """Tokens that are looked up: one is left to compute, and no part of a block is found."""
        return (request.target_tokens - (not whole)) // self._block * self._block

    def match(self, request: LiveRequest) -> int:
        """Leading tokens of the request that are kept, leaving at least one to compute."""
        limit = self._limit(request)
        keys, own, node, place = self._keys(request, limit), (request.row,), self._root, 0
        while place < limit:
            child = self._child(node, keys, own, place)
            if child is None:
                break
            place = self._alike(child, keys, own, limit)
            if place < child.end:
                break
            node = child
        return place

    def tokens(self, match: int) -> int:
        """Tokens of a match: itself."""
        return match

    def blocks(self, match: int) -> int:
        """Blocks of a match, all of them shared."""
        return match // self._block

    def shared(self, request: LiveRequest) -> int:
        """Of the blocks of the request, those that are the tree's."""
        return request.offered_ids // self._block

    def blocks_to_pin(self, request: LiveRequest, match: int) -> int:
        """Free blocks that using a match takes."""
        keys, own, node, idle = self._keys(request, match), (request.row,), self._root, 0
        while node.end < match:
            child = self._child(node, keys, own, node.end)
            assert child is not None
            if not child.users:
                idle += min(child.end, match) - child.start
            node = child
        return idle // self._block

    # -- use -----------------------------------------------------------------------------------------------------------------------

    def _tick(self) -> float:
        self._clock += 1
        return self._clock

    def _use(self, node: Node, used: float) -> None:
        node.used = used
        self._offer_leaf(node)

    def _offer_leaf(self, node: Node) -> None:
        if not node.users and not node.children and node.parent is not None:
            self._pushed += 1
            heappush(self._leaves, (node.used, self._pushed, node))

    def _cut(self, child: Node, place: int) -> Node:
        """Divides a node; the first part is answered."""
        parent = child.parent
        assert parent is not None
        first = Node(child.start, place, child.keys, child.own, parent, self._tick())
        first.users = child.users
        parent.children[child.label(child.start // self._run)] = first
        first.children[child.label(place // self._run)] = child
        child.start, child.parent = place, first
        self._use(child, self._tick())
        return first

    def _find(self, request: LiveRequest, limit: int) -> Node:
        """The node that ends where the match ends, cut from a longer one if need be."""
        keys, own, node = self._keys(request, limit), (request.row,), self._root
        while node.end < limit:
            child = self._child(node, keys, own, node.end)
            if child is None:
                break
            place = self._alike(child, keys, own, limit)
            if place < child.end:
                return self._cut(child, place)
            node = child
        return node

    def refresh(self, request: LiveRequest, whole: bool = False) -> int:
        """The request is looked up: what it finds is used now (match_prefix). Answers with the tokens found. `whole`: its last too."""
        found = node = self._find(request, self._limit(request, whole))
        used = self._tick()
        while node.parent is not None:
            self._use(node, used)
            used -= BESIDE
            node = node.parent
        return found.end

    def _lock(self, node: Node) -> None:
        while node.parent is not None:
            if not node.users:
                blocks = (node.end - node.start) // self._block
                self.idle_blocks -= blocks
                self.blocks_in_use += blocks
            node.users += 1
            node = node.parent

    def _unlock(self, node: Node) -> None:
        while node.parent is not None:
            node.users -= 1
            if not node.users:
                blocks = (node.end - node.start) // self._block
                self.idle_blocks += blocks
                self.blocks_in_use -= blocks
                self._offer_leaf(node)
            node = node.parent

    def pin(self, request: LiveRequest, match: int) -> None:
        """The request uses a match."""
        node = self._find(request, match)
        self._lock(node)
        request.pinned_ids = [node]
        request.offered_ids = match

    def _enter(self, request: LiveRequest, tokens: int) -> Node:
        """The first `tokens` tokens of a request are in the tree (insert), the prompt as a node of its own."""
        prompt = request.prompt_tokens // self._block * self._block
        last = self._insert(request, tokens)
        if 0 < prompt < tokens:  # so that an output can be forgotten without its prompt
            self._insert(request, prompt)
        return last

    def _insert(self, request: LiveRequest, tokens: int) -> Node:
        keys, own, node = self._keys(request, tokens), (request.row,), self._root
        while node.end < tokens:
            child = self._child(node, keys, own, node.end)
            if child is None:
                break
            self._use(child, self._tick())
            place = self._alike(child, keys, own, tokens)
            node = child if place == child.end else self._cut(child, place)
        if node.end < tokens:
            leaf = Node(node.end, tokens, keys, own, node, self._tick())
            node.children[leaf.label(node.end // self._run)] = leaf
            self.idle_blocks += (tokens - node.end) // self._block
            self._offer_leaf(leaf)
            node = leaf
        return node

    def add(self, request: LiveRequest) -> int:
        """What the request has computed is entered; copies of what was there already are given up. Answers with how many blocks less are in
        use now."""
        self.settle()
        tokens = request.computed_tokens // self._block * self._block
        used = self.blocks_in_use
        last = self._enter(request, tokens)
        before = request.pinned_ids
        self._lock(last)
        for node in before:
            self._unlock(node)
        request.pinned_ids = [last]
        freed = (tokens - request.offered_ids) // self._block - (self.blocks_in_use - used)
        request.offered_ids = tokens
        return freed

    def offer(self, request: LiveRequest, tokens: int) -> None:
        """What a step will compute cannot be found yet."""

    def release(self, request: LiveRequest, gone: bool = False) -> int:
        """The request uses nothing any more. One that is `gone` leaves its output; one that comes back, what was entered: its prompt.
        Answers with how many blocks no other uses."""
        self.settle()
        decoded = request.computed_tokens > request.target_tokens
        tokens = request.computed_tokens if gone else min(request.computed_tokens, request.target_tokens)
        tokens = tokens // self._block * self._block
        used = self.blocks_in_use
        if (gone and decoded) or tokens > request.offered_ids:
            self._enter(request, tokens)
        for node in request.pinned_ids:
            self._unlock(node)
        request.pinned_ids = []
        request.offered_ids = 0
        return used - self.blocks_in_use

    # -- the pool ------------------------------------------------------------------------------------------------------------------

    def trim(self, free_blocks: int) -> None:
        """So many blocks are free: idle nodes beyond them are forgotten when the batch is complete (`settle`), since all of its requests
        are looked up before memory is taken for any."""
        self._room = free_blocks

    def settle(self) -> None:
        """Forgets what has no place in the free blocks."""
        if self._room is not None:
            self.evict(self._room)
            self._room = None

    def evict(self, blocks: int) -> None:
        """Forgets idle leaves, least recently used first, until `blocks` hold what is idle."""
        while self.idle_blocks > blocks:
            used, _, leaf = heappop(self._leaves)
            parent = leaf.parent
            if used != leaf.used or leaf.users or leaf.children or parent is None:
                continue
            del parent.children[leaf.label(leaf.start // self._run)]
            leaf.parent = None
            self.idle_blocks -= (leaf.end - leaf.start) // self._block
            self._offer_leaf(parent)

    def spare(self, free_blocks: int) -> int:
        """Of so many free blocks, those that can be taken before contents are forgotten."""
        return free_blocks - self.idle_blocks
