"""Speculative decoding as the engine sees it: how much is drafted, and how much of it the model accepts."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simserve.contracts.cost import I64, Acceptance

KEPT = "kept"
FREED = "freed"


class Course(NamedTuple):
    """The steps in which a request decodes from some token on, as long as the same number of tokens is drafted.

    tokens   emitted by each step: one and the accepted drafts, at least 1; their sum is what is left of the output
    drafted  tokens that each step computes beside the one that decoding alone would: those of a chain, or all nodes of a tree but its root
             (0 where nothing was drafted, such as an n-gram that has not occurred). Same length
    before   tokens of the output before each step, and after the last (one more element). A course that states them is taken as right: it
             was worked out with others, and checked then. None = the engine adds up, and checks
    sums     with `before`: what each step is in a sequence of the output alone, the prompt left out: drafted tokens, accepted ones, tokens
             attended by the last query and (query, key) pairs, (4, steps)
    width    with `sums`: tokens that every step computes, 0 = they differ
    """

    tokens: I64
    drafted: I64
    before: I64 | None = None
    sums: I64 | None = None
    width: int = 0


class Speculation(Acceptance, Protocol):
    """How the requests of an instance speculate. Known to the engine, not to policies; the same answers for equal arguments, so that what a
    request gets does not depend on scheduling.

    rejected_kv  what becomes of the KV of rejected tokens: "kept" leaves their blocks to the request, which writes over them in its next
                 step; "freed" gives blocks without a valid token back after every step
    """

    rejected_kv: str

    def drafts(self, decodes: int) -> int:
        """Tokens drafted in a row for each request of a batch of so many decoding ones; 0 = the batch does not speculate."""
        ...

    def passes(self, drafts: int) -> int:
        """Forward passes of the draft in a step with so many drafts in a row."""
        ...

    def most_drafted(self, drafts: int) -> int:
        """Most drafted tokens that a step computes for one request, with so many drafts in a row."""
        ...

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        """The request in `row` of the request table, of whose `output_tokens` so many have been generated, to its end. `first`: at most
        so many drafted tokens are computed in the first of the steps (the token budget is used up)."""
        ...
