"""What the parts of a run tell each other, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from simserve.engine.request import LiveRequest

if TYPE_CHECKING:
    from simserve.engine.instance import Instance
    from simserve.engine.lane import Lane


class Listener(Protocol):
    """What the parts of a run tell the run; one object hears all of it."""

    def request_due(self, row: int, now: float) -> None:
        """A row of the request table is released: it enters the system."""

    def requests_ended(self, requests: list[LiveRequest], instance: Instance, now: float) -> None:
        """Requests have ended at an instance, in order."""

    def request_lost(self, request: LiveRequest, instance: Instance, rule: str, now: float) -> None:
        """The instance of a request has died and is gone; `rule` says what becomes of it."""

    def instance_empty(self, instance: Instance) -> None:
        """The last request has left a draining instance."""

    def instance_available(self, now: float) -> None:
        """An instance has begun to take requests."""

    def requests_left(self) -> tuple[int, int]:
        """Requests in the system, and requests that have not ended, those to come included."""
        ...

    def span_ended(self, lane: Lane) -> None:
        """A lane's span is over and handed out. Told in checked runs only."""
