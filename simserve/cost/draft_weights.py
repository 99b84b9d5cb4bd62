"""What a draft adds to each rank's memory: weights of its own, and the keys and values of its layers for every token."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simserve.cost.draft import Draft
from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.draft_head import DraftHead, draft_head
from simserve.model.layout import rank_kv_bytes_per_token, rank_weight_bytes
from simserve.model.parallel import Parallel, check


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft with weights, laid out beside a model.

    head      what a forward pass runs
    parallel  its layout: no stages (it runs where the logits are), the model's ranks unless the draft says otherwise
    shares    data-parallel replicas of the model's attention, of which each drafts for its own sequences (1 where the draft's layout
              has them itself)
    """

    head: DraftHead
    parallel: Parallel
    shares: int

    def kv_bytes_per_token(self, element_bytes: float = 2.0) -> float:
        """Bytes of one token in the draft's KV cache, on one of its ranks."""
        return rank_kv_bytes_per_token(self.head.architecture, self.parallel, element_bytes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights on one of its ranks, beside the model's."""
        return self.head.weight_bytes


def load(draft: Draft, model: ModelArchitecture, parallel: Parallel) -> LoadedDraft | None:
    """The draft beside `model` in its layout; None for n-grams, which have no weights.

    Raises ModelError for a draft that is not complete, or a layout that it cannot take (see `draft_head`).
    """
    if draft.method == "ngram":
        return None
    tp = draft.tp or parallel.tp
    if draft.method == "draft-model":
        if draft.model is None:
            raise ModelError("a draft of method 'draft-model' needs the model that drafts")
        own = _beside(draft.model, tp, parallel)
        check(draft.model, own)
        head = DraftHead(draft.model, (), (), rank_weight_bytes(draft.model, own))
    else:
        own = Parallel(tp, 1, parallel.dp, parallel.ep) if draft.method == "mtp" and any(model.moe_layers) else Parallel(tp)
        head = draft_head(model, draft.method, own, draft.model, draft.vocabulary)
        if head.architecture.experts is None:
            own = replace(own, dp=1, ep=1)
    return LoadedDraft(head, own, parallel.dp if own.dp == 1 else 1)


def _beside(draft: ModelArchitecture, tp: int, parallel: Parallel) -> Parallel:
    """A draft with experts spreads them like the model; one without is whole in every data-parallel replica."""
    return Parallel(tp) if draft.experts is None else Parallel(tp, 1, parallel.dp, min(parallel.ep, tp * parallel.dp))
