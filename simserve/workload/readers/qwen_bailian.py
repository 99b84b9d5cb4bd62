"""Qwen-Bailian (alibaba-edu/qwen-bailian-usagetraces-anon, "KVCache Cache in the Wild", USENIX ATC'25): two hours of a cloud's chat and API
requests. JSONL with timestamp in seconds, input_length, output_length, hash_ids of 16-token blocks, and the shape of conversations:
chat_id, parent_chat_id (-1 for the first turn), turn, type (text, search, image, file).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import shown
from simserve.workload.readers.columns import ReadOptions, TraceColumns, count_of
from simserve.workload.readers.hashed_lines import contents, read_rows, seconds
from simserve.workload.readers.json_lines import number, text
from simserve.workload.readers.names import encode_names
from simserve.workload.requests import I64
from simserve.workload.source import Source

NAME = "qwen-bailian"
BLOCK_TOKENS = 16
KNOWN_BY = frozenset({"chat_id", "parent_chat_id"})
_FIELDS = frozenset({"chat_id", "parent_chat_id", "turn", "type"})
_BESIDES_TEXT = ("image", "file", "audio", "video")


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns with sessions and prefix blocks; `type` is the log type. Raises TraceError with the line of the first mistake."""
    chats: list[str] = []
    parents: list[str] = []
    types: list[str] = []

    def see(line: int, record: dict[str, Any]) -> None:
        if record.get("timestamp") is None:
            raise TraceError(f"{source.path}: line {line}: 'timestamp' is missing")
        if record.get("chat_id") is None:
            raise TraceError(f"{source.path}: line {line}: 'chat_id' is missing")
        chats.append(text(source, line, record, "chat_id"))
        parents.append(text(source, line, record, "parent_chat_id", "-1"))
        types.append(text(source, line, record, "type", "text"))
        if "turn" in record:
            number(source, line, record, "turn", whole=True, minimum=1)

    rows = read_rows(source, _FIELDS, see)
    prefix, block_evidence, remarks = contents(source, rows, NAME, BLOCK_TOKENS, options)
    arrival, unit, time_evidence = seconds(source, rows, NAME, "s", options)
    for kind in _BESIDES_TEXT:
        if kind in types:
            remarks.append(f"{count_of(types.count(kind), 'request')} of type '{kind}': only the token counts are simulated")
    return TraceColumns(
        arrival,
        rows.prompt_tokens,
        rows.output_tokens,
        session=_sessions(source, rows.lines, chats, parents),
        log_type=encode_names(source, "type", types),
        prefix=prefix,
        times_in=unit,
        evidence=("fields chat_id and parent_chat_id", *block_evidence, *time_evidence),
        unused=rows.left.names,
        remarks=(*remarks, *rows.left.remarks()),
    )


def _sessions(source: Source, lines: list[int], chats: list[str], parents: list[str]) -> I64:
    """Numbers of the conversations, by first appearance: requests with the same first turn. A first turn that an excerpt of the trace
    lacks still names its conversation."""
    parent = dict(zip(reversed(chats), reversed(parents), strict=True))
    root: dict[str, str] = {}
    out = []
    number: dict[str, int] = {}
    for line, chat in zip(lines, chats, strict=True):
        path: dict[str, None] = {}
        at = chat
        while at not in root:
            path[at] = None
            above = parent.get(at, "-1")
            if above == "-1" or at not in parent:
                root[at] = at
            elif above in path:
                raise TraceError(f"{source.path}: line {line}: 'parent_chat_id' of {shown(above)} leads back to itself")
            else:
                at = above
        for one in path:
            root[one] = root[at]
        out.append(number.setdefault(root[at], len(number)))
    return np.array(out, dtype=np.int64)
