"""What was in a step, rebuilt from the totals that steps.parquet keeps.

Exact for steps of one prompt chunk. With several chunks their tokens are split evenly and share one context length, so that chunks,
tokens and (query, key) pairs agree with the step (pairs to within rounding). Context lengths of decoding requests are drawn from a
lognormal distribution and scaled to their exact total: the file does not say how they spread.
"""

from __future__ import annotations

import numpy as np

Chunk = tuple[int, int]
"""New tokens and the cached tokens before them."""


def chunks_of(requests: int, tokens: int, pairs: int) -> tuple[Chunk, ...]:
    """`requests` chunks of `tokens` new tokens in all that have `pairs` = sum of new * context + new (new + 1) / 2 (query, key) pairs."""
    if requests < 1 or tokens < requests:
        return ()
    each, left = divmod(tokens, requests)
    new = [each + (i < left) for i in range(requests)]
    inside = sum(n * (n + 1) // 2 for n in new)
    context = max(0, round((pairs - inside) / tokens))
    return tuple((n, context) for n in new)


def pairs_of(chunks: tuple[Chunk, ...]) -> int:
    """(query, key) pairs of chunks."""
    return sum(new * context + new * (new + 1) // 2 for new, context in chunks)


def contexts_of(requests: int, total_tokens: int, spread: float, generator: np.random.Generator) -> tuple[int, ...]:
    """`requests` context lengths of at least 1 that add up to `total_tokens`. spread: their coefficient of variation before rounding."""
    if requests < 1:
        return ()
    if total_tokens <= requests:
        return (1,) * requests
    sigma = float(np.sqrt(np.log1p(spread * spread)))
    weights = generator.lognormal(0.0, sigma, requests) if spread > 0 else np.ones(requests)
    lengths = 1 + np.floor(weights / weights.sum() * (total_tokens - requests)).astype(np.int64)
    order = np.argsort(-weights, kind="stable")
    lengths[order[: total_tokens - int(lengths.sum())]] += 1
    return tuple(int(n) for n in lengths)
