"""Each request goes to the instance with the fewest requests that have not ended (ties: the first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simserve.policies.contract import PolicyParams

if TYPE_CHECKING:
    from simserve.engine.cluster_view import ClusterView
    from simserve.engine.request import LiveRequest


class LeastOutstanding:
    """Least outstanding requests."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        return view.least(view.outstanding)
