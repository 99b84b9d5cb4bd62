"""Speculative decoding worked out by hand: times, tokens, drafted tokens and blocks of single steps.

A step takes 1/4 s (1/4 more for every 8 tokens of prompts and first tokens of decodes), 1/16 s for each drafted token, 1/64 s for each pass
of the draft.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from simserve.contracts import FREED
from tests.engine.speculation.toys import Drafting
from tests.engine.strategies import Case, Row
from tests.engine.unrolled import StepRow, steps, token_times
from tests.reference.toy_cost import RoundCost

PLAIN_S = 0.25


class Served(NamedTuple):
    times: list[list[float]]
    steps: list[StepRow]

    @property
    def verified(self) -> list[tuple[int, int]]:
        """Drafted and accepted tokens of the steps with decodes."""
        return [step.verified[:2] for step in self.steps if step.decodes]


def case(speculation: Drafting, *rows: Row, policy: str = "vllm-v1", **shape: object) -> Case:
    given = {"kv_blocks": 100, "block_tokens": 4, "max_seqs": 8, **shape}
    return Case(rows, policy, (), RoundCost(), speculation=speculation, **given)  # type: ignore[arg-type]


def serve(what: Case) -> Served:
    """The run, which is the same with spans and without."""
    spanned, stepped = (what.engine(fast_forward=fast) for fast in (True, False))
    assert token_times(spanned) == token_times(stepped)
    assert steps(spanned.lanes[0]) == steps(stepped.lanes[0])
    return Served(token_times(stepped), steps(stepped.lanes[0]))


def test_all_of_a_chain_of_three_is_right() -> None:
    """One token of the prefill, then four a step: 1/4 + 3/16 + 3/64 s. The query of the token after 4 cached ones and those of the drafted
    ones attend 5, 6, 7 and 8 tokens."""
    times, log = serve(case(Drafting(3, right=3), Row(0, 4, 9)))
    step_s = PLAIN_S + 3 / 16 + 3 / 64
    assert times == [[0.25, *[0.25 + step_s] * 4, *[0.25 + 2 * step_s] * 4]]
    assert [(s.decodes, s.context_tokens, s.verified) for s in log] == [
        (0, 0, (0, 0, 0)), (1, 8, (3, 3, 5 + 6 + 7 + 8)), (1, 12, (3, 3, 9 + 10 + 11 + 12)),
    ]  # fmt: skip


def test_none_of_a_chain_of_three_is_right() -> None:
    """One token a step, each as dear as four."""
    times, log = serve(case(Drafting(3, right=0), Row(0, 4, 4)))
    step_s = PLAIN_S + 3 / 16 + 3 / 64
    assert times == [[0.25 + k * step_s for k in range(4)]]
    assert [s.context_tokens for s in log] == [0, 8, 9, 10]
    assert [s.verified for s in log[1:]] == [(3, 0, 5 + 6 + 7 + 8), (3, 0, 6 + 7 + 8 + 9), (3, 0, 7 + 8 + 9 + 10)]


def test_the_last_step_gives_no_more_than_is_left() -> None:
    """Of 7 tokens, the prefill gives one, the first step four, the second two, though all its drafts are right: it computes them all."""
    served = serve(case(Drafting(3, right=3), Row(0, 4, 7)))
    assert [served.times[0].count(t) for t in sorted(set(served.times[0]))] == [1, 4, 2]
    assert served.verified == [(3, 3), (3, 1)]


def test_the_budget_cuts_what_is_drafted_in_order_of_joining() -> None:
    """Eight tokens a step: both decode one, the first has room for the five it wants, the second for one, which gives it two tokens; alone
    it has room for five, of which it needs two."""
    tight = replace(case(Drafting(5, right=5), Row(0, 2, 6), Row(0, 2, 6), policy="sarathi"), params=(("token_budget", 8),))
    first_s, second_s = 0.25 + PLAIN_S + 6 / 16 + 5 / 64, PLAIN_S + 5 / 16 + 5 / 64
    served = serve(tight)
    assert served.times == [[0.25, *[first_s] * 5], [0.25, *[first_s] * 2, *[first_s + second_s] * 3]]
    assert served.verified == [(6, 5), (5, 2)]


def test_a_prompt_gets_what_drafts_leave_of_the_budget() -> None:
    """Eight tokens a step: one decode with three drafts leaves four for the prompt of nine, three times."""
    tight = replace(case(Drafting(3, right=0), Row(0, 2, 9), Row(0.25, 9, 1), policy="sarathi"), params=(("token_budget", 8),))
    assert [(s.decodes, s.verified[0], s.prefill_tokens) for s in serve(tight).steps[:5]] == [
        (0, 0, 2), (1, 3, 4), (1, 3, 4), (1, 3, 1), (1, 3, 0),
    ]  # fmt: skip


def test_whole_prompts_are_counted_beside_drafts() -> None:
    """Eight tokens a step, prompts that are not cut: beside one decode with three drafts there is room for a prompt of three, not for two
    tokens more."""
    rows = Row(0, 2, 9), Row(0.25, 3, 1), Row(0.25, 2, 1)
    whole = replace(case(Drafting(3, right=0), *rows, policy="sarathi"), params=(("token_budget", 8), ("chunked", False)))
    assert [(s.decodes, s.verified[0], s.prefill_tokens) for s in serve(whole).steps[:4]] == [(0, 0, 2), (1, 3, 3), (1, 3, 2), (1, 3, 0)]


def test_nothing_is_drafted_beyond_the_longest_sequence() -> None:
    """A sequence of 10 tokens at most. After a prompt of 4, eight drafts would reach the thirteenth: five are computed, then four, ..."""
    served = serve(case(Drafting(8, right=0), Row(0, 4, 6), max_model_len=10))
    assert served.verified == [(5, 0), (4, 0), (3, 0), (2, 0), (1, 0)]
    assert [s.context_tokens for s in served.steps[1:]] == [10] * 5
    assert serve(case(Drafting(8, right=8), Row(0, 4, 6), max_model_len=10)).verified == [(5, 4)]


def test_a_larger_batch_stops_drafting_in_the_middle_of_a_run() -> None:
    """Two decode together for one step, without drafts and in 1/4 s; before and after, the first drafts alone."""
    served = serve(case(Drafting(3, right=0, quiet_at=2), Row(0, 4, 5), Row(0.3, 4, 2)))
    step_s = PLAIN_S + 3 / 16 + 3 / 64
    first, second, third = 0.25 + step_s, 0.25 + 2 * step_s, 0.5 + 2 * step_s
    assert served.times == [[0.25, first, second, third, third + step_s], [second, third]]
    assert served.verified == [(3, 0), (3, 0), (0, 0), (3, 0)]


def test_all_nodes_of_a_tree_are_verified() -> None:
    """Two in a row and five beside them: seven tokens are computed, two passes of the draft, three tokens a step."""
    served = serve(case(Drafting(2, right=2, more=5), Row(0, 4, 4)))
    assert served.times == [[0.25, *[0.25 + PLAIN_S + 7 / 16 + 2 / 64] * 3]]
    assert [s.verified for s in served.steps[1:]] == [(7, 2, sum(range(5, 13)))]


def test_a_miss_of_the_drafter_computes_one_token() -> None:
    """After an even number of tokens nothing is found to draft; that was looked for all the same."""
    served = serve(case(Drafting(3, right=2, misses=2), Row(0, 4, 8)))
    step_s, miss_s = PLAIN_S + 3 / 16 + 3 / 64, PLAIN_S + 3 / 64
    ends = [0.25 + step_s, 0.25 + step_s + miss_s, 0.25 + 2 * step_s + miss_s]
    assert served.times == [[0.25, *[ends[0]] * 3, ends[1], *[ends[2]] * 3]]
    assert served.verified == [(3, 2), (0, 0), (3, 2)]


def test_blocks_of_rejected_tokens_are_kept_or_freed() -> None:
    """Blocks of four tokens, seven drafts, all wrong. A step after 4 cached tokens computes up to the twelfth: three blocks. After it five
    tokens are valid: two blocks, if what is rejected is freed. Then a prompt is computed in a step of its own, in one block more. (Both
    clients state their longest outputs: else each is expected to need most of the memory, and the prompt waits.)"""
    two = case(Drafting(7, right=0), Row(0, 4, 3, max_output=3), Row(0.3, 4, 1, max_output=1), policy="sglang")
    for speculation, beside_a_prompt in ((two.speculation, 3 + 1), (replace(two.speculation, rejected_kv=FREED), 2 + 1)):
        records = replace(two, speculation=speculation).engine(fast_forward=False)
        assert records.lanes[0].span_decode_requests.tolist() == [0, 1, 0, 1]
        assert records.lanes[0].span_kv_blocks.tolist() == [1, 3, beside_a_prompt, 4]


def test_what_was_reserved_is_not_freed() -> None:
    """Orca reserves six blocks for 6 + 18 tokens. They stay while 6, 10, 14, 18 and 22 tokens are valid; the last drafts reach the 26th."""
    records = case(Drafting(3, right=3, rejected_kv=FREED), Row(0, 6, 18, max_output=18), policy="orca").engine(fast_forward=False)
    assert records.lanes[0].span_kv_blocks.tolist() == [6, 6, 6, 6, 6, 7]


def test_memory_for_drafts_preempts() -> None:
    """Five blocks of four tokens. Both have 4 tokens cached and take two blocks for 4 + 1 + 3. The second step wants three each: the
    younger goes, waits until the other has ended, and computes its 9 tokens at once."""
    tight = case(Drafting(3, right=3), Row(0, 4, 10), Row(0, 4, 10), kv_blocks=5)
    records = tight.engine(fast_forward=False)
    assert records.requests.preemptions.tolist() == [0, 1]
    assert records.requests.recomputed_tokens.tolist() == [0, 8]
    assert [(s.decodes, s.verified[:2], s.prefill_tokens) for s in serve(tight).steps] == [
        (0, (0, 0), 8), (2, (6, 6), 0), (1, (3, 3), 0), (1, (3, 0), 0), (0, (0, 0), 9), (1, (3, 3), 0),
    ]  # fmt: skip
