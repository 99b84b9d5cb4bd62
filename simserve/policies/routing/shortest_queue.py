"""Join the shortest queue: fewest requests waiting to be admitted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simserve.contracts import ClusterView, PolicyParams, Request


class ShortestQueue:
    """Fewest requests waiting. Queues are mostly empty below saturation: `ties` decides then."""

    class Params(PolicyParams):
        ties: Literal["outstanding", "first"] = Field(
            "outstanding", description="Among equal queues: fewest outstanding requests, or the first instance (the bare rule)."
        )

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        waiting, outstanding = view.waiting, view.outstanding
        if self.params.ties == "first":
            return view.least(waiting)
        least = view.least(outstanding)
        if not waiting[least]:
            return least
        return min(zip(map(waiting.__getitem__, view.open), map(outstanding.__getitem__, view.open), view.open, strict=True))[2]
