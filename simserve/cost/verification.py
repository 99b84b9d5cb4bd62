"""Verification of drafted tokens: several queries of each sequence over one reading of its keys and values.

A sequence that verifies computes the token that decoding alone would compute and its drafted ones. Everything but attention sees only
how many tokens there are in all. Attention reads the cache of each sequence once, as in a decode step, and multiplies it with every
query: it takes the time of the slower of the two, the decode kernel's over these contexts, or its (query, key) pairs at the pace at
which a busy device computes them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from simserve.contracts import VERIFY, Slice, Step
from simserve.contracts.cost import F64, I64
from simserve.cost.decode import Attending, index_seconds
from simserve.cost.kernels import KernelChoice
from simserve.hardware.operators.attention import attended_pairs
from simserve.model.operators import MLA, Attention, IndexerScores

_MANY = 32.0
"""Sequences of a batch that fills the device (as for chunks of prompts, `cost.prefill`)."""

_LATENT_ROWS = 128.0
"""Query rows of a sequence at which kernels of latent attention are bound by arithmetic: all heads of the models that have it."""

_LATENT_BATCH, _LATENT_TOKENS = 64.0, 8192.0
"""A batch over which such a kernel is timed for the pace of its arithmetic."""


class PairRate(NamedTuple):
    """Layers of a stage whose queries attend alike.

    most_tokens     keys that a query attends at most, 0 = all
    seconds         of one (query, key) pair in all of these layers
    """

    most_tokens: int
    seconds: float


class VerifyAttention:
    """Arithmetic of a stage's attention layers when sequences compute several tokens each."""

    def __init__(self, kernels: KernelChoice, layers: Iterable[tuple[Attending, int]], max_context_tokens: int, replicas: int = 1) -> None:
        self._kernels, self.layers, self._replicas = kernels, tuple(layers), replicas
        self._longest = float(max(max_context_tokens, 64))

    @functools.cached_property
    def rates(self) -> tuple[PairRate, ...]:
        """Worked out at the first step that verifies: most instances have none."""
        rates: dict[int, float] = {}
        for layer, count in self.layers:
            most = 0 if isinstance(layer, IndexerScores) else layer.topk_tokens if isinstance(layer, MLA) else layer.window_tokens
            rates[most] = rates.get(most, 0.0) + count * _pair_seconds(self._kernels, layer, self._longest) / self._replicas
        return tuple(PairRate(most, seconds) for most, seconds in sorted(rates.items()))

    def pace(self, sequences: int, drafted_tokens: int) -> Pace:
        """The arithmetic of a batch as a function of its contexts."""
        tokens = sequences + drafted_tokens
        every = sum([seconds for most, seconds in self.rates if not most])
        bounded = tuple((most, tokens * seconds) for most, seconds in self.rates if most)
        return Pace(sequences, tokens / sequences * every, 0.5 * drafted_tokens, bounded)


class Pace(NamedTuple):
    """Seconds of arithmetic: `per_token` (context tokens - `ahead`), and for each (most, seconds) of `bounded` seconds min(mean context,
    most). All sequences are taken to be as wide as the mean: width w over contexts of c in all makes w c - n w (w - 1) / 2 pairs."""

    sequences: int
    per_token: float
    ahead: float
    bounded: tuple[tuple[int, float], ...]

    def seconds(self, context_tokens: int) -> float:
        """Of sequences whose last queries attend so many tokens in all."""
        total = self.per_token * (context_tokens - self.ahead)
        for most, seconds in self.bounded:
            mean = context_tokens / self.sequences
            total += seconds * (mean if mean < most else most)
        return total

    def seconds_of(self, context_tokens: I64) -> F64:
        """The same for many totals, by the same operations."""
        total = np.asarray(self.per_token * (context_tokens - self.ahead), dtype=np.float64)
        for most, seconds in self.bounded:
            total = total + seconds * np.minimum(context_tokens / self.sequences, most)
        return total


def folded(step: Step) -> Step:
    """The step with its verify slices among the decoding sequences: the same work, stated once."""
    verified = [piece for piece in step.slices if piece.kind == VERIFY]
    if not verified:
        return step
    attended = [piece.new_tokens + piece.context_tokens for piece in verified]
    return Step(
        step.decodes + len(verified),
        step.context_tokens + sum(attended),
        max(step.longest_tokens, *attended),
        [piece for piece in step.slices if piece.kind != VERIFY],
        step.drafted_tokens + sum(piece.new_tokens - 1 for piece in verified),
        step.draft_passes,
    )


_kind = itemgetter(3)


def verifies(slices: Sequence[Slice]) -> bool:
    """Whether some of them are drafted tokens."""
    return VERIFY in map(_kind, slices)


def _pair_seconds(kernels: KernelChoice, layer: Attending, longest: float) -> float:
    """Seconds of one pair of one layer on a busy device.

    Grouped-query attention: the prefill kernel's over the longest prompts. Latent attention verifies in the absorbed form, where the
    queries of all heads and tokens are rows over the same latents: the decode kernel's with as many rows as saturate it.
    """
    if isinstance(layer, MLA):
        model = kernels.operator("mla", layer.dtype, kv_dtype=layer.dtype, starting="decode kernel")
        tokens = min(_LATENT_TOKENS, longest)
        timed = model.seconds(batch=_LATENT_BATCH, kv_tokens=tokens, num_heads=_LATENT_ROWS, decode=1.0)
        return float(timed[0]) / (_LATENT_BATCH * tokens * _LATENT_ROWS) * layer.q_heads
    if isinstance(layer, IndexerScores):
        seconds = index_seconds(kernels, layer, batch=_MANY, new_tokens=longest, kv_tokens=longest)
        return float(seconds[0]) / _MANY / (longest * (longest + 1.0) / 2.0)
    total = 0.0
    for piece in kernels.options.prefill_pieces(layer):
        model = kernels.operator("attention_prefill", piece.dtype, kv_dtype=kernels.stored_kv("attention_prefill", piece.dtype))
        seconds = model.seconds(new_tokens=longest, batch=_MANY, **_heads(piece))
        pairs = attended_pairs(np.array([longest]), np.zeros(1), np.array(float(piece.window_tokens)))
        total += float(seconds[0]) / _MANY / float(pairs[0])
    return total


def _heads(layer: Attention) -> dict[str, float]:
    return {
        "num_q_heads": float(layer.q_heads),
        "num_kv_heads": float(layer.kv_heads),
        "head_dim": float(layer.head_dim),
        "window_tokens": float(layer.window_tokens),
    }
