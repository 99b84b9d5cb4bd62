"""RAGPulse (flashserve/RAGPulse, arXiv 2511.12979): a week of a question-answering service with sessions, retrieval and block ids.

A prompt is a list of segments (system prompt, passages, history, web search, user input); their lengths lie in five side files beside
the trace. Segments differ in length, so they are cut into blocks of 64 tokens: a block's identity is what stands in it and before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.json_lines import id_list, number, objects
from simserve.workload.requests import PrefixBlocks
from simserve.workload.source import Source, open_source

BLOCK_TOKENS = 64
# Order of the segments in the prompt, the side file that gives their lengths and its id column.
_SEGMENTS = (
    ("sys_prompt", "1_sys_prompt", "sys_prompt_id"),
    ("passages_ids", "2_passages", "passage_id"),
    ("history", "3_history", "history_id"),
    ("web_search", "5_web_search", "web_search_id"),
    ("user_input", "4_user_input", "user_input_id"),
)


def sniff(first_line: str) -> bool:
    return first_line.startswith("{") and '"session_id"' in first_line and '"hash_ids": {' in first_line.replace('":{', '": {')


def read(source: Source) -> TraceColumns:
    """Columns with sessions, and prefix blocks where the side files lie beside the trace. Raises TraceError with the line of a mistake."""
    lengths = _segment_lengths(source.path.parent)
    arrival, prompt, output, counts, sessions = [], [], [], [], []
    session_number: dict[str, int] = {}
    block_number: dict[tuple[Any, ...], int] = {}
    ids: list[int] = []
    for line, record in objects(source):
        arrival.append(number(source, line, record, "timestamp", whole=False))
        prompt.append(number(source, line, record, "input_length", whole=True))
        output.append(number(source, line, record, "output_length", whole=True))
        sessions.append(session_number.setdefault(str(record.get("session_id")), len(session_number)))
        segments = record.get("hash_ids", {})
        if not isinstance(segments, dict):
            raise TraceError(f"{source.path}: line {line}: 'hash_ids' must be an object of id lists")
        if lengths is None:
            continue
        before = len(ids)
        parent, filled, content = -1, 0, []
        for key, _, _ in _SEGMENTS:
            for segment in id_list(source, line, segments, key):
                start, left = 0, lengths[key].get(segment, 0)
                while left:
                    take = min(left, BLOCK_TOKENS - filled)
                    content.append((segment, start, take))
                    start, left, filled = start + take, left - take, filled + take
                    if filled == BLOCK_TOKENS:
                        parent = block_number.setdefault((parent, *content), len(block_number))
                        ids.append(parent)
                        filled, content = 0, []
        counts.append(min(len(ids) - before, int(prompt[-1]) // BLOCK_TOKENS))
        del ids[before + counts[-1] :]
    prefix = None
    if lengths is not None:
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        prefix = PrefixBlocks(offsets, np.array(ids, dtype=np.int64), BLOCK_TOKENS)
    return TraceColumns(
        np.array(arrival),
        np.array(prompt).astype(np.int64),
        np.array(output).astype(np.int64),
        session=np.array(sessions, dtype=np.int64),
        prefix=prefix,
        notes={} if lengths is not None else {"prefix": "side files with segment lengths not found beside the trace"},
    )


def _segment_lengths(folder: Path) -> dict[str, dict[int, int]] | None:
    """Tokens of each segment by its id, by kind of segment; None when the side files are not all there."""
    out: dict[str, dict[int, int]] = {}
    for key, stem, column in _SEGMENTS:
        found = [p for p in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if p.is_file()]
        if not found:
            return None
        side = open_source(found[0])
        out[key] = {
            int(number(side, line, record, column, whole=True)): int(number(side, line, record, "token_length", whole=True))
            for line, record in objects(side)
        }
    return out
