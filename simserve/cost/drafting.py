"""Seconds of a step in which a draft proposes tokens: the model's step and the draft's forward passes, one after the other.

The passes of a step (vllm/v1/spec_decode/eagle.py, propose; sglang/srt/speculative/eagle_worker.py, forward_draft_extend and
draft_forward): the first runs over the tokens that the model has just computed, as wide as the verification, so that the draft's cache
follows the model's, and over the chunks of prompts in the step; each further one over the branches of every sequence, one token further
on. A chain of k tokens takes k passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simserve.contracts import CostWrapper, DecodeSteps, Slice, Step
from simserve.contracts.cost import F64
from simserve.cost.draft import Draft
from simserve.cost.draft_weights import LoadedDraft
from simserve.cost.host import HostOverheads
from simserve.cost.step import ARRAY_FROM, StepCost
from simserve.cost.tree_attention import TreeAttention
from simserve.cost.verification import folded, verifies

_FIRST_TOKENS = 8192

NGRAM_SEARCH_S = 2e-5
"""Host time to look the last tokens of a request up in its context: compiled code that reads some thousands of numbers
(vllm/v1/spec_decode/ngram_proposer.py). An assumption."""


_SameDrafts = tuple[float, float, float, int, int, int]


class DraftedCost(CostWrapper):
    """The cost of an instance that drafts: `target` prices its model's steps, the draft's passes come on top, on the last stage.

    loaded  the draft's layers, None for n-grams
    passes  prices the forward passes of the draft, a cost model of its own driven by `pass_host`; None for n-grams
    """

    def __init__(
        self, target: StepCost, draft: Draft, host: HostOverheads, loaded: LoadedDraft | None = None, passes: StepCost | None = None
    ) -> None:
        super().__init__(target)
        self.target, self.draft, self._host, self._loaded, self._passes = target, draft, host, loaded, passes
        self._shares = 1 if loaded is None else loaded.shares
        self._first = None if loaded is None or passes is None else passes.table_of(loaded.head.first_pass, _FIRST_TOKENS)
        self._alike: dict[tuple[int, int, int], _SameDrafts] = {}
        self._tree = TreeAttention(target) if draft.top_k > 1 else None
        self._pass_tree = TreeAttention(passes) if draft.top_k > 1 and passes is not None else None

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """As of the target, the draft's passes on the last stage."""
        times = self.target.stage_times(step)
        return (*times[:-1], times[-1] + self.draft_seconds(step))

    def step_time(self, step: Step) -> float:
        """Of one step on a single-stage instance."""
        return self.target.step_time(step) + self.draft_seconds(step)

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        """Of decode-only steps that draft nothing: as of the target."""
        return self.target.decode_times(step, steps)

    def verify_times(self, steps: DecodeSteps) -> list[float] | F64:
        """Of decode-only steps that verify and draft; bit-identical to `step_time`."""
        if self._passes is not None and self._shares == 1:
            alike = self._on_lines if len(steps.context_tokens) < ARRAY_FROM else self._many_alike
            times = alike(steps, self._passes)
            if times is not None:
                return times
        target = self.target.verify_times(steps)
        if len(target) < ARRAY_FROM:
            return self._few_times(steps, target)
        own = np.array(self._beside_each(steps.decodes, steps.drafted_tokens.tolist(), steps.draft_passes.tolist()))
        return target + (own if self._passes is None else own + self._pass_times(steps, self._passes))

    def swap_time(self, tokens: int) -> float:
        """The draft's keys and values are copied with the model's."""
        own = 0.0 if self._passes is None else self._passes.swap_time(tokens) - self._passes.swap_time(0)
        return self.target.swap_time(tokens) + own

    def breakdown(self, step: Step) -> dict[str, float]:
        """The parts of the target's step, verification in them, and `draft`."""
        parts, seconds = self.target.breakdown(step), self.draft_seconds(step)
        return parts | {"draft": seconds} if seconds else parts

    def with_host(self, host: HostOverheads) -> DraftedCost:
        """The same tables driven by another host."""
        passes = None if self._passes is None else self._passes.with_host(pass_host(host))
        return DraftedCost(self.target.with_host(host), self.draft, host, self._loaded, passes)

    def scaled(self, factors: Mapping[str, float]) -> DraftedCost:
        """The same with the times of operators multiplied, in the model and in its draft; see `StepCost.scaled`."""
        passes = None if self._passes is None else self._passes.scaled(factors)
        return DraftedCost(self.target.scaled(factors), self.draft, self._host, self._loaded, passes)

    def spreads(self) -> dict[str, float]:
        """How uncertain each operator is, of the model and of its draft."""
        return self.target.spreads() | ({} if self._passes is None else self._passes.spreads())

    def describe(self) -> dict[str, Any]:
        """As of the target, and what drafts."""
        described, draft = self.target.describe(), self.draft
        words: dict[str, Any] = {"method": draft.method, "steps": draft.steps, "top_k": draft.top_k, "verify_tokens": draft.width}
        words |= {"per_draft_pass_s": self._host.per_draft_pass_s, "per_verification_s": self._host.per_verification_s}
        unvalidated = list(described["unvalidated"])
        if self._loaded is not None and self._passes is not None:
            own = self._passes.describe()
            words |= {key: own[key] for key in ("model", "model_taken") if key in own}
            words |= {"parallel": own["parallel"], "weight_bytes": self._loaded.weight_bytes}
            unvalidated += [f"draft: {what}" for what in own["unvalidated"] if what not in unvalidated]
        return described | {"draft": words, "unvalidated": unvalidated}

    def draft_seconds(self, step: Step) -> float:
        """What drafting adds to a step: the draft's passes, what the host does for them, and the kernels of trees."""
        if step.slices and verifies(step.slices):
            step = folded(step)
        n, drafted, passes = step.decodes, step.drafted_tokens, step.draft_passes
        if not step.slices:
            return self._decoding_seconds(n, drafted, passes, step.context_tokens, step.longest_tokens)
        own = self._beside(n, drafted) if drafted or passes else 0.0
        return own if self._passes is None else own + self._chunk_seconds(step, self._passes)

    # ---- inside ----

    def _beside(self, sequences: int, drafted: int) -> float:
        """Seconds of a speculating step that belong to no pass."""
        seconds = self._host.per_verification_s
        if self._passes is None:
            seconds += sequences * NGRAM_SEARCH_S
        if self._tree is not None:
            seconds += self._tree.seconds(sequences + drafted, self.draft.steps)
        return seconds

    def _beside_each(self, sequences: int, drafted: list[int], passes: list[int]) -> list[float]:
        """The same of several steps, those that do not speculate among them."""
        seconds = {more: self._beside(sequences, more) for more in set(drafted)}
        return [seconds[more] if more or number else 0.0 for more, number in zip(drafted, passes, strict=True)]

    def _decoding_seconds(self, n: int, drafted: int, passes: int, contexts: int, longest: int) -> float:
        """`draft_seconds` of a step without chunks."""
        own = self._beside(n, drafted) if drafted or passes else 0.0
        if self._passes is None or not passes or not n:
            return own
        n, drafted, contexts = self._shared(n), self._shared(drafted), self._shared(contexts)
        assert self._first is not None
        first = self._passes.verify_seconds(n, drafted, contexts, longest) + self._first[n + drafted]
        return own + (first + self._more_seconds(n, passes, contexts, longest, self._passes))

    def _few_times(self, steps: DecodeSteps, target: list[float] | F64) -> list[float]:
        """`target` and `_decoding_seconds` of a few steps."""
        columns = steps.drafted_tokens, steps.draft_passes, steps.context_tokens, steps.longest_tokens
        drafted, number, contexts, longest = (column.tolist() for column in columns)
        n, passes, last, same = steps.decodes, self._passes, number[0], drafted[0]
        if passes is None:
            return [seconds + own for seconds, own in zip(target, self._beside_each(n, drafted, number), strict=True)]
        if not last or self._shares > 1 or number.count(last) < len(number) or drafted.count(same) < len(drafted):
            each = zip(target, drafted, number, contexts, longest, strict=True)
            return [seconds + self._decoding_seconds(n, *one) for seconds, *one in each]
        beside, beside_first, tree, more, ahead, further = self._same_drafts(n, same, last)
        first, others = passes.verify_each(n, drafted, contexts, longest), last - 1
        middle = passes.verify_each(
            n, [more] * len(first), [tokens + ahead for tokens in contexts], [tokens + further for tokens in longest]
        )
        return [
            seconds + (beside + ((one + beside_first) + others * (other + tree)))
            for seconds, one, other in zip(target, first, middle, strict=True)
        ]

    def _on_lines(self, steps: DecodeSteps, passes: StepCost) -> list[float] | None:
        """`verify_times` of a few steps that draft alike, where a line each has the model's, the first pass's and the later ones'
        seconds."""
        n, drafts, numbers = steps.decodes, steps.drafted_tokens.tolist(), steps.draft_passes.tolist()
        drafted, number = drafts[0], numbers[0]
        if not number or drafts.count(drafted) < len(drafts) or numbers.count(number) < len(numbers):
            return None
        contexts, longest = steps.context_tokens.tolist(), steps.longest_tokens.tolist()
        low, high, least, most = min(contexts), max(contexts), min(longest), max(longest)
        beside, beside_first, tree, more, ahead, further = self._same_drafts(n, drafted, number)
        line = self.target.verify_line(n, drafted, low, high, least, most)
        first = passes.verify_line(n, drafted, low, high, least, most)
        later = passes.verify_line(n, more, low + ahead, high + ahead, least + further, most + further)
        if line is None or first is None or later is None:
            return None
        others = number - 1
        (base, a, b, one), (base_1, a_1, b_1, two), (base_2, a_2, b_2, three) = line, first, later
        further = further if three else ahead
        x, y, z = longest if one else contexts, longest if two else contexts, longest if three else contexts
        return [
            (base + (a + b * i))
            + (beside + (((base_1 + (a_1 + b_1 * j)) + beside_first) + others * ((base_2 + (a_2 + b_2 * (k + further))) + tree)))
            for i, j, k in zip(x, y, z, strict=True)
        ]

    def _many_alike(self, steps: DecodeSteps, passes: StepCost) -> F64 | None:
        """`verify_times` of many steps, where they draft alike."""
        n, drafted, number = steps.decodes, int(steps.drafted_tokens[0]), int(steps.draft_passes[0])
        contexts, longest = steps.context_tokens, steps.longest_tokens
        if not number or (steps.drafted_tokens != drafted).any() or (steps.draft_passes != number).any():
            return None
        beside, beside_first, tree, more, ahead, further = self._same_drafts(n, drafted, number)
        own = passes.verify_same(n, drafted, contexts, longest)
        own += beside_first
        later = passes.verify_same(n, more, contexts + ahead, longest + further)
        later += tree
        later *= number - 1
        own += later
        own += beside
        own += self.target.verify_times(steps)
        return own

    def _same_drafts(self, n: int, drafted: int, number: int) -> _SameDrafts:
        """Of steps with so many drafted tokens and passes: seconds beside the passes, beside the first, and of a tree's kernels in a later
        one; of a later pass tokens beside one for each sequence, and by how much all contexts and the longest are further on."""
        found = self._alike.get((n, drafted, number))
        if found is None:
            assert self._first is not None
            tree, more = self._branches(n)
            found = self._beside(n, drafted), self._first[n + drafted], tree, more, n * number // 2, number // 2
            self._alike[n, drafted, number] = found
        return found

    def _chunk_seconds(self, step: Step, passes: StepCost) -> float:
        """The passes of a step with chunks."""
        chunks = _whole(step.slices, self._shares)
        n, drafted, contexts, longest = step.decodes, step.drafted_tokens, step.context_tokens, step.longest_tokens
        if self._shares > 1:
            n, drafted, contexts = self._shared(n), self._shared(drafted), self._shared(contexts)
        if not step.draft_passes or not n:
            if not chunks:
                return 0.0
            n = drafted = contexts = longest = 0
        assert self._first is not None
        tokens = n + drafted
        for piece in chunks:
            tokens += piece[0]
        if chunks:
            seconds = passes.mixed_seconds(n, drafted, contexts, longest, chunks) + self._first[tokens]
        else:
            seconds = passes.verify_seconds(n, drafted, contexts, longest) + self._first[tokens]
        return seconds + self._more_seconds(n, step.draft_passes, contexts, longest, passes) if n else seconds

    def _more_seconds(self, n: int, number: int, contexts: int, longest: int, passes: StepCost) -> float:
        """The passes after the first of `number`: pass i is i tokens further on. Attention is a straight line over so few tokens: all take
        what the one in the middle takes."""
        if number < 2:
            return 0.0
        tree, more = self._branches(n)
        return (number - 1) * (passes.verify_seconds(n, more, contexts + n * number // 2, longest + number // 2) + tree)

    def _pass_times(self, steps: DecodeSteps, passes: StepCost) -> F64:
        """`_decoding_seconds` of decode-only steps, by the same operations."""
        out = np.zeros(len(steps.context_tokens))
        assert self._first is not None
        n = self._shared(steps.decodes)
        drafted, contexts, longest = (
            -(-steps.drafted_tokens // self._shares),
            -(-steps.context_tokens // self._shares),
            steps.longest_tokens,
        )
        some = steps.draft_passes > 0
        if not some.any():
            return out
        first = np.asarray(passes.verify_times(DecodeSteps(n, drafted[some], drafted[some], contexts[some], longest[some])))
        out[some] = first + np.array([self._first[n + more] for more in drafted[some].tolist()])
        tree, more = self._branches(n)
        at = steps.draft_passes > 1
        if at.any():
            number, wide = steps.draft_passes[at], np.full(int(at.sum()), more)
            middle = DecodeSteps(n, wide, wide, contexts[at] + n * number // 2, longest[at] + number // 2)
            out[at] += (number - 1) * (np.asarray(passes.verify_times(middle)) + tree)
        return out

    def _branches(self, sequences: int) -> tuple[float, int]:
        """Of a pass after the first: seconds of the tree's own kernels, and tokens beside one for each sequence."""
        branches = self.draft.top_k
        own = 0.0 if self._pass_tree is None else self._pass_tree.seconds(sequences * branches, self.draft.steps)
        return own, (branches - 1) * sequences

    def _shared(self, count: int) -> int:
        return -(-count // self._shares)


def pass_host(host: HostOverheads) -> HostOverheads:
    """The host's part of one forward pass of a draft: what it does for a pass is not what it does for a step."""
    return replace(host, per_step_s=host.per_draft_pass_s, per_decode_request_s=0.0, per_prefill_token_s=0.0)


def _whole(chunks: Sequence[Slice], shares: int) -> Sequence[Slice]:
    """The chunks that the draft computes in this step, on the fullest of the replicas that share them. It needs what the model's last
    layer, or its later ones, make of a prompt: where a step runs one group of layers, the last group's."""
    if shares == 1 and (not chunks or chunks[0].layers is None):
        return chunks
    ready = [piece._replace(layers=None) for piece in chunks if piece.layers is None or piece.layers[0] + 1 == piece.layers[1]]
    return sorted(ready, key=lambda piece: -piece.new_tokens)[::shares] if shares > 1 else ready
