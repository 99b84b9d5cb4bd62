"""The policies once more, as plainly as their rules are stated, acting on a `Naive`. `NAIVE_POLICIES[name](**params)` is a planner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.reference.naive import Naive, Req

Planner = Callable[[Naive], None]


def vllm_v0(max_num_batched_tokens: int | None = None, padded: bool = False) -> Planner:
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
            s.slice_(r, want)
            batch.append(want)
        if not batch:
            s.decode_all()
            s.swap_in()

    return plan


def vllm_v1(max_num_batched_tokens: int = 2048, long_prefill_token_threshold: int = 0) -> Planner:
    cap = long_prefill_token_threshold or 10**12

    def plan(s: Naive) -> None:
        s.decode_all()
        s.swap_in()
        budget = max_num_batched_tokens - len(s.decodes)
        for p in s.prefilling:
            if p not in s.running:
                continue
            if budget <= 0:
                break
            c = min(p.target - p.computed, cap, budget)
            while p in s.running and s.blocks(p.computed + c) - p.held > s.free:
                s.preempt(s.prefilling[-1])
            if p not in s.running:
                break
            s.slice_(p, c)
            budget -= c
        stuck = not s.decodes and not s.slices
        if (not s.preempted or stuck) and not s.swapped:
            while s.waiting and budget > 0:
                r = s.head
                c = min(r.prompt + r.generated, cap, budget)
                if not s.can_admit(c):
                    break
                s.admit(r, c)
                s.slice_(r, c)
                budget -= c

    return plan


def sarathi(token_budget: int = 512, hybrid: bool = True, chunked: bool = True) -> Planner:
    def prefill_passes(s: Naive) -> None:
        left = token_budget - len(s.decodes)
        for p in s.prefilling:
            if left <= 0:
                break
            c = min(p.target - p.computed, left)
            s.slice_(p, c)
            left -= c
        while s.waiting and not s.preempted and not s.swapped:
            r = s.head
            want = r.prompt + r.generated
            if chunked and left <= 0:
                break
            if not chunked and s.slices and want > left:
                break
            if not s.can_admit(want):
                break
            s.admit(r, want)
            c = min(want, left) if chunked else want
            s.slice_(r, c)
            left -= c

    def decode_pass(s: Naive) -> None:
        s.decode_all()
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
        s.decode_all()
        s.swap_in()
        left = token_budget - len(s.decodes)
        while True:
            cramped = False
            for p in s.prefilling:
                if left <= 0:
                    break
                room = (p.held + max(0, s.free - s.W)) * s.B - p.computed
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
                    c = min(r.prompt + r.generated, left, max(0, s.free - s.W) * s.B)
                    if c <= 0:
                        break
                    s.admit(r, c)
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
        s.decodes = s.decoding
        _admit_whole(s, reserve)

    return plan


def static(reserve: str = "max") -> Planner:
    def plan(s: Naive) -> None:
        s.decodes = s.decoding
        if not s.running:
            _admit_whole(s, reserve)

    return plan


def _admit_whole(s: Naive, reserve: str) -> None:
    while s.waiting and s.can_admit(_reservation(s, s.head, reserve)):
        r = s.head
        s.admit(r, _reservation(s, r, reserve))
        s.slice_(r, r.target)


NAIVE_POLICIES: dict[str, Callable[..., Any]] = {
    "vllm-v0": vllm_v0, "vllm-v1": vllm_v1, "sarathi": sarathi, "fastgen": fastgen, "orca": orca, "static": static,
}  # fmt: skip
