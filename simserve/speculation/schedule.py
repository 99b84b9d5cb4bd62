"""How many tokens are drafted in a row, by the size of the decoding batch."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """`tokens` for batches smaller than the first of `sizes`; from sizes[i] decoding requests on, `drafted[i]`.

    Engines state such rules by batch size: vLLM's `num_speculative_tokens_per_batch_size` and `disable_by_batch_size`, TensorRT-LLM's
    `draft_len_schedule` and `max_concurrency`. Raises ValueError unless sizes increase from 1 on and no rule drafts more than `tokens`.
    """

    tokens: int
    sizes: tuple[int, ...] = ()
    drafted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.drafted):
            raise ValueError(f"found {len(self.sizes)} batch sizes and {len(self.drafted)} numbers of tokens")
        for before, size in itertools.pairwise((0, *self.sizes)):
            if size <= before:
                raise ValueError(f"found batch size {size} after {before}, expected sizes that increase from 1 on")
        for drafted in self.drafted:
            if not 0 <= drafted <= self.tokens:
                raise ValueError(f"found {drafted} tokens, expected 0 to {self.tokens}, the number that is drafted without a rule")

    def drafts(self, decodes: int) -> int:
        """Tokens drafted in a row for each of so many decoding requests."""
        place = bisect.bisect_right(self.sizes, decodes)
        return self.drafted[place - 1] if place else self.tokens
