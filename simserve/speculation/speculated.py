"""`Speculated`: how the requests of an instance speculate (the engine's `Speculation`), drawn from acceptance rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts.cost import I64
from simserve.contracts.speculation import KEPT, Course
from simserve.speculation.acceptance import RatesOfRows, extended
from simserve.speculation.draws import draw, draws, draws_of_rows, key, threshold
from simserve.speculation.schedule import Schedule
from simserve.speculation.walks import Block, block_of

_ACCEPTED, _HIT = 0, 1
"""Streams of draws: whether the draft of a token is accepted; whether there is a draft in a step that begins with it."""

MOST_DRAFTED = 128
"""Tokens in a row: published drafts have 1 to some 30 (a longer one is hardly ever right to its end). What a step emits fits in a byte."""

_MOST_COURSES, _MOST_TOKENS = 8192, 1 << 21
"""Requests whose steps are remembered, and tokens of their outputs: more than decode at once on an instance."""

_ROWS_AT_ONCE, _TOKENS_AT_ONCE = 64, 1 << 16
"""Requests whose steps are worked out together, as those come near each other that stand near each other."""


class _Steps(NamedTuple):
    """What is known of a request.

    begun    from which token on
    output   tokens of the output that it was asked for with
    emitted  what a step emits which begins there, one token later ..
    hits     whether it has a draft; empty where all have
    block    where it was worked out with others, and its number there
    """

    begun: int
    output: int
    emitted: bytes
    hits: bytes
    block: Block | None = None
    number: int = 0


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
    outputs      tokens of each row's output, where known: then the steps of rows that follow each other are worked out together
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
        outputs: I64 | None = None,
    ) -> None:
        self.schedule = schedule
        self.rates = rates
        self.seed = seed
        self.nodes = schedule.tokens if nodes is None else nodes
        self.draft_passes = draft_passes
        self.hit = hit
        self.rejected_kv = rejected_kv
        self.outputs = np.zeros(0, dtype=np.int64) if outputs is None else outputs
        self._hit = threshold(hit)
        self._courses: dict[tuple[int, int], _Steps] = {}
        self._tokens = 0
        """Tokens of the outputs of those that are remembered."""

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
        begun, _, after, hits, block, number = self._steps(row, generated_tokens, output_tokens, drafts)
        if first is None and block is not None and (course := block.course(number, generated_tokens)) is not None:
            return course
        place, tokens, starts = generated_tokens - begun, list[int](), list[int]()
        end = output_tokens - begun
        nodes = self._nodes(drafts)
        if first is not None and first < nodes:
            starts.append(place)
            tokens.append(self.accepted(row, generated_tokens, first) + 1)
            place += tokens[0]
        while place < end:
            starts.append(place)
            place += after[place]
        tokens += [after[start] for start in starts[len(tokens) :]]
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

    def _steps(self, row: int, generated: int, output: int, drafts: int) -> _Steps:
        """What is known of a request's steps, from some token on that is not after the one asked for."""
        known = self._courses.get((row, drafts))
        if known is not None and known.begun <= generated and known.output == output:
            return known
        if row < len(self.outputs) and self.outputs[row] == output:
            self._work_out(row, drafts)
            return self._courses[row, drafts]
        count = output - generated
        draws_of_tokens = draws(key(self.seed, row, _ACCEPTED), generated, count)
        places = extended(self.rates.of(row), drafts)
        emitted = _leading(draws_of_tokens, [threshold(rate) for rate in places])
        hits = b""
        if self.hit < 1:
            has_draft = draws(key(self.seed, row, _HIT), generated, count) < self._hit
            emitted *= has_draft
            hits = has_draft.tobytes()
        emitted += 1
        found = _Steps(generated, output, emitted.tobytes(), hits)
        self._keep(row, drafts, found)
        return found

    def _work_out(self, first: int, drafts: int) -> None:
        """The steps of a row and of those after it, from token 0 on; and those of them that follow the token of the prompt."""
        counts = np.maximum(self.outputs[first : first + _ROWS_AT_ONCE], 1)  # of a row without output nothing is asked
        ends = np.cumsum(counts)
        rows = max(1, int(np.searchsorted(ends, _TOKENS_AT_ONCE, side="right")))
        counts, ends = counts[:rows], ends[:rows]
        kinds = [self.rates.of(row) for row in range(first, first + rows)]
        drawn = draws_of_rows(self.seed, first, counts, _ACCEPTED)
        always: NDArray[np.bool_]
        if kinds.count(kinds[0]) == rows:
            thresholds = [threshold(rate) for rate in extended(kinds[0], drafts)]
            emitted, always = _leading(drawn, thresholds), drawn >= max(thresholds)
        else:
            limits = np.array([[threshold(rate) for rate in extended(rates, drafts)] for rates in kinds], dtype=np.int64)
            emitted = _leading(drawn, [np.repeat(limits[:, place], counts) for place in range(drafts)])
            always = drawn >= np.repeat(limits.max(axis=1), counts)
        hits, has_draft = b"", None
        if self.hit < 1:
            has_draft = draws_of_rows(self.seed, first, counts, _HIT) < self._hit
            emitted *= has_draft
            hits = has_draft.tobytes()
        emitted += 1
        block = block_of(emitted, always, has_draft, counts, drafts, self._nodes(drafts))
        steps, begin = emitted.tobytes(), 0
        for number, (output, end) in enumerate(zip(counts.tolist(), ends.tolist(), strict=True)):
            self._keep(first + number, drafts, _Steps(0, output, steps[begin:end], hits[begin:end], block, number))
            begin = end

    def _keep(self, row: int, drafts: int, found: _Steps) -> None:
        courses = self._courses
        if (replaced := courses.get((row, drafts))) is not None:
            self._tokens -= replaced.output
        courses[row, drafts] = found
        self._tokens += found.output
        while len(courses) > _MOST_COURSES or (self._tokens > _MOST_TOKENS and len(courses) > _ROWS_AT_ONCE):
            self._tokens -= courses.pop(next(iter(courses))).output


def _leading(drawn: I64, thresholds: Sequence[int | I64]) -> NDArray[np.uint8]:
    """From each place on: how many draws in a row are below the thresholds, until the first that is not; those past the end are not.

    thresholds  of each place of the draft, or of each draft that begins at a place
    """
    count = len(drawn)
    found = np.zeros(count, dtype=np.uint8)
    alive = np.ones(count, dtype=np.bool_)
    below, of = alive, -1
    for place, limit in enumerate(thresholds[:count]):
        if not isinstance(limit, int):
            alive[: count - place] &= drawn[place:] < limit[: count - place]
        else:
            if limit != of:
                below, of = drawn < limit, limit
            alive[: count - place] &= below[place:]
        alive[count - place :] = False
        found += alive
    return found
