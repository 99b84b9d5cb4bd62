"""Requests go to the instances in turn."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from simserve.policies.contract import PolicyParams

if TYPE_CHECKING:
    from simserve.engine.cluster_view import ClusterView
    from simserve.engine.request import LiveRequest


class RoundRobin:
    """The instances in order, and again; those that take no requests are passed over."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params
        self._last = -1

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        place = bisect_right(view.open, self._last)
        self._last = view.open[place % len(view.open)]
        return self._last
