"""SGLang's policy once more, as of 0.5.23, acting on a `Naive`."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.reference.naive import Naive, Req


def sglang(
    chunked_prefill_size: int = 8192, max_prefill_tokens: int = 16384, schedule_conservativeness: float = 1.0, mixed_chunk: bool = False,
    prefill_max_requests: int = 0, clip_max_new_tokens: int = 4096,
) -> Callable[[Naive], None]:  # fmt: skip
    """`part` of what requests may generate at most is expected of them; a `full` batch looks at no prompt until one of it has left;
    `wanted` = those that decode after the last step if none ends in it; `alone`: nothing decoded before it; it `fell` = `part` falls."""
    first = min(0.7 * schedule_conservativeness, 1.0)
    last = min(first * 0.14, 1.0)
    part, full, wanted, alone, fell = first, False, 0, False, False

    def most(s: Naive, r: Req) -> int:
        room = s.limit - 2 - r.prompt
        if s.groups == (1, (), 0):
            room = min(room, (s.kv_blocks - s.table(r.prompt) - 1) * s.B - 1)
        room = max(1, room)
        return min(room, r.max_output) if r.max_output >= r.output and r.max_output > 0 else room  # a limit below the output is none

    def short(s: Naive) -> bool:
        """Whether the next tokens of those that decode find no place."""
        s.drafts = s.speculation.drafts(max(1, len(s.decoding))) if s.speculation else 0
        s.budget = None
        s.draft(s.decoding)
        return sum(s.size(max(r.held, s.table(r.computed + 1 + r.drafted)), False) - s.held_by(r) for r in s.decoding) > s.free

    def prompts(s: Naive, batch: list[Req]) -> bool:
        """Plans a prefill batch; whether the batch is full now."""
        riders = len(batch) if mixed_chunk and not s.speculation else 0
        tokens: float = chunked_prefill_size - riders if chunked_prefill_size > 0 else math.inf
        total = max_prefill_tokens - riders
        memory, soon = s.room, riders
        later = riders + sum([min(most(s, r) - r.generated, clip_max_new_tokens) * part for r in batch])

        def takes(r: Req, c: int, whole: bool) -> None:
            nonlocal tokens, total, later, soon
            s.slice_(r, c)
            paged = s.table(c) * s.B
            later += paged + s.B + (min(most(s, r), clip_max_new_tokens) if whole else 0)
            soon += paged + s.B
            tokens, total = tokens - paged, total - paged

        for p in s.prefilling:
            fits = min(tokens, int(memory - later))
            c = int(min(p.target - p.computed, fits if fits > 0 else tokens))
            if c > 0 and s.more(p, p.computed + c) <= s.free:
                takes(p, c, c == p.target - p.computed)
        while s.waiting:
            r = s.head
            none = later >= memory or soon >= memory
            if (total <= 0 or tokens <= 0) and not none:
                return False
            if len(s.slices) >= s.max_seqs - len(batch):
                return True
            if prefill_max_requests and len(s.slices) >= prefill_max_requests:
                return False
            known = s.cached(r)
            want = r.prompt + r.generated - known
            output = min(max(0, most(s, r) - r.generated), clip_max_new_tokens)
            woken = s.woken(r) * s.B
            if want + output + s.B >= memory - later - woken and (s.slices or s.running):
                return bool(s.slices or batch)
            if s.slices and tokens == math.inf and s.table(want) * s.B >= total:
                return False
            whole = s.table(want) * s.B <= tokens
            c = want if whole else (known + int(tokens) // s.B * s.B) // s.B * s.B - known
            if not whole and chunked_prefill_size < s.B:
                c = min(want, int(tokens))
                whole = c == want
            if c <= 0:
                return False
            if s.swapped or not s.can_admit(r.prompt + r.generated):
                return bool(s.slices or batch)
            s.admit(r, known + c)
            memory -= woken
            takes(r, c, whole)
            if later >= memory or soon >= memory:
                return True
        return False

    def plan(s: Naive) -> None:
        nonlocal part, full, wanted, alone, fell
        s.requeues_last = True
        batch = sorted(s.decoding, key=lambda r: r.joined)
        if fell:
            part = max(part - (first - last) / 600, last)
        ended = max((r.finish_s for r in s.reqs if r.generated and s.ended_here(r)), default=0.0)
        if not s.running and s.now > ended:
            part = first
        if not batch or len(batch) < wanted or alone:
            full = False
        if s.prefilling or (s.waiting and not full):
            full = (not s.prefilling and len(s.running) >= s.max_seqs) or prompts(s, batch) or full
        if s.slices:
            if mixed_chunk and not s.speculation and batch and not short(s):
                s.decode_all()
                s.swap_in()
            ends = sum(r.computed + c.new_tokens == r.target for r, c in s.slices)
            wanted, alone, fell = len(batch) + ends, not batch or bool(s.decodes), False
            return
        retracts = not s.swapped and short(s)
        if retracts:
            order = sorted(batch, key=lambda r: (r.generated, -r.prompt), reverse=True)
            while len(order) > 1:
                s.preempt(order.pop())
                if not short(s):
                    break
            said = sum(r.generated + 20 for r in s.decoding)
            part = min(1.0, said / max(1, sum(most(s, r) for r in s.decoding) + 1))
        s.decode_all()
        s.swap_in()
        if len(s.decodes) < len(batch):
            full = False
        wanted, alone, fell = len(s.decodes), False, bool(s.decodes) and not retracts

    return plan
