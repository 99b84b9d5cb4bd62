"""The counters of instances that routers and controllers see."""

from __future__ import annotations

from simserve.engine.ranking import Ranking


class Signals:
    """Counters that the instances keep up to date, by instance number.

    outstanding     requests that have been sent to the instance and have not ended there
    waiting         of them, those in its queue
    prompt_tokens   prompt tokens of the outstanding requests
    rankings        of instances by their loads, told when a load has become lighter
    now, source     what a router that is asked now sees under these names
    """

    __slots__ = ("now", "outstanding", "prompt_tokens", "rankings", "source", "waiting")

    def __init__(self, instances: int) -> None:
        self.outstanding = [0] * instances
        self.waiting = [0] * instances
        self.prompt_tokens = [0] * instances
        self.rankings: list[Ranking] = []
        self.now = 0.0
        self.source = -1

    def ease(self, number: int) -> None:
        """A request has left an instance, been admitted or given up its memory."""
        for ranking in self.rankings:
            ranking.ease(number)
