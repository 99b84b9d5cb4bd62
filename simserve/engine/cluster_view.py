"""What routers and controllers see of the instances: a few signals each, in columns indexed by instance number."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.contracts.cluster import Load, Score
from simserve.engine.ranking import LoadOf, Ranking
from simserve.engine.readonly import ReadOnly, write
from simserve.engine.signals import Signals


class ClusterView(ReadOnly):
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
        "_ranked",
        "_signals",
        "_stale",
        "names",
        "open",
        "outstanding",
        "prompt_tokens",
        "roles",
        "waiting",
    )

    names: Sequence[str]
    roles: Sequence[str]
    open: tuple[int, ...]
    outstanding: list[int]
    waiting: list[int]
    prompt_tokens: list[int]
    _signals: Signals
    _load: LoadOf
    _stale: bool
    _loads: dict[int, Load]
    _ranked: dict[tuple[Score, str], Ranking]

    def __init__(self, names: tuple[str, ...], roles: tuple[str, ...], signals: Signals, load: LoadOf, stale: bool) -> None:
        write(self, "names", names)
        write(self, "roles", roles)
        write(self, "_signals", signals)
        write(self, "_load", load)
        write(self, "_stale", stale)
        write(self, "_loads", {})
        write(self, "_ranked", {})
        self.set_open([])
        self._show(signals.outstanding, signals.waiting, signals.prompt_tokens)
        if stale:
            self.refresh()

    @property
    def now(self) -> float:
        """Seconds of simulated time."""
        return self._signals.now

    @property
    def source(self) -> int:
        """When a prefilled request is routed: the instance that prefilled it, else -1."""
        return self._signals.source

    def least(self, column: list[int]) -> int:
        """The open instance with the smallest number in a column (`outstanding`, `waiting`, `prompt_tokens`); ties: the first."""
        if len(self.open) == len(column):
            return column.index(min(column))
        return min(self.open, key=column.__getitem__)

    def load(self, instance: int) -> Load:
        """Memory and requests of an instance. Costs a microsecond an instance, which the counters do not."""
        if not self._stale:
            return self._load(instance, True)
        found = self._loads.get(instance)
        if found is None:
            found = self._loads[instance] = self._load(instance, True)
        return found

    def best(self, score: Score, role: str = "") -> tuple[int, float]:
        """The open instance whose load scores highest (ties: fewest outstanding, then the first) and its score; with `role`, of those of
        that role; (-1, -inf) when there is none. A few microseconds whatever the number of instances. The score must not rise when free
        blocks get fewer, nor with waiting requests."""
        ranking = self._ranked.get((score, role))
        if ranking is None:
            members = [number for number in self.open if not role or self.roles[number] == role]
            load = self._seen if self._stale else self._load
            ranking = self._ranked[score, role] = Ranking(members, score, load, self.outstanding)
            if not self._stale:
                self._signals.rankings.append(ranking)
        return ranking.best()

    def _seen(self, instance: int, exact: bool) -> Load:
        return self.load(instance)

    def _show(self, outstanding: list[int], waiting: list[int], prompt_tokens: list[int]) -> None:
        write(self, "outstanding", outstanding)
        write(self, "waiting", waiting)
        write(self, "prompt_tokens", prompt_tokens)

    def set_roles(self, roles: tuple[str, ...]) -> None:
        """An instance may have another role from now on."""
        if roles != self.roles:
            write(self, "roles", roles)

    def set_open(self, numbers: list[int]) -> None:
        """Other instances take requests from now on."""
        write(self, "open", tuple(numbers))
        self._forget_rankings()

    def _forget_rankings(self) -> None:
        for ranking in self._ranked.values():
            if not self._stale:
                self._signals.rankings.remove(ranking)
        self._ranked.clear()

    def refresh(self) -> None:
        """Stale signals become those of this moment."""
        signals = self._signals
        self._show(list(signals.outstanding), list(signals.waiting), list(signals.prompt_tokens))
        write(self, "_loads", {number: self._load(number, True) for number in self.open} if self._loads else {})
        self._forget_rankings()
