"""Join the shortest queue: fewest requests waiting for a seat, then fewest outstanding (ties: the first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simserve.policies.contract import PolicyParams

if TYPE_CHECKING:
    from simserve.engine.cluster_view import ClusterView
    from simserve.engine.request import LiveRequest


class ShortestQueue:
    """Queues are mostly empty below saturation: the outstanding requests decide then."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        waiting, outstanding = view.waiting, view.outstanding
        shortest = min(waiting[number] for number in view.open)
        return min((number for number in view.open if waiting[number] == shortest), key=outstanding.__getitem__)
