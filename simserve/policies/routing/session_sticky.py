"""All requests of a session go to the instance that served its first one, which may still have their common prefix in its cache."""

from __future__ import annotations

from simserve.contracts import ClusterView, PolicyParams, Request


class SessionSticky:
    """New sessions, and sessions whose instance takes no requests any more, go to the fewest outstanding requests."""

    class Params(PolicyParams):
        pass

    def __init__(self, params: Params) -> None:
        self.params = params
        self._home: dict[int, int] = {}

    def choose(self, request: Request, view: ClusterView) -> int:
        home = self._home.get(request.session) if request.session >= 0 else None
        if home is None or home not in view.open:
            home = view.least(view.outstanding)
            if request.session >= 0:
                self._home[request.session] = home
        return home
