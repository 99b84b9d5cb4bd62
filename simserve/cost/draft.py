"""What drafts the tokens that a speculating instance verifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simserve.model.architecture import ModelArchitecture

Method = Literal["draft-model", "eagle", "eagle3", "mtp", "ngram"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A way of drafting.

    method         who drafts: a small model, a head on the model's hidden states (EAGLE, EAGLE-3), the model's own multi-token prediction
                   layers (MTP), or what followed the last tokens earlier in the context (n-gram)
    steps          tokens drafted in a row: forward passes of the draft, depth of a tree
    top_k          branches of a tree at each node; 1 = a chain
    verify_tokens  tokens that a verification computes for one request, the one that decoding alone would compute included; None = steps + 1
    model          the small model of "draft-model"; the layer of an EAGLE head (its config.json), None = one like the model's
    tp             tensor-parallel ranks of the draft, None = those of the model
    vocabulary     tokens that an EAGLE-3 head chooses from (`draft_vocab_size`), None = 32,000
    """

    method: Method
    steps: int
    top_k: int = 1
    verify_tokens: int | None = None
    model: ModelArchitecture | None = None
    tp: int | None = None
    vocabulary: int | None = None

    @property
    def width(self) -> int:
        """Tokens that a verification computes for one request."""
        return self.steps + 1 if self.verify_tokens is None else self.verify_tokens
