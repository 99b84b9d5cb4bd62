"""The less loaded of a few instances drawn at random (Mitzenmacher, "The power of two choices", IEEE TPDS 2001)."""

from __future__ import annotations

from random import Random

from pydantic import Field

from simserve.bounds import MOST_INSTANCES, MOST_SEED
from simserve.contracts import ClusterView, PolicyParams, Request


class PowerOfTwo:
    """Fewest outstanding requests among `choices` different instances (ties: the first drawn)."""

    class Params(PolicyParams):
        choices: int = Field(2, ge=1, le=MOST_INSTANCES, description="Instances drawn for each request.")
        seed: int = Field(0, ge=0, le=MOST_SEED, description="Of the draws.")

    def __init__(self, params: Params) -> None:
        self.params = params
        self._draw = Random(params.seed)

    def choose(self, request: Request, view: ClusterView) -> int:
        drawn = self._draw.sample(view.open, min(self.params.choices, len(view.open)))
        return min(drawn, key=view.outstanding.__getitem__)
