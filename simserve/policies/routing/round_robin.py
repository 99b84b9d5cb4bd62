"""Requests go to the instances in turn."""

from __future__ import annotations

from bisect import bisect_right

from simserve.contracts import ClusterView, PolicyParams, Request


class RoundRobin:
    """The instances in order, and again; those that take no requests are passed over."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params
        self._last = -1

    def choose(self, request: Request, view: ClusterView) -> int:
        place = bisect_right(view.open, self._last)
        self._last = view.open[place % len(view.open)]
        return self._last
