"""Dispatch by freeness (Llumnix, arXiv 2406.03243, section 4.4.1): the instance that could go on decoding for the most steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simserve.policies.contract import PolicyParams
from simserve.policies.freeness import freeness

if TYPE_CHECKING:
    from simserve.engine.cluster_view import ClusterView
    from simserve.engine.request import LiveRequest


class MostFree:
    """Highest freeness (ties: fewest outstanding, then the first). The paper's signals are 0.05 s old: `refresh_s: 0.05`."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: LiveRequest, view: ClusterView) -> int:
        return view.best(freeness)[0]
