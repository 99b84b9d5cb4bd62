"""Contents of requests that are appended while a run goes on, as keys of a block, everything before it and whose it is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from simserve.workload.columns import Labels
from simserve.workload.requests import RequestTable


class GrowingContents:
    """What `PrefixBlocks.chained` says of a whole table, told as its rows come: requests have a key in common as far as they are alike.

    The first beginning that an id is seen with is called by the id itself, any other by a number that no id of 64 bits has.

    outputs  as in PrefixBlocks
    """

    def __init__(self, block_tokens: int, outputs: bool = False) -> None:
        self.block_tokens = block_tokens
        self.outputs = outputs
        self._rows: dict[int, list[int]] = {}
        self._keys: dict[tuple[Any, int], int] = {}
        self._taken: set[int] = set()

    def append(self, table: RequestTable, first: int) -> None:
        """More rows, from number `first` on. Raises ValueError where their contents come in other blocks, or go on into the output as those
        before did not."""
        if table.prefix is None:
            return
        told, given = _said(self.block_tokens, self.outputs), _said(table.prefix.block_tokens, table.prefix.outputs)
        if told != given:
            raise ValueError(f"contents come in {given}, the run was told of {told}")
        owners = [_texts(values) for column, values in table.stated_columns() if column.content_key]
        offsets, ids = table.prefix.offsets.tolist(), table.prefix.ids.tolist()
        for place, (start, end) in enumerate(pairwise(offsets)):
            before: Any = tuple(texts[place] for texts in owners if texts[place])
            keys: list[int] = []
            for block in ids[start:end]:
                before = self._key(before, block)
                keys.append(before)
            if keys:
                self._rows[first + place] = keys

    def _key(self, before: Any, block: int) -> int:
        key = self._keys.get((before, block))
        if key is None:
            key = block if block not in self._taken else (1 << 64) + len(self._keys)
            self._keys[before, block] = key
            self._taken.add(block)
        return key

    def first(self, row: int, count: int) -> list[int]:
        """The first `count` keys of a row, or all."""
        return self._rows.get(row, [])[:count]


def _texts(values: Any) -> list[str]:
    """A column as texts, "" where it states nothing."""
    if isinstance(values, Labels):
        return [values.names[code] for code in values.codes.tolist()]
    return [str(value) for value in values.tolist()]


def _said(block_tokens: int, outputs: bool) -> str:
    return f"blocks of {block_tokens} tokens" + (", outputs included" if outputs else "")
