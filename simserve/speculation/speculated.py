"""`Speculated`: how the requests of an instance speculate (the engine's `Speculation`), drawn from acceptance rates."""

from __future__ import annotations

import numpy as np

from simserve.contracts.cost import I64
from simserve.contracts.speculation import KEPT, Course
from simserve.speculation.acceptance import RatesOfRows, extended
from simserve.speculation.draws import draw, draws, key, threshold
from simserve.speculation.schedule import Schedule

_ACCEPTED, _HIT = 0, 1
"""Streams of draws: whether the draft of a token is accepted; whether there is a draft in a step that begins with it."""

MOST_DRAFTED = 128
"""Tokens in a row: published drafts have 1 to some 30 (a longer one is hardly ever right to its end). What a step emits fits in a byte."""

_MOST_COURSES = 4096
"""Requests whose steps are remembered: more than decode at once on an instance."""


class Speculated:
    """Drafts of `schedule.tokens` tokens in a row, each accepted with the probability of its place.

    A step that begins after g tokens of the output drafts the tokens g, g + 1, .. (counted from 0) and examines them in that order. The
    draft of token g + j is accepted when its draw, which belongs to (seed, row, g + j), is below the probability of place j; the first
    that is not ends the step, and the token that the model gives instead is emitted (or, when all were accepted, the bonus token). So each
    draw is looked at once, whatever the steps, and a step's tokens depend on the request and on where it begins alone.

    schedule     tokens in a row, by batch size; of a tree, its depth
    rates        probabilities by row; of a tree, that some branch of that depth is right
    seed         of the draws
    nodes        tokens computed beside the ordinary one when `schedule.tokens` are drafted in a row (a tree has more than its depth);
                 None = a chain, as many as are drafted
    draft_passes whether each token in a row takes a forward pass of the draft (an n-gram takes none)
    hit          probability that a step has a draft at all (an n-gram that occurred before), drawn per (row, first token of the step)
    rejected_kv  as `Speculation` says
    """

    def __init__(
        self,
        schedule: Schedule,
        rates: RatesOfRows,
        seed: int,
        *,
        nodes: int | None = None,
        draft_passes: bool = True,
        hit: float = 1.0,
        rejected_kv: str = KEPT,
    ) -> None:
        self.schedule = schedule
        self.rates = rates
        self.seed = seed
        self.nodes = schedule.tokens if nodes is None else nodes
        self.draft_passes = draft_passes
        self.hit = hit
        self.rejected_kv = rejected_kv
        self._hit = threshold(hit)
        self._courses: dict[tuple[int, int], tuple[int, int, bytes, bytes]] = {}

    def drafts(self, decodes: int) -> int:
        """As the schedule says."""
        return self.schedule.drafts(decodes)

    def passes(self, drafts: int) -> int:
        """One for each token in a row; none where nothing computes the draft."""
        return drafts if self.draft_passes else 0

    def most_drafted(self, drafts: int) -> int:
        """The tokens of a chain; all nodes of a tree but its root."""
        return self._nodes(drafts) if drafts else 0

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        """Of a step that begins after so many tokens and computes `drafted` more: how many of these are right."""
        if self.hit < 1 and draw(key(self.seed, row, _HIT), generated_tokens) >= self._hit:
            return 0
        of = key(self.seed, row, _ACCEPTED)
        for place, rate in enumerate(extended(self.rates.of(row), self._in_a_row(drafted))):
            if draw(of, generated_tokens + place) >= threshold(rate):
                return place
        return self._in_a_row(drafted)

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        """The rest of a request as steps; see `Speculation`. Each step drafts as many tokens as it may, those beyond the end of the output
        too: engines do not know where it ends."""
        left = output_tokens - generated_tokens
        if drafts == 0 or left <= 0:
            return Course(np.ones(max(left, 0), dtype=np.int64), np.zeros(max(left, 0), dtype=np.int64))
        begun, after, hits = self._steps(row, generated_tokens, output_tokens, drafts)
        place, tokens, starts = generated_tokens - begun, list[int](), list[int]()
        end = output_tokens - begun
        nodes = self._nodes(drafts)
        if first is not None and first < nodes:
            tokens.append(self.accepted(row, generated_tokens, first) + 1)
            starts.append(place)
            place += tokens[0]
        while place < end:
            step = after[place]
            tokens.append(step)
            starts.append(place)
            place += step
        tokens[-1] -= place - end
        computed = np.full(len(tokens), nodes, dtype=np.int64)
        if hits:
            computed[[not hits[start] for start in starts]] = 0
        if first is not None and first < computed[0]:
            computed[0] = first
        return Course(np.array(tokens, dtype=np.int64), computed)

    def _nodes(self, drafts: int) -> int:
        """Tokens computed beside the ordinary one with so many in a row."""
        return self.nodes if drafts == self.schedule.tokens else drafts

    def _in_a_row(self, drafted: int) -> int:
        """How many of so many computed tokens follow each other: a tree is no deeper than the schedule says, a chain as long as it is."""
        return drafted if self.nodes == self.schedule.tokens else min(drafted, self.schedule.tokens)

    def _steps(self, row: int, generated: int, output: int, drafts: int) -> tuple[int, bytes, bytes]:
        """From which token on they are known; the tokens that a step emits which begins there, one later ..; whether it has a draft (empty
        where all have)."""
        known = self._courses.get((row, drafts))
        if known is not None and known[0] <= generated and known[1] == output:
            return known[0], known[2], known[3]
        count = output - generated
        draws_of_tokens = draws(key(self.seed, row, _ACCEPTED), generated, count)
        places = extended(self.rates.of(row), drafts)
        accepted = _leading(draws_of_tokens, [threshold(rate) for rate in places])
        hits = b""
        if self.hit < 1:
            has_draft = draws(key(self.seed, row, _HIT), generated, count) < self._hit
            accepted *= has_draft
            hits = has_draft.tobytes()
        accepted += 1
        found = (generated, output, accepted.astype(np.uint8).tobytes(), hits)
        if len(self._courses) >= _MOST_COURSES:
            self._courses.pop(next(iter(self._courses)))
        self._courses[row, drafts] = found
        return found[0], found[2], found[3]


def _leading(drawn: I64, thresholds: list[int]) -> I64:
    """From each place on: how many draws in a row are below the thresholds, until the first that is not; those past the end are not."""
    count = len(drawn)
    found = np.zeros(count, dtype=np.int64)
    alive = np.ones(count, dtype=np.bool_)
    for place, limit in enumerate(thresholds[:count]):
        alive[: count - place] &= drawn[place:] < limit
        alive[count - place :] = False
        found += alive
    return found
