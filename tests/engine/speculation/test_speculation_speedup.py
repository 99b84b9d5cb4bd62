"""Speed-up at batch 1 with independent acceptance, against the closed form of the papers on speculative decoding (Leviathan et al.,
arXiv 2211.17192, equation 1 and theorem 3.8; Chen et al., arXiv 2302.01318): E[tokens of a step] = (1 - p^(k + 1)) / (1 - p), and the
speed-up is that times T_decode / (T_draft + T_verify)."""

from __future__ import annotations

import math

import pytest

from simserve.contracts import Speculation
from simserve.speculation import Same, Schedule, Speculated
from tests.engine.strategies import Case, Row
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import RoundCost

TOKENS = 20_000
DECODE_S, DRAFTED_S, PASS_S = 1 / 4, 1 / 16, 1 / 64  # of RoundCost, and of Verifying around it


def independent(k: int, p: float) -> Speculated:
    """A chain of `k`, each draft right with probability `p`."""
    return Speculated(Schedule(k), Same((p,) * k), seed=11)


def tokens_of_a_step(k: int, p: float) -> tuple[float, float]:
    """Mean and standard deviation of 1 + the leading successes of k trials."""
    chances = [(1 - p) * p**a for a in range(k)] + [p**k]
    mean = (1 - p ** (k + 1)) / (1 - p)
    assert math.isclose(mean, sum((1 + a) * chance for a, chance in enumerate(chances)))
    return mean, math.sqrt(sum((1 + a - mean) ** 2 * chance for a, chance in enumerate(chances)))


def seconds(speculation: Speculation | None) -> tuple[float, int]:
    """Of the decode steps of one long request, and their number."""
    rows = (Row(0, 4, TOKENS),)
    case = Case(rows, "vllm-v1", (), RoundCost(), kv_blocks=2000, block_tokens=16, max_seqs=1, speculation=speculation)
    (times,) = token_times(case.engine())
    assert len(times) == TOKENS
    return times[-1] - times[0], len(set(times)) - 1


@pytest.mark.parametrize(("k", "p"), [(1, 0.6), (3, 0.8), (5, 0.3), (7, 0.9)])
def test_the_speedup_is_the_papers_formula_within_three_standard_errors(k: int, p: float) -> None:
    mean, deviation = tokens_of_a_step(k, p)
    took_s, steps = seconds(independent(k, p))
    plain_s, plain_steps = seconds(None)
    assert plain_steps == TOKENS - 1 and plain_s == DECODE_S * plain_steps
    measured = (TOKENS - 1) / steps
    error = deviation / math.sqrt(steps)
    assert 3 * error < 0.05 * mean  # the test can tell
    assert abs(measured - mean) <= 3 * error
    relative = DECODE_S / (k * PASS_S + DECODE_S + k * DRAFTED_S)
    assert abs(plain_s / took_s - mean * relative) <= 3 * error * relative


@pytest.mark.parametrize("k", [1, 4])
def test_at_the_ends_the_formula_is_exact(k: int) -> None:
    """Nothing right: one token a step. All right: k + 1."""
    for p, tokens in ((0.0, 1), (1.0, k + 1)):
        took_s, steps = seconds(independent(k, p))
        assert steps == math.ceil((TOKENS - 1) / tokens)
        assert took_s == steps * (DECODE_S + k * (DRAFTED_S + PASS_S))
