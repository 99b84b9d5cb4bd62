"""A request goes where most of its prompt has been sent before, unless that instance is much busier than the others.

The rule of SGLang's cache-aware router: by prefix while the load is balanced, by load when it is not. The router keeps its own record of
what it sent where, one bit per instance for each block of prompt contents, forgotten least recently used first: choosing costs a walk
along the prompt, whatever the number of instances and the size of their caches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from pydantic import Field

from simserve.bounds import LARGEST, MOST_BLOCKS, MOST_REQUESTS
from simserve.contracts import ClusterView, PolicyParams, Request


class PrefixAffinity:
    """Longest prefix sent before; below `min_match` of the prompt, or out of balance, fewest outstanding requests."""

    class Params(PolicyParams):
        min_match: float = Field(0.5, ge=0, le=1, description="Fraction of the prompt's blocks that must have been sent to an instance.")
        balance_requests: int = Field(
            32, ge=0, le=MOST_REQUESTS, description="Most outstanding requests above the least loaded instance's."
        )
        balance_ratio: float = Field(
            1.5, ge=1, le=LARGEST, description="Most outstanding requests as a multiple of the least loaded instance's."
        )
        remembered_blocks: int = Field(1_000_000, ge=1, le=MOST_BLOCKS, description="Blocks of prompt contents the router remembers.")

    reads_contents = True

    def __init__(self, params: Params) -> None:
        self.params = params
        self._sent: OrderedDict[int, int] = OrderedDict()
        self._open: Sequence[int] = ()
        self._holders = 0
        """One bit for each instance of `_open`."""

    def choose(self, request: Request, view: ClusterView) -> int:
        chosen = self._by_prefix(request, view)
        bit = 1 << chosen
        sent = self._sent
        for block in request.prefix_ids:
            sent[block] = sent.get(block, 0) | bit
            sent.move_to_end(block)
        while len(sent) > self.params.remembered_blocks:
            sent.popitem(last=False)
        return chosen

    def _by_prefix(self, request: Request, view: ClusterView) -> int:
        outstanding = view.outstanding
        least = view.least(outstanding)
        if self._open is not view.open:
            self._open, self._holders = view.open, sum(1 << number for number in view.open)
        holders = self._holders
        matched = best = 0
        for block in request.prefix_ids:
            still = holders & self._sent.get(block, 0)
            if not still:
                break
            holders = still
            matched += 1
        if not matched or matched < self.params.min_match * len(request.prefix_ids):
            return least
        best = min(_bits(holders), key=outstanding.__getitem__)
        more = outstanding[best] - outstanding[least]
        if more > self.params.balance_requests and outstanding[best] > self.params.balance_ratio * outstanding[least]:
            return least
        return best


def _bits(mask: int) -> Iterator[int]:
    """Numbers of the bits that are set, rising."""
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1
