"""Mooncake (kvcache-ai/Mooncake, FAST'25): JSONL with timestamp in ms, input_length, output_length, hash_ids of 512-token blocks.

Variants that load generators read (AIPerf's mooncake_trace): no ids; no times; `session_id` with `delay`, the ms between the answer to a
session's last turn and this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.workload.readers.columns import PER_SECOND, ReadOptions, TraceColumns, count_of
from simserve.workload.readers.hashed_lines import contents, read_rows, seconds
from simserve.workload.readers.json_lines import number, text
from simserve.workload.requests import I64
from simserve.workload.source import Source

NAME = "mooncake"
BLOCK_TOKENS = 512
_FIELDS = frozenset({"session_id", "delay"})


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns with prefix blocks. Raises TraceError with the line of the first mistake."""
    sessions: list[int] = []
    numbers: dict[str, int] = {}
    delays: list[float] = []
    both = 0

    def see(line: int, record: dict[str, Any]) -> None:
        nonlocal both
        session = record.get("session_id")
        sessions.append(-1 if session is None else numbers.setdefault(text(source, line, record, "session_id"), len(numbers)))
        delayed = record.get("delay") is not None and record.get("timestamp") is None
        both += bool(record.get("delay")) and not delayed
        delays.append(number(source, line, record, "delay", whole=False) if delayed else np.nan)

    rows = read_rows(source, _FIELDS, see)
    prefix, block_evidence, remarks = contents(source, rows, NAME, BLOCK_TOKENS, options)
    if both:
        remarks.append(f"{count_of(both, 'request')} had a 'timestamp' and a 'delay': the timestamp was taken")
    arrival, unit, time_evidence = seconds(source, rows, NAME, "ms", options)
    session, delay = np.array(sessions, dtype=np.int64), np.array(delays)
    timed = ~np.isnan(arrival) | ~np.isnan(delay)
    if bool(timed.any()) and not bool(timed.all()):
        line = rows.lines[int(np.argmin(timed))]
        raise TraceError(f"{source.path}: line {line}: has neither 'timestamp' nor 'delay', which others have")
    lengths_only = not bool(timed.any())
    after = np.full(len(arrival), -1) if lengths_only else _waits_for(source, rows.lines, session, np.isnan(arrival))
    return TraceColumns(
        None if lengths_only else np.where(after >= 0, delay / PER_SECOND[unit], arrival),
        rows.prompt_tokens,
        rows.output_tokens,
        session=session if numbers else None,
        after=after if bool(np.any(after >= 0)) else None,
        prefix=prefix,
        times_in=None if lengths_only else unit,
        evidence=(*block_evidence, *time_evidence),
        unused=rows.left.names,
        remarks=(*remarks, *rows.left.remarks()),
    )


def _waits_for(source: Source, lines: list[int], session: I64, untimed: Any) -> I64:
    """The row that each row with a delay waits for: the last turn of its session."""
    after = np.full(len(session), -1, dtype=np.int64)
    last: dict[int, int] = {}
    for row, (number_of, waits) in enumerate(zip(session.tolist(), untimed.tolist(), strict=True)):
        if waits:
            if number_of not in last or number_of < 0:
                raise TraceError(
                    f"{source.path}: line {lines[row]}: 'delay' counts from the answer to an earlier turn, and no line above has the same "
                    "'session_id'; give the first turn of a session its 'timestamp'"
                )
            after[row] = last[number_of]
        last[number_of] = row
    return after
