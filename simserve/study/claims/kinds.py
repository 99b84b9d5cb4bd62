"""What kind of statement each claim is, so that kinds that prove different things are counted apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["predicted", "fitted", "unpublished", "fits", "identity"]

WORDS: dict[Kind, str] = {
    "predicted": "published numbers, nothing fitted or back-solved",
    "fitted": "published numbers from which an input was fitted or back-solved",
    "unpublished": "claims with no published value (orders, bounds, predictions of ours)",
    "fits": "flags of what fits in memory",
    "identity": "identities (follow from their inputs by arithmetic)",
}
"""Each kind in words, in the order in which they are told."""


class Judged(Protocol):
    """What is counted: a claim with its kind and its verdict."""

    @property
    def kind(self) -> Kind: ...

    @property
    def reproduced(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Count:
    """How many claims of some kinds are within their bands; `short` for a heading, `words` for a sentence."""

    short: str
    words: str
    inside: int
    total: int


def kind_of(*, published: bool, basis: str, flag: bool) -> Kind:
    """The kind of a claim: with a published value or not, its basis (`ClaimSection.basis`), of a probe that answers yes or no or not."""
    if basis == "identity":
        return "identity"
    if flag:
        return "fits"
    if not published:
        return "unpublished"
    return "predicted" if basis == "independent" else "fitted"


def counts(outcomes: Iterable[Judged]) -> list[Count]:
    """The published numbers, of which those where nothing was fitted, then each other kind."""
    found = list(outcomes)

    def of(short: str, words: str, *kinds: Kind) -> Count:
        chosen = [outcome.reproduced for outcome in found if outcome.kind in kinds]
        return Count(short, words, sum(chosen), len(chosen))

    return [
        of("published", "published numbers", "predicted", "fitted"),
        of("nothing fitted", f"of these, {WORDS['predicted'].partition(', ')[2]}", "predicted"),
        of("no published value", WORDS["unpublished"], "unpublished"),
        of("flags", WORDS["fits"], "fits"),
        of("identities", WORDS["identity"], "identity"),
    ]


def cells(outcomes: Iterable[Judged]) -> list[str]:
    """The counts as cells of a table, empty where there is no such claim."""
    return [f"{count.inside} of {count.total}" if count.total else "" for count in counts(outcomes)]


def heading(outcomes: Iterable[Judged]) -> str:
    """The counts in one line, those of kinds that there are; published numbers of which none was fitted are named once."""
    found = [count for count in counts(outcomes) if count.total]
    if len(found) > 1 and found[0].total == found[1].total and found[0].short == "published":
        del found[1]
    return ", ".join(f"{count.short} {count.inside} of {count.total}" for count in found)


def lines(outcomes: Iterable[Judged]) -> list[str]:
    """The counts as sentences, for a terminal and for pages: kinds are never added up."""
    return [f"{count.words}: {count.inside} of {count.total} within their bands" for count in counts(outcomes) if count.total]


def mark(kind: Kind) -> str:
    """The word beside a verdict that says what it is worth; none where nothing was fitted, or nothing published."""
    return {"fitted": "fitted", "identity": "identity", "fits": "flag"}.get(kind, "")
