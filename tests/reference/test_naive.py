"""The naive simulator against schedules worked out by hand: it is the judge elsewhere, so here it is judged."""

from __future__ import annotations

from tests.engine.strategies import Case, Row
from tests.reference.naive import StepTaken
from tests.reference.toy_cost import RoundCost

# Steps take 1/4 s plus 1/4 s for every 8 tokens.


def test_sarathi_by_hand() -> None:
    """Budget 8: a prompt of 12 takes the first step alone, shares the second with the first 4 of the next prompt, then decodes."""
    rows = (Row(0, 12, 3), Row(0, 6, 2))
    naive = Case(rows, "sarathi", (("token_budget", 8),), RoundCost(), kv_blocks=100, block_tokens=4, max_seqs=4).naive()
    assert naive.steps == [
        StepTaken(0.0, 0.5, decodes=0, context_tokens=0, prefills=1, prefill_tokens=8, prefill_pairs=36, waiting=1, kv_blocks=3),
        StepTaken(0.5, 1.0, decodes=0, context_tokens=0, prefills=2, prefill_tokens=8, prefill_pairs=42 + 10, waiting=0, kv_blocks=5),
        StepTaken(1.0, 1.25, decodes=1, context_tokens=13, prefills=1, prefill_tokens=2, prefill_pairs=11, waiting=0, kv_blocks=6),
        StepTaken(1.25, 1.5, decodes=2, context_tokens=14 + 7, prefills=0, prefill_tokens=0, prefill_pairs=0, waiting=0, kv_blocks=6),
    ]
    assert [r.token_s for r in naive.reqs] == [[1.0, 1.25, 1.5], [1.25, 1.5]]


def test_recompute_by_hand() -> None:
    """Six blocks of one token: at the third token the younger of two requests loses its 3 tokens, waits a step, computes 4 at once."""
    naive = Case((Row(0, 2, 3), Row(0, 2, 3)), "vllm-v1", (), RoundCost(), kv_blocks=6, block_tokens=1, max_seqs=4).naive()
    assert [r.token_s for r in naive.reqs] == [[0.25, 0.5, 0.75], [0.25, 0.5, 1.0]]
    assert [(r.preemptions, r.recomputed) for r in naive.reqs] == [(0, 0), (1, 3)]
    assert [s.kv_blocks for s in naive.steps] == [4, 6, 4, 4]


def test_swap_by_hand() -> None:
    """The same with room on the host: nothing is computed twice; the copies of 3 tokens out and in cost nothing below 8 tokens."""
    rows = (Row(0, 2, 3), Row(0, 2, 3))
    naive = Case(rows, "vllm-v1", (), RoundCost(), 6, 1, max_seqs=4, preemption="swap", host_kv_blocks=3).naive()
    assert [r.token_s for r in naive.reqs] == [[0.25, 0.5, 0.75], [0.25, 0.5, 1.0]]
    assert [(r.preemptions, r.recomputed) for r in naive.reqs] == [(0, 0), (1, 0)]
    assert [(s.decodes, s.prefill_tokens) for s in naive.steps] == [(0, 4), (2, 0), (1, 0), (1, 0)]


def test_refusals_and_truncation_by_hand() -> None:
    """A cache of 8 tokens: a prompt of 8 has no room for a token, a prompt of 6 may generate 2 of its 5; 0 tokens asked is a failure."""
    rows = (Row(0, 8, 1), Row(0, 6, 5), Row(0, 3, 0))
    naive = Case(rows, "orca", (), RoundCost(), kv_blocks=4, block_tokens=2, max_seqs=4).naive()
    assert [(r.status, r.reason, r.generated, r.finish_s) for r in naive.reqs] == [
        ("REJECTED", "prompt exceeds the KV cache", 0, 0.0),
        ("COMPLETED", "stopped at the context limit", 2, 0.5),
        ("FAILED", "failed in the trace", 0, 0.0),
    ]
