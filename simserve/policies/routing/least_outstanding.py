"""Each request goes to the instance with the fewest requests that have not ended (ties: the first)."""

from __future__ import annotations

from simserve.contracts import ClusterView, PolicyParams, Request


class LeastOutstanding:
    """Least outstanding requests."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        return view.least(view.outstanding)
