"""The policies once more, as plainly as their rules are stated, acting on a `Naive`. `NAIVE_POLICIES[name](**params)` is a planner."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference.naive import Naive, Req
from tests.reference.naive_sglang import sglang
from tests.reference.naive_vllm_v1 import vllm_v1

Planner = Callable[[Naive], None]


def vllm_v0(max_num_batched_tokens: int | None = None, padded: bool = False, chunked: bool = False) -> Planner:
    if chunked:
        return sarathi(max_num_batched_tokens or 512)

    def plan(s: Naive) -> None:
        most = max_num_batched_tokens or max(2048, s.max_model_len or 2048)
        batch: list[int] = []
        while s.waiting and not s.swapped:
            r = s.head
            if r.prompt > most:
                s.reject(r, "prompt exceeds max_num_batched_tokens")
                continue
            want = r.prompt + r.generated
            total = (len(batch) + 1) * max([*batch, want]) if padded else sum(batch) + want
            if (batch and total > most) or not s.can_admit(want):
                break
            s.admit(r, want)
            s.slice_(r, r.target - r.computed)
            batch.append(want)
        if not batch:
            s.decode_all()
            s.swap_in()

    return plan


def distserve(max_num_batched_tokens: int = 8192, max_batch_prompts: int = 128) -> Planner:
    def plan(s: Naive) -> None:
        batch: list[int] = []
        while s.waiting and not s.swapped and len(batch) < max_batch_prompts:
            want = s.head.prompt + s.head.generated
            if (batch and sum(batch) + want > max_num_batched_tokens) or not s.can_admit(want):
                break
            r = s.head
            s.admit(r, want)
            s.slice_(r, r.target - r.computed)
            batch.append(want)
        if not batch:
            s.decode_all()
            s.swap_in()

    return plan


def sarathi(
    token_budget: int = 512, hybrid: bool = True, chunked: bool = True, longer_prompts: str = "run", reserve: str = "step"
) -> Planner:
    def prefill_passes(s: Naive) -> None:
        left = token_budget - s.decode_tokens
        for p in s.prefilling:
            if left <= 0:
                break
            c = min(p.target - p.computed, left)
            s.slice_(p, c)
            left -= c
        while s.waiting:
            r = s.head
            want = r.prompt + r.generated
            if not chunked and longer_prompts == "refuse" and r.prompt > token_budget:
                s.reject(r, "prompt exceeds the most tokens of a step, and prompts are not cut")
                continue
            if s.preempted or s.swapped:
                break
            if chunked and left <= 0:
                break
            if not chunked and s.slices and want > left:
                break
            room = want
            if reserve == "stated" and r.max_output >= r.output and r.max_output > 0:
                room = min(s.limit, r.prompt + r.max_output)
            if not s.can_admit(room):
                break
            s.admit(r, room)
            c = min(r.target - r.computed, left) if chunked else r.target - r.computed
            s.slice_(r, c)
            left -= c if chunked else want

    def decode_pass(s: Naive) -> None:
        s.decode_all(token_budget if chunked else None)
        s.swap_in()

    def plan(s: Naive) -> None:
        if hybrid:
            decode_pass(s)
            prefill_passes(s)
            return
        passes = [prefill_passes, decode_pass]
        if (s.decoding or s.swapped) and not s.last_was_decode:
            passes = [decode_pass, prefill_passes]
        elif not (s.decoding or s.swapped):
            passes = [prefill_passes]
        for do in passes:
            do(s)
            if s.decodes or s.slices:
                break
        s.last_was_decode = bool(s.decodes)

    return plan


def fastgen(token_budget: int = 768) -> Planner:
    def plan(s: Naive) -> None:
        s.decode_all(token_budget)
        s.swap_in()
        left = token_budget - s.decode_tokens
        while True:
            cramped = False
            for p in s.prefilling:
                if left <= 0:
                    break
                room = p.held * s.B + s.room - p.computed
                c = min(p.target - p.computed, left, room)
                if c <= 0:
                    cramped = True
                    break
                s.slice_(p, c)
                left -= c
            alone = s.preempted and not s.running
            if not s.swapped and not cramped and (not s.preempted or alone):
                while s.waiting and left > 0 and len(s.running) < s.max_seqs:
                    r = s.head
                    known = s.cached(r)
                    c = min(r.prompt + r.generated - known, left, s.room)
                    if c <= 0 or not s.can_admit(known + c):
                        break
                    s.admit(r, known + c)
                    s.slice_(r, c)
                    left -= c
            if s.decodes or s.slices or not s.prefilling:
                return
            s.preempt(s.prefilling[-1])

    return plan


def _reservation(s: Naive, r: Req, reserve: str) -> int:
    if reserve == "oracle":
        return r.prompt + r.output
    return min(s.limit, r.prompt + r.max_output) if r.max_output >= r.output else s.limit


def orca(reserve: str = "max") -> Planner:
    def plan(s: Naive) -> None:
        s.decode_all()
        s.swap_in()
        _admit_whole(s, reserve)

    return plan


def static(reserve: str = "max") -> Planner:
    def plan(s: Naive) -> None:
        s.decode_all()
        s.swap_in()
        if not s.running:
            _admit_whole(s, reserve)

    return plan


def _admit_whole(s: Naive, reserve: str) -> None:
    """Nothing is preempted for a token that was reserved; for drafted ones it may be."""
    while s.waiting and not s.preempted and not s.swapped and s.can_admit(_reservation(s, s.head, reserve)):
        r = s.head
        s.admit(r, _reservation(s, r, reserve))
        s.slice_(r, r.target - r.computed)


def past_future(
    max_num_batched_tokens: int = 16384,
    wait_steps: int = 6,
    window: int = 200,
    reserve: float = 0.05,
    predict: str = "history",
    seed: int = 0,
) -> Planner:
    past: list[float] = [math.inf] * (window // 2)
    dice = np.random.Generator(np.random.PCG64(seed))
    ran: list[Req] = []
    last_prefill = 0  # decode steps before it

    def final_length(s: Naive, r: Req, fraction: float) -> float:
        stated = r.max_output if r.max_output >= r.output and r.max_output > 0 else math.inf
        limit = min(stated, s.limit - r.prompt)
        if predict == "oracle":
            return float(r.output)
        if predict == "limit":
            return float(limit)
        longer = [*sorted(x for x in past if x > r.generated), math.inf]
        # The place is counted from the shortest length ever, so that it rounds as the rule's own sum does.
        skipped = len(past) + 1 - len(longer)
        place = skipped + fraction * (len(longer) - 1)
        below = int(place)
        low, high = (min(longer[min(i - skipped, len(longer) - 1)], limit) for i in (below, below + 1))
        return low + (place - below) * (high - low)

    def peak(batch: list[Req], lengths: list[float]) -> float:
        """Step by step in the order of ending: who is still there has grown by the steps passed, who has ended is gone."""
        left = sorted(((length - r.generated, r.prompt + r.generated) for r, length in zip(batch, lengths, strict=True)), reverse=True)
        return max(at * (i + 1) + sum(held for _, held in left[: i + 1]) for i, (at, _) in enumerate(left))

    def plan(s: Naive) -> None:
        nonlocal last_prefill, ran
        for r in sorted(ran, key=lambda r: (r.finish_s, r.row)):
            if s.ended_here(r) and r.generated:
                past.append(float(r.generated))
                del past[:-window]
        ran = [r for r in ran if not r.status]
        passed = sum(step.decodes > 0 for step in s.steps)
        since = passed - last_prefill
        if s.waiting and not s.swapped and (not s.running or (since > 0 and since % wait_steps == 0)):
            batch = s.decoding
            others = max(0, s.kv_blocks - s.free - sum(s.blocks(r.prompt + r.generated) for r in batch)) * s.B
            draws = min(5, 200 // len(batch) + 1) if batch else 5
            fractions = dice.random((draws, len(batch))) if predict == "history" else np.zeros((draws, len(batch)))
            lists = [[final_length(s, r, u) for r, u in zip(batch, row, strict=True)] for row in fractions]
            total = 0
            for _ in range(len(s.waiting)):
                r = s.head
                total += r.prompt + r.generated
                if s.slices and total > max_num_batched_tokens:
                    break
                batch = [*batch, r]
                more = dice.random((draws, 1))[:, 0] if predict == "history" else np.zeros(draws)
                lists = [[*row, final_length(s, r, u)] for row, u in zip(lists, more, strict=True)]
                fits = max(peak(batch, row) for row in lists) < s.kv_blocks * s.B * (1 - reserve) - others
                if not (fits or not s.running) or not s.can_admit(r.prompt + r.generated):
                    break
                s.admit(r, r.prompt + r.generated)
                s.slice_(r, r.target - r.computed)
        if s.slices:
            last_prefill = passed
        else:
            s.decode_all()
            s.swap_in()
        ran = [*ran, *(r for r in s.running if r not in ran)]

    return plan


def layered(max_num_batched_tokens: int = 8192, group_rule: str = "tokens", group_tokens: int = 512, max_groups: int = 16) -> Planner:
    wave: list[tuple[Req, int, int]] = []  # request, tokens, the admission it belongs to
    stage, stages = 0, 1

    def number_of_groups(tokens: int) -> int:
        if group_rule == "tokens":
            return min(max_groups, max(1, math.ceil(tokens / group_tokens)))
        for bound, n in {512: 1, 1024: 2, 2048: 4, 4096: 6 if max_groups == 12 else 8}.items():
            if tokens <= bound:
                return min(max_groups, n)
        return max_groups

    def plan(s: Naive) -> None:
        nonlocal wave, stage, stages
        s.decode_all()
        s.swap_in()
        wave = [(r, c, a) for r, c, a in wave if r in s.running and r.admission == a]
        if stage == stages or not wave:
            wave, stage, left = [], 0, max_num_batched_tokens
            for p in s.prefilling:
                if left > 0:
                    wave.append((p, min(p.target - p.computed, left), p.admission))
                    left -= wave[-1][1]
            while left > 0 and s.waiting and not s.preempted and not s.swapped and s.can_admit(s.head.prompt + s.head.generated):
                r = s.head
                s.admit(r, r.prompt + r.generated)
                wave.append((r, min(r.target - r.computed, left), r.admission))
                left -= wave[-1][1]
            stages = number_of_groups(sum(c for _, c, _ in wave))
        for r, c, _ in wave:
            s.slice_(r, c, (stage, stages))
        stage += 1

    return plan


def xy_serve(token_budget: int = 4096, reserved_tokens: int = 0) -> Planner:
    def plan(s: Naive) -> None:
        s.decode_all(token_budget)
        s.swap_in()
        left = token_budget - (max(s.decode_tokens, reserved_tokens) if s.decodes else 0)
        for p in s.prefilling:
            if left > 0:
                c = min(p.target - p.computed, left)
                s.slice_(p, c)
                left -= c
        while s.waiting and left > 0 and not s.preempted and not s.swapped and s.can_admit(s.head.prompt + s.head.generated):
            r = s.head
            s.admit(r, r.prompt + r.generated)
            c = min(r.target - r.computed, left)
            s.slice_(r, c)
            left -= c

    return plan


NAIVE_POLICIES: dict[str, Callable[..., Any]] = {
    "vllm-v0": vllm_v0, "vllm-v1": vllm_v1, "sarathi": sarathi, "fastgen": fastgen, "orca": orca, "static": static,
    "past-future": past_future, "layered": layered, "distserve": distserve, "sglang": sglang,
    "xy-serve": xy_serve,
}  # fmt: skip
