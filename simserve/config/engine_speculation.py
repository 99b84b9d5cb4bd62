"""What an engine profile says of speculative decoding: which methods there are, what becomes of rejected KV, what the engine refuses."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from simserve.config.section import Section
from simserve.contracts import FREED, KEPT
from simserve.cost.draft import Method
from simserve.files.words import shown

METHODS: tuple[Method, ...] = ("draft-model", "eagle", "eagle3", "mtp", "ngram")

Table = Literal["off-from", "off-above", "ranges", "up-to"]
"""How a flag states numbers of drafted tokens by batch size.

off-from   a size from which on nothing is drafted (vLLM V0, speculative_disable_by_batch_size: spec_decode_worker.py, `>=`)
off-above  a size above which nothing is drafted (TensorRT-LLM, max_concurrency)
ranges     a list of [first size, last size, tokens] (vLLM, num_speculative_tokens_per_batch_size: vllm/config/speculative.py)
up-to      a mapping from the last size to tokens, 0 beyond the last (TensorRT-LLM, draft_len_schedule)
"""


class Refusal(Section):
    """What the engine does not do together with speculation."""

    methods: list[Method] = Field(default_factory=list, description="Methods that it is about. Empty: all of them.")
    key: str = Field(default="", description="A key of the instance (parallel.pp, speculation.top_k ...). Empty: the methods.")
    above: float | None = Field(default=None, description="Its values above this one are refused.")
    values: list[Any] = Field(default_factory=list, description="Its values that are refused.")
    reason: str = Field(description="Why, in a sentence.")
    source: str = Field(description="Where that is said: a page or a file of the engine.")

    def refuses(self, value: Any) -> bool:
        """Whether the key may not have this value."""
        if value in self.values:
            return True
        return self.above is not None and isinstance(value, int | float) and value > self.above


class EngineSpeculation(Section):
    """Speculative decoding in one engine and range of versions."""

    methods: list[Method] = Field(default_factory=lambda: list(METHODS), description="Methods that the engine has. Default: all.")
    rejected_kv: Literal["kept", "freed"] = Field(
        default="kept",
        description="What becomes of the KV of rejected tokens: their blocks stay with the request, which writes over them (kept), or"
        " blocks without a valid token are given back after every step (freed).",
    )
    max_seqs: int | None = Field(default=None, ge=1, description="Most requests that run at once with speculation where none is stated.")
    refused: list[Refusal] = Field(default_factory=list)
    sources: list[str] = Field(default_factory=list)

    def refusals(self, method: str, resolved: Mapping[str, Any]) -> list[tuple[str, Any, Refusal]]:
        """What the engine refuses of an instance with these keys: (key, its value, the rule); the key is empty where it is the method."""
        found: list[tuple[str, Any, Refusal]] = []
        for rule in self.refused:
            if rule.methods and method not in rule.methods:
                continue
            value: Any = resolved
            for part in rule.key.split(".") if rule.key else ():
                value = value.get(part) if isinstance(value, Mapping) else None
            if not rule.key or rule.refuses(value):
                found.append((rule.key, value if rule.key else method, rule))
        return found


def by_batch(table: Table, value: Any) -> list[dict[str, int]]:
    """The rules of `speculation.by_batch` that a flag states. Raises ValueError for what is no such table."""
    if table in ("off-from", "off-above"):
        size = _whole(value, "a batch size")
        return [{"from": size + (table == "off-above"), "tokens": 0}]
    if table == "ranges":
        if not isinstance(value, list) or not value or not all(isinstance(entry, list) and len(entry) == 3 for entry in value):
            raise ValueError(f"found {shown(value)}, expected a list of [first batch size, last batch size, tokens]")
        ranges = [tuple(_whole(number, "batch sizes and tokens") for number in entry) for entry in value]
        for first, last, _ in ranges:
            if last < first:
                raise ValueError(f"found a range from {first} to {last}, expected one that goes up")
        for (_, last, _), (first, _, _) in itertools.pairwise(ranges):
            if first != last + 1:
                raise ValueError(f"found a range from {first} after one to {last}; each begins where the one before ends")
        return [{"from": first, "tokens": tokens} for first, _, tokens in ranges]
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"found {shown(value)}, expected a mapping from batch sizes to tokens")
    pairs = sorted((_whole(_number(size), "a batch size"), _whole(tokens, "tokens")) for size, tokens in value.items())
    sizes = [1, *(size + 1 for size, _ in pairs)]
    return [{"from": size, "tokens": tokens} for size, tokens in zip(sizes, [*(tokens for _, tokens in pairs), 0], strict=True)]


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"found {shown(value)}, expected {what} as whole numbers")
    return value


def _number(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.isdigit() else key


assert (KEPT, FREED) == ("kept", "freed")  # the words of the profile are those of the contract
