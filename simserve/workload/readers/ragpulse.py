"""RAGPulse (flashserve/RAGPulse, arXiv 2511.12979): a week of a question-answering service with sessions, retrieval and block ids.

A prompt is a list of segments (system prompt, passages, history, web search, user input); their lengths lie in five side files beside
the trace. Segments differ in length, so they are cut into blocks of 64 tokens: a block's identity is what stands in it and before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import shown
from simserve.workload.readers.columns import MOST_SECONDS, MOST_TOKENS, ReadOptions, TraceColumns, count_of
from simserve.workload.readers.json_lines import LeftOver, number, objects, text
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


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns with sessions, and prefix blocks where the side files lie beside the trace. Raises TraceError with the line of a mistake."""
    lengths = _segment_lengths(source.path.parent)
    left = LeftOver(frozenset({"timestamp", "input_length", "output_length", "session_id", "hash_ids"}))
    arrival, prompt, output, counts, sessions = [], [], [], [], []
    unknown = 0
    session_number: dict[str, int] = {}
    block_number: dict[tuple[Any, ...], int] = {}
    ids: list[int] = []
    for line, record in objects(source):
        left.see(record)
        arrival.append(number(source, line, record, "timestamp", whole=False, maximum=MOST_SECONDS))
        prompt.append(number(source, line, record, "input_length", whole=True, maximum=MOST_TOKENS))
        output.append(number(source, line, record, "output_length", whole=True, maximum=MOST_TOKENS))
        sessions.append(session_number.setdefault(text(source, line, record, "session_id", "None"), len(session_number)))
        segments = record.get("hash_ids", {})
        if not isinstance(segments, dict):
            raise TraceError(f"{source.path}: line {line}: 'hash_ids' must be an object of id lists, found {shown(segments)}")
        if lengths is None:
            continue
        before = len(ids)
        most = int(prompt[-1]) // BLOCK_TOKENS
        parent, filled, content = -1, 0, []
        for key, _, _ in _SEGMENTS:
            for segment in _ids(source, line, segments, key):
                unknown += segment not in lengths[key]
                start, ahead = 0, lengths[key].get(segment, 0)
                while ahead and len(ids) - before < most:
                    take = min(ahead, BLOCK_TOKENS - filled)
                    content.append((segment, start, take))
                    start, ahead, filled = start + take, ahead - take, filled + take
                    if filled == BLOCK_TOKENS:
                        parent = block_number.setdefault((parent, *content), len(block_number))
                        ids.append(parent)
                        filled, content = 0, []
        counts.append(len(ids) - before)
    prefix = None
    remarks = list(left.remarks())
    if lengths is None:
        remarks.append("the side files with the lengths of the segments are not beside the trace: what prompts contain is unknown")
    else:
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        prefix = PrefixBlocks(offsets, np.array(ids, dtype=np.int64), BLOCK_TOKENS)
        if unknown:
            remarks.append(f"{count_of(unknown, 'segment')} of prompts had no length in the side files: taken as empty")
    return TraceColumns(
        np.array(arrival),
        np.array(prompt).astype(np.int64),
        np.array(output).astype(np.int64),
        session=np.array(sessions, dtype=np.int64),
        prefix=prefix,
        times_in="s",
        evidence=("hash_ids by kind of segment, and session_id",),
        unused=left.names,
        remarks=tuple(remarks),
    )


def _ids(source: Source, line: int, segments: dict[str, Any], key: str) -> list[int]:
    ids = segments.get(key, [])
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise TraceError(f"{source.path}: line {line}: '{key}' is {shown(ids)}, not a list of integers")
    return ids


def _segment_lengths(folder: Path) -> dict[str, dict[int, int]] | None:
    """Tokens of each segment by its id, by kind of segment; None when the side files are not all there."""
    out: dict[str, dict[int, int]] = {}
    for key, stem, column in _SEGMENTS:
        found = [p for p in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if p.is_file()]
        if not found:
            return None
        side = open_source(found[0])
        out[key] = {
            int(number(side, line, record, column, whole=True)): int(
                number(side, line, record, "token_length", whole=True, maximum=MOST_TOKENS)
            )
            for line, record in objects(side)
        }
    return out
