"""Views that policies read and the engine alone writes."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from simserve.errors import PolicyError


class ReadOnlyError(AttributeError):
    """Something read-only has been written. Where the engine asks policies it becomes a PolicyError with the policy's name."""


class ReadOnly:
    """Attributes are read at full speed; to assign one raises ReadOnlyError. The engine uses `write`.

    called  what policies know it as
    """

    __slots__ = ()
    called: ClassVar[str] = "view"

    def __setattr__(self, name: str, value: Any) -> None:
        raise ReadOnlyError(f"sets {self.called}.{name}")

    def __delattr__(self, name: str) -> None:
        raise ReadOnlyError(f"deletes {self.called}.{name}")


write = object.__setattr__
"""`write(view, "now", 1.0)`: how the engine changes a view."""


def blame(policy: str, problem: ReadOnlyError) -> NoReturn:
    """Raises the PolicyError of a policy that has written what it may only read."""
    raise PolicyError(f"{policy} {problem}, which is the engine's: to change anything, tell the plan (invariant I10)") from problem
