"""Each request goes to an instance drawn at random."""

from __future__ import annotations

from random import Random

from pydantic import Field

from simserve.bounds import MOST_SEED
from simserve.contracts import ClusterView, PolicyParams, Request


class RandomChoice:
    """Every open instance is equally likely."""

    class Params(PolicyParams):
        seed: int = Field(0, ge=0, le=MOST_SEED, description="Of the draws.")

    def __init__(self, params: Params) -> None:
        self.params = params
        self._draw = Random(params.seed)

    def choose(self, request: Request, view: ClusterView) -> int:
        return view.open[int(self._draw.random() * len(view.open))]
