"""Mooncake (kvcache-ai/Mooncake, FAST'25): JSONL with timestamp in ms, input_length, output_length, hash_ids of 512-token blocks."""

from __future__ import annotations

import numpy as np

from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.json_lines import id_list, number, objects
from simserve.workload.requests import PrefixBlocks
from simserve.workload.source import Source

BLOCK_TOKENS = 512


def sniff(first_line: str) -> bool:
    return first_line.startswith("{") and '"hash_ids": [' in first_line.replace('":[', '": [')


def read(source: Source) -> TraceColumns:
    """Columns with prefix blocks. Raises TraceError with the line of the first mistake."""
    arrival, prompt, output, counts = [], [], [], []
    ids: list[int] = []
    for line, record in objects(source):
        arrival.append(number(source, line, record, "timestamp", whole=False) / 1e3)
        prompt.append(number(source, line, record, "input_length", whole=True))
        output.append(number(source, line, record, "output_length", whole=True))
        blocks = id_list(source, line, record, "hash_ids")
        counts.append(len(blocks))
        ids.extend(blocks)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return TraceColumns(
        np.array(arrival),
        np.array(prompt).astype(np.int64),
        np.array(output).astype(np.int64),
        prefix=PrefixBlocks(offsets, np.array(ids, dtype=np.int64), BLOCK_TOKENS),
    )
