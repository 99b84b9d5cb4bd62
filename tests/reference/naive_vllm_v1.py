"""vLLM V1's scheduler as plainly as its rules are stated, acting on a `Naive`: the running list is walked in every step."""

from __future__ import annotations

from collections.abc import Callable

from simserve.contracts import Slice
from tests.reference.naive import Naive, Req


def vllm_v1(
    max_num_batched_tokens: int = 2048, long_prefill_token_threshold: int = 0, chunked: bool = True, victim_in_step: str = "stays",
    reserve_full_prompt: bool = False, threshold_alone: bool = True, adaptive_threshold: bool = False, max_active_seqs: int = 0,
) -> Callable[[Naive], None]:  # fmt: skip
    def as_group(s: Naive, most: int, cap: int) -> None:
        """Where requests speculate."""
        s.decode_all(most)
        s.swap_in()
        for p in s.prefilling:
            if p not in s.running:
                continue
            c = min(p.target - p.computed, cap, most - s.taken)
            if c <= 0:
                break
            while p in s.running and s.more(p, p.computed + c) > s.free:
                s.preempt(s.prefilling[-1])
            if p not in s.running:
                break
            s.slice_(p, c)

    def walk(s: Naive, most: int, cap: int) -> None:
        left, place = most, 0
        got: dict[Req, int] = {}
        line = sorted(s.running, key=lambda r: r.admission)
        while left > 0 and place < len(line):
            r = line[place]
            c = min(r.target - r.computed, cap, left) if r.prefilling else 1
            if r.prefilling and not chunked and r.target - r.computed > left:
                c = 0
            if c <= 0:
                place += 1
                continue
            while r in s.running and s.size(max(r.held, s.table(r.computed + c)), r.prefilling) - s.held_by(r) > s.free:
                v = s.victim()
                before, had = line.index(v) < place, got.pop(v, 0)
                line.remove(v)
                if victim_in_step == "stays":
                    if had and not v.prefilling:
                        s.slices.append((v, Slice(1, v.computed)))
                    s.preempt(v)
                    v.recomputed += had
                    v.credit = had if v in s.waiting else 0
                else:
                    s.slices = [(other, piece) for other, piece in s.slices if other is not v]
                    s.preempt(v)
                    left += had
                if (victim_in_step == "undone" and before) or (victim_in_step == "leaves" and had):
                    place -= 1
            if r not in s.running:
                if victim_in_step == "undone":
                    continue
                break
            if r.prefilling:
                s.slice_(r, c)
            r.held, r.drafted, r.gained = max(r.held, s.table(r.computed + c)), 0, 1
            s.trim()  # before one that is preempted gives blocks back
            got[r] = c
            left -= c
            place += 1
        s.decodes = [r for r in s.decoding if r in got]
        s.held_before, s.drafts, s.budget = {r.row: r.held for r in s.decodes}, 0, most
        s.swap_in()

    def plan(s: Naive) -> None:
        most = max_num_batched_tokens if chunked else max(max_num_batched_tokens, s.limit)
        requests, cap = len(s.running) + len(s.waiting), long_prefill_token_threshold or 10**12
        if long_prefill_token_threshold and adaptive_threshold:
            cap = max(cap, most // max(1, requests))
        if requests < 2 and not threshold_alone:
            cap = 10**12
        (as_group if s.speculation else walk)(s, most, cap)
        while s.preempted and s.running and not s.decodes and not s.slices:  # a step without work takes no time
            s.preempted, s.swaps = False, []
            walk(s, most, cap)
        stuck = not s.decodes and not s.slices
        may_admit = (not s.preempted or stuck) and not s.swapped
        while s.waiting and may_admit and not (max_active_seqs and len(s.running) >= max_active_seqs):
            r = s.head
            known, budget = s.cached(r), most - s.taken
            c = min(r.prompt + r.generated - known, cap, budget)
            if c <= 0 or (not chunked and r.prompt + r.generated - known > budget):
                break
            if not s.can_admit(max(known + c, r.prompt + r.generated if reserve_full_prompt else 0)):
                break
            s.admit(r, known + c)
            s.slice_(r, c)

    return plan
