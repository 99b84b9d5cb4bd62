"""Which contents a prefix cache keeps, who uses them, and which are forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

Name = TypeVar("Name")


class KeptContents(Generic[Name]):
    """Contents by name: those in use, pinned by at least one request, and the idle ones, least recently used first. Each takes as much
    memory as any other.

    users  requests that use a name
    idle   names that no request uses, in the order in which they are forgotten
    """

    __slots__ = ("idle", "users")

    def __init__(self) -> None:
        self.users: dict[Name, int] = {}
        self.idle: OrderedDict[Name, None] = OrderedDict()

    def __contains__(self, name: Name) -> bool:
        return name in self.users or name in self.idle

    def use(self, names: Sequence[Name]) -> None:
        """One more request uses these, all of them kept."""
        for name in names:
            self.idle.pop(name, None)
            self.users[name] = self.users.get(name, 0) + 1

    def unuse(self, names: Sequence[Name]) -> int:
        """A request uses these no more; those that no other uses become idle, the last first: an end is forgotten before its beginning.
        Returns how many these are."""
        before = len(self.idle)
        for name in reversed(names):
            users = self.users[name] - 1
            if users:
                self.users[name] = users
            else:
                del self.users[name]
                self.idle[name] = None
        return len(self.idle) - before

    def forget_beyond(self, room: int) -> list[Name]:
        """Forgets idle contents until at most `room` are left; those that are forgotten."""
        forgotten = []
        while len(self.idle) > room:
            forgotten.append(self.idle.popitem(last=False)[0])
        return forgotten

    def clear(self) -> None:
        """Forgets everything, users included."""
        self.users.clear()
        self.idle.clear()
