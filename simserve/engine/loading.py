"""Requests that have memory and wait for a load (`InstanceSpec.loads`): they are in no batch, take no sequence slot, and go back to the
front of the queue when everything is there, as in vLLM (WAITING_FOR_REMOTE_KVS, vllm/v1/core/sched/scheduler.py)."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import TYPE_CHECKING

from simserve.contracts import Loading, LoadSource
from simserve.engine.clock import Event
from simserve.engine.events import LOAD_ENDS
from simserve.engine.readonly import ReadOnlyError, blame
from simserve.engine.request import LiveRequest, State
from simserve.errors import ConfigError
from simserve.files.words import clipped

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class Loads:
    """The loads under way at an instance. Those of one request run side by side."""

    __slots__ = (
        "_instance",
        "_sources",
        "_under_way",
    )

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._sources = instance.spec.loads
        self._under_way: dict[int, tuple[LiveRequest, int, Event]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def __bool__(self) -> bool:
        """Whether anything is ever loaded here."""
        return bool(self._sources)

    def requests(self) -> list[LiveRequest]:
        """Those that wait for a load."""
        return [request for request, _, _ in self._under_way.values()]

    def begin(self, request: LiveRequest, now: float) -> bool:
        """A request has been given memory: whether it has to wait. Raises ConfigError for what is no load."""
        asked = [loading for source in self._sources if (loading := _asked(source, request, now)) is not None]
        request.loaded = not asked
        if not asked:
            return False
        seconds, tokens = max(loading.seconds for loading in asked), max(loading.tokens for loading in asked)
        request.state = State.LOADING
        event = self._instance.clock.at(now + seconds, lambda event: self._end(request, event), LOAD_ENDS)
        self._under_way[request.row] = request, tokens, event
        return True

    def _end(self, request: LiveRequest, event: Event) -> None:
        """Everything is there: the request waits for its sequence slot, before all others."""
        entry = self._under_way.get(request.row)
        if entry is None or entry[2] is not event:
            return  # its instance has died, or it was cancelled
        self.withdraw(request.row)
        # As after a prefix hit, one token at least is left to compute.
        brought = min(entry[1], request.target_tokens - 1) - request.computed_tokens
        if brought > 0:
            request.computed_tokens += brought
            if request.scheduled_s < 0:
                request.cached_tokens += brought
            else:
                request.reread_tokens += brought
        request.loaded = True
        request.state = State.WAITING
        instance = self._instance
        instance.intake.waiting.give_back(request)
        instance.signals.waiting[instance.index] += 1
        instance.runner.poke()

    def withdraw(self, row: int) -> LiveRequest | None:
        """Takes out the request of a row; None when it does not load here."""
        entry = self._under_way.pop(row, None)
        return None if entry is None else entry[0]

    def clear(self) -> list[LiveRequest]:
        """Takes out all of them."""
        left = self.requests()
        self._under_way.clear()
        return left


def _asked(source: LoadSource, request: LiveRequest, now: float) -> Loading | None:
    """What a source answers. Raises ConfigError, with its name, for what is no load, PolicyError where it writes the request."""
    name = type(source).__name__
    try:
        said = source.load(request, now)
    except ReadOnlyError as problem:
        blame(f"load source '{name}'", problem)
    if said is None:
        return None
    if not isinstance(said, Loading):
        raise ConfigError(f"loads: '{name}' answers {clipped(repr(said))} for request {request.row}; a Loading or None is meant")
    seconds, tokens = said
    if not isinstance(seconds, Real) or not 0 <= seconds < inf:
        raise ConfigError(
            f"loads: request {request.row} waits for {clipped(str(seconds))} s ('{name}'); a load takes at least 0 s and ends"
        )
    if not isinstance(tokens, Integral) or tokens < 0:
        raise ConfigError(f"loads: '{name}' brings {clipped(repr(tokens))} tokens of request {request.row}; a whole number is meant")
    return Loading(float(seconds), int(tokens))
