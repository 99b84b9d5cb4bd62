"""A speculation object that says what cannot be is named, with what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from simserve.contracts import Course
from simserve.errors import ConfigError
from tests.engine.speculation.toys import Drafting
from tests.engine.strategies import Case, Row
from tests.reference.toy_cost import RoundCost


@dataclass(frozen=True)
class Broken(Drafting):
    """Right but for what is done to its courses, or for the number of drafts that it states."""

    spoils: Callable[[Course, int | None], Any] | None = None
    states: Any = None

    def drafts(self, decodes: int) -> int:
        return super().drafts(decodes) if self.states is None else self.states

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        course = super().course(row, generated_tokens, output_tokens, drafts, first)
        return course if self.spoils is None else self.spoils(course, first)


def _tokens(change: Callable[[Any], Any]) -> Callable[[Course, int | None], Course]:
    return lambda course, first: Course(change(course.tokens), course.drafted)


def _drafted(change: Callable[[Any], Any]) -> Callable[[Course, int | None], Course]:
    return lambda course, first: Course(course.tokens, change(course.drafted))


BROKEN: dict[str, tuple[Broken, str]] = {
    "too short": (Broken(3, right=0, spoils=lambda course, first: Course(course.tokens[:-1], course.drafted[:-1])), "8 tokens in 8 steps"),
    "too long": (Broken(3, spoils=_tokens(lambda tokens: tokens + 1)), "where 9 tokens are left"),
    "of two lengths": (Broken(3, right=0, spoils=_drafted(lambda drafted: drafted[:-1])), "in 9 steps, and drafts in 8"),
    "empty": (Broken(3, spoils=lambda course, first: Course(course.tokens[:0], course.drafted[:0])), "0 tokens in 0 steps"),
    "a step without a token": (
        Broken(3, right=0, spoils=_tokens(lambda tokens: np.where(np.arange(len(tokens)) == 2, 0, tokens))),
        "each step must have at least one",
    ),
    "more accepted than drafted": (
        Broken(3, right=3, spoils=_drafted(lambda drafted: drafted - 1)),
        "a step of 4 tokens for which 2 are drafted; they can be one more",
    ),
    "fewer drafted than none": (Broken(3, right=0, spoils=_drafted(lambda drafted: drafted - 4)), "for which -1 are drafted"),
    "more drafted than it says at most": (
        Broken(3, right=0, spoils=_drafted(lambda drafted: drafted + 2)), "drafts 5 tokens in a step, where `most_drafted` says 3",
    ),
    "beyond the budget": (
        Broken(3, right=0, spoils=lambda course, first: Course(course.tokens, np.full(len(course.tokens), 3))),
        "drafts 3 tokens in a step that has room for 1",
    ),
    "no arrays": (Broken(3, spoils=lambda course, first: Course(list(course.tokens), list(course.drafted))), "not two arrays of whole"),  # type: ignore[arg-type]
    "fractions": (Broken(3, spoils=_tokens(lambda tokens: tokens * 1.0)), "not two arrays of whole numbers"),
    "a negative number of drafts": (Broken(3, states=-1), "-1 drafted tokens"),
    "half a draft": (Broken(3, states=1.5), "1.5 drafted tokens"),
    "a number in words": (Broken(3, states="three"), "'three' drafted tokens"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_speculation_that_cannot_be_is_named(what: str) -> None:
    broken, said = BROKEN[what]
    rows = (Row(0, 4, 10), Row(0, 4, 10))
    case = Case(rows, "sarathi", (("token_budget", 6),), RoundCost(), kv_blocks=100, block_tokens=4, max_seqs=8, speculation=broken)
    if what != "beyond the budget":
        case = replace(case, params=())
    for fast_forward in (True, False):
        with pytest.raises(ConfigError) as problem:
            case.engine(fast_forward=fast_forward)
        assert said in str(problem.value) and "'Broken'" in str(problem.value)
        assert str(problem.value).startswith("speculation: ")
    replace(case, speculation=Drafting(3)).engine()  # without what is broken, it runs
