"""Llumnix: decoding requests move from instances that run out of memory to those with most of it (arXiv 2406.03243, section 4.4).

On every poll, instances below a freeness are sources and instances above it destinations; both are sorted by freeness and paired from the
extremes. A draining instance is a source whatever its freeness: its virtual usage is infinite. The freed memory lets the first waiting
request in, so migration de-fragments, balances and clears instances with one rule.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from simserve.bounds import LEAST_INTERVAL_S, MOST_REQUESTS, MOST_S
from simserve.contracts import ClusterControl, Decoding, PolicyParams
from simserve.policies.freeness import freeness


class LlumnixMigration:
    """Moves decoding requests from instances short of memory to those with most of it. Defaults of the public code."""

    class Params(PolicyParams):
        interval_s: float = Field(0.05, ge=LEAST_INTERVAL_S, le=MOST_S, description="Seconds between two polls.")
        threshold: float = Field(3.0, description="Freeness below which an instance is a source, above which a destination.")
        pairing: Literal["defrag", "balanced"] = Field(
            "defrag",
            description="`defrag` pairs the extremes; `balanced` only where the destination stays free enough and the two draw closer.",
        )
        request: Literal["shortest", "longest", "last"] = Field(
            "shortest",
            description="The request that moves: fewest tokens, most tokens, or the last admitted; of the lowest priority.",
        )
        concurrent: int = Field(1, ge=1, le=MOST_REQUESTS, description="Migrations under way from or to one instance at most.")
        headroom_blocks: int = Field(
            0, ge=0, description="KV blocks kept free for each high-priority (> 0) request: the instance counts as that much fuller."
        )

    idle = False

    def __init__(self, params: Params) -> None:
        self.params = params

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def act(self, cluster: ClusterControl) -> None:
        if not self.params.headroom_blocks and not cluster.may_be_below(freeness, self.params.threshold):
            return  # there is no source
        free = {}
        for number, (state, role) in enumerate(zip(cluster.states, cluster.roles, strict=True)):
            if role != "prefill" and state in ("up", "draining") and cluster.migrations(number) < self.params.concurrent:
                free[number] = -math.inf if state == "draining" else self._freeness(cluster, number)
        threshold = self.params.threshold
        sources = sorted((number for number in free if free[number] < threshold), key=lambda number: (free[number], number))
        destinations = sorted((number for number in free if free[number] > threshold), key=lambda number: (-free[number], number))
        for source, destination in zip(sources, destinations, strict=False):
            request = self._pick(cluster.decoding(source))
            if request is not None and (self.params.pairing == "defrag" or self._balances(cluster, source, destination, request)):
                cluster.migrate(request.row, source, destination)

    def _freeness(self, cluster: ClusterControl, number: int) -> float:
        high = 0
        if self.params.headroom_blocks:
            high = sum(request.priority > 0 for request in cluster.decoding(number))
        return freeness(cluster.load(number), self.params.headroom_blocks, high)

    def _pick(self, requests: list[Decoding]) -> Decoding | None:
        if not requests:
            return None
        rank = {
            "shortest": lambda r: (r.priority, r.tokens, r.row),
            "longest": lambda r: (r.priority, -r.tokens, r.row),
            "last": lambda r: (r.priority, -r.admission, r.row),
        }[self.params.request]
        return min(requests, key=rank)

    def _balances(self, cluster: ClusterControl, source: int, destination: int, request: Decoding) -> bool:
        """Whether the move leaves the destination above the threshold and narrows the gap without turning it round."""
        one, other = cluster.load(source), cluster.load(destination)
        blocks = cluster.blocks(destination, request.tokens)
        after = freeness(one._replace(free_blocks=one.free_blocks + blocks, running=one.running - 1))
        there = freeness(other._replace(free_blocks=other.free_blocks - blocks, running=other.running + 1))
        return there > self.params.threshold and 0 < there - after < freeness(other) - freeness(one)
