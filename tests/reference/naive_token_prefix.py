"""An instance of the naive cluster that matches prompts token by token: kept blocks are written out token by token and compared one by one.

See docs/invariants.md, "The rules of a cluster", prefix caching.
"""

from __future__ import annotations

from typing import Any

from tests.reference.naive_instance import ClusterReq, NaiveInstance

Token = tuple[Any, int]
Block = tuple[Token, ...]
"""A kept block as all tokens from the beginning of its sequence to its last one."""


class NaiveTokenInstance(NaiveInstance):
    """Contents (`pinned`, `idle`) are blocks, the last of a request perhaps filled in part."""

    def __init__(self, *args: Any, **shape: Any) -> None:
        super().__init__(*args, **shape)
        self.run_blocks = 1

    def text(self, r: ClusterReq) -> list[Token]:
        """The tokens of a request, as far as they are told: which run, and which of its tokens."""
        told = [(key, place) for key in r.ids for place in range(self.run_tokens)]
        return told if self.keeps_outputs else told[: r.prompt]

    @property
    def kept(self) -> list[Block]:
        return [*self.idle, *self.shared]  # type: ignore[list-item]

    def cached(self, r: ClusterReq) -> int:
        if not self.run_tokens:
            return 0
        text, kept = self.text(r)[: r.prompt + r.generated - 1], self.kept
        whole = 0
        while len(text) >= whole + self.B and tuple(text[: whole + self.B]) in kept:
            whole += self.B
        best = whole
        for block in kept:
            if whole < len(block) <= whole + self.B and list(block[:whole]) == text[:whole]:
                alike = whole
                while alike < min(len(block), len(text)) and block[alike] == text[alike]:
                    alike += 1
                best = max(best, alike)
        return best

    def parts(self, r: ClusterReq, found: int) -> list[Any]:
        text = self.text(r)
        return [tuple(text[:end]) for end in range(self.B, found + 1, self.B)]

    def offer(self, r: ClusterReq) -> None:
        if not self.run_tokens:
            return
        text = self.text(r)[: r.computed]
        if r.pinned and len(r.pinned[-1]) % self.B and len(r.pinned[-1]) < len(text):
            r.pinned.pop()  # it has gone on filling this block
        known = {*self.kept}
        for end in [*range(self.B, len(text) + 1, self.B), len(text)]:
            block = tuple(text[:end])
            if end > r.offered * self.B and block not in known:
                r.pinned.append(block)  # type: ignore[arg-type]
                known.add(block)
        r.offered = max(r.offered, len(text) // self.B)
