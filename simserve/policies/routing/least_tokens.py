"""Each request goes to the instance with the fewest prompt tokens of requests that have not ended (ties: the first).

Splitwise's token-based join-the-shortest-queue (arXiv 2311.18677, section 4.3) counts tokens like this: the router knows the prompts, not
the outputs.
"""

from __future__ import annotations

from simserve.contracts import ClusterView, PolicyParams, Request


class LeastTokens:
    """Least outstanding prompt tokens."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params

    def choose(self, request: Request, view: ClusterView) -> int:
        return view.least(view.prompt_tokens)
