"""Dispatch by freeness (Llumnix, arXiv 2406.03243, section 4.4.1): the instance that could go on decoding for the most steps."""

from __future__ import annotations

from simserve.contracts import ClusterView, PolicyParams, Request
from simserve.policies.freeness import freeness


class MostFree:
    """Highest freeness (ties: fewest outstanding, then the first). The paper's signals are 0.05 s old: `refresh_s: 0.05`."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        return view.best(freeness)[0]
