"""Numbers that policies state in plans: whole ones, of whatever type."""

from __future__ import annotations

from operator import index
from typing import Any

from simserve.contracts import Request
from simserve.engine.planned import Planned
from simserve.files.words import clipped


def whole(plan: Planned, tokens: Any, request: Request) -> int:
    """A number of tokens of another type, such as NumPy's, as an int; half a token is refused, and so is 8.0: what it came from may not be
    whole the next time."""
    return integer(plan, tokens, f"states {clipped(repr(tokens))} tokens of {request!r}")


def integer(plan: Planned, number: Any, says: str) -> int:
    """The number as an int; where it is none, the plan is refused for what it `says`."""
    try:
        return index(number)
    except TypeError:
        plan.refuse(f"{says}, which is no whole number")
