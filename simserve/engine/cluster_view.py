"""What routers and controllers see of the instances: a few signals each, in columns indexed by instance number."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Refusal(NamedTuple):
    """A router's answer that rejects a request."""

    reason: str


class Load(NamedTuple):
    """The memory and the requests of one instance at a moment.

    free_blocks, total_blocks  of its KV cache
    running      requests that hold KV here: prefilling, decoding, on the host, or landed and waiting for a seat
    waiting      requests in its queue
    head_blocks  blocks that the first of them needs, 0 when none waits
    """

    free_blocks: int
    total_blocks: int
    running: int
    waiting: int
    head_blocks: int


class Signals:
    """Counters that the instances keep up to date, by instance number.

    outstanding     requests that have been sent to the instance and have not ended there
    waiting         of them, those in its queue
    prompt_tokens   prompt tokens of the outstanding requests
    """

    __slots__ = ("outstanding", "prompt_tokens", "waiting")

    def __init__(self, instances: int) -> None:
        self.outstanding = [0] * instances
        self.waiting = [0] * instances
        self.prompt_tokens = [0] * instances


class ClusterView:
    """What a router sees.

    now     simulated seconds
    open    numbers of the instances that take requests now, rising; never empty when a router is asked
    names, roles   of all instances
    source  when a prefilled request is routed: the instance that prefilled it, else -1
    outstanding, waiting, prompt_tokens   as in Signals, for all instances; as old as the experiment's `refresh_s` allows
    """

    __slots__ = (
        "_load",
        "_loads",
        "_signals",
        "_stale",
        "names",
        "now",
        "open",
        "outstanding",
        "prompt_tokens",
        "roles",
        "source",
        "waiting",
    )

    def __init__(self, names: tuple[str, ...], roles: tuple[str, ...], signals: Signals, load: Callable[[int], Load], stale: bool) -> None:
        self.now = 0.0
        self.names = names
        self.roles = roles
        self.source = -1
        self.open: list[int] = []
        self._signals = signals
        self._load = load
        self._stale = stale
        self._loads: dict[int, Load] = {}
        self.outstanding, self.waiting, self.prompt_tokens = signals.outstanding, signals.waiting, signals.prompt_tokens
        if stale:
            self.refresh()

    def load(self, instance: int) -> Load:
        """Memory and requests of an instance. Costs a microsecond an instance, which the counters do not."""
        found = self._loads.get(instance) if self._stale else None
        if found is None:
            found = self._load(instance)
            if self._stale:
                self._loads[instance] = found
        return found

    def refresh(self) -> None:
        """Stale signals become those of this moment."""
        self.outstanding = list(self._signals.outstanding)
        self.waiting = list(self._signals.waiting)
        self.prompt_tokens = list(self._signals.prompt_tokens)
        self._loads = {number: self._load(number) for number in self.open} if self._loads else {}
