"""Splitwise's pools (arXiv 2311.18677, section 4.3): a prompt pool and a token pool that lend each other instances under load.

An instance that works for the other pool as well runs mixed batches until that work is done; nothing marks it but the requests it has.
`splitwise` is for arrivals, `splitwise-decode` for requests that have been prefilled.
"""

from __future__ import annotations

from pydantic import Field

from simserve.bounds import MOST_TOKENS
from simserve.contracts import ClusterView, Load, PolicyParams, Request


class SplitwisePrompts:
    """Fewest pending prompt tokens in the prompt pool; above `cap_tokens`, the least loaded of the token pool if that is less loaded."""

    class Params(PolicyParams):
        cap_tokens: int = Field(
            8192, ge=1, le=MOST_TOKENS, description="Pending prompt tokens of the best prompt instance above which one is borrowed."
        )

    crosses_roles = True

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        tokens = view.prompt_tokens
        own = [number for number in view.open if view.roles[number] != "decode"]
        lent = [number for number in view.open if view.roles[number] == "decode"]
        best = min(own, key=tokens.__getitem__, default=-1)
        if best >= 0 and (tokens[best] <= self.params.cap_tokens or not lent):
            return best
        other = min(lent, key=tokens.__getitem__)
        return best if best >= 0 and tokens[best] <= tokens[other] else other


class SplitwiseTokens:
    """Most free memory in the token pool; when all of it is short, the least used of the prompt pool; last, the instance it is on."""

    class Params(PolicyParams):
        reserve: float = Field(
            0.1, ge=0, lt=1, description="Fraction of an instance's KV blocks that must be free for it to take a request."
        )

    crosses_roles = True

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        for pool in ("decode", "prefill"):
            number, free = view.best(free_fraction, pool)
            if free > self.params.reserve:
                return number
        return view.source if view.source in view.open else view.open[0]


def free_fraction(load: Load) -> float:
    """Fraction of an instance's memory that is free and not what the first in its queue waits for."""
    return (load.free_blocks - load.head_blocks) / load.total_blocks
