"""The steps of a run, one row each, expanded from the spans of the lanes: `Result.steps` and steps.parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import LaneLog, RunRecords
from simserve.report.arrow import column
from simserve.report.drafts import speculates
from simserve.report.request_file import Column

STEP_COLUMNS: tuple[Column, ...] = (
    Column("instance", "", "number of the instance, from 0"),
    Column("lane", "", "lane of the instance (0 without pipeline parallelism)"),
    Column("step", "", "number of the step on its lane, from 0"),
    Column("start_s", "s", "when the step began"),
    Column("end_s", "s", "when the step ended"),
    Column("decode_requests", "requests", "requests that decoded one token each"),
    Column("context_tokens", "tokens", "tokens attended by the queries of the decoding requests"),
    Column("prefill_requests", "requests", "prompt chunks in the step"),
    Column("prefill_tokens", "tokens", "new prompt tokens in the step"),
    Column("prefill_pairs", "pairs", "(query, key) pairs of the chunks"),
    Column("layer_group", "", "group of layers that the chunks passed through, from 0; they are computed after the last"),
    Column("layer_groups", "", "of how many groups; 1 = all layers"),
    Column("kv_blocks", "blocks", "KV blocks in use on the instance in the last step of the step's span"),
    Column("waiting", "requests", "requests in the waiting queue when the step's span was planned"),
)

SPECULATION_COLUMNS: tuple[Column, ...] = (
    Column("drafted_tokens", "tokens", "drafted tokens that the decoding requests computed beside their own"),
    Column("accepted_tokens", "tokens", "of them, those that the requests got"),
    Column("verify_requests", "requests", "requests whose drafted tokens a policy had verified in slices of their own"),
    Column("verify_tokens", "tokens", "tokens of these slices, the ordinary one of each included"),
)
"""Further columns of runs with speculative decoding."""

_ALL = STEP_COLUMNS + SPECULATION_COLUMNS

_ROWS_PER_GROUP = 1 << 20


def columns_of(records: RunRecords) -> tuple[Column, ...]:
    """The columns of a run's steps."""
    return STEP_COLUMNS + (SPECULATION_COLUMNS if speculates(records) else ())


def step_columns(lane: LaneLog, from_span: int = 0, to_span: int | None = None) -> dict[str, NDArray[Any]]:
    """The columns STEP_COLUMNS and SPECULATION_COLUMNS of the steps of the spans from_span .. to_span - 1 of a lane."""
    spans = slice(from_span, len(lane.span_steps) if to_span is None else to_span)
    steps = lane.span_steps[spans]
    if not len(steps):
        return {name: np.empty(0, dtype=np.float64 if name.endswith("_s") else np.int64) for name, _, _ in _ALL}
    first = int(lane.span_first_step[spans][0])
    number = np.arange(first, first + int(steps.sum()), dtype=np.int64)

    def expand(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values[spans], steps)

    since_span_start = number - expand(lane.span_first_step)
    end_s = lane.step_end_s[first : first + len(number)]
    start_s = np.concatenate([end_s[:1], end_s[:-1]])
    start_s[lane.span_first_step[spans] - first] = lane.span_start_s[spans]
    decode = expand(lane.span_decode_requests)
    group, groups = lane.layer_group()
    ticks = _ticks(lane, spans.start, decode > 0)
    context = expand(lane.span_context_tokens) + since_span_start * decode
    verified = np.zeros((2, len(lane.span_steps)), dtype=np.int64)
    if len(lane.verified):
        verified[:, lane.verified[:, 0]] = lane.verified[:, 1:3].T
    return {
        "instance": np.full(len(number), lane.instance, dtype=np.int64),
        "lane": np.full(len(number), lane.lane, dtype=np.int64),
        "step": number,
        "start_s": start_s,
        "end_s": end_s,
        "decode_requests": decode,
        "context_tokens": ticks[:, 2] if len(lane.ticks) else context,
        "prefill_requests": expand(lane.span_prefill_requests),
        "prefill_tokens": expand(lane.span_prefill_tokens),
        "prefill_pairs": expand(lane.span_prefill_pairs),
        "layer_group": expand(group),
        "layer_groups": expand(groups),
        "kv_blocks": expand(lane.span_kv_blocks),
        "waiting": expand(lane.span_waiting),
        "drafted_tokens": ticks[:, 0],
        "accepted_tokens": ticks[:, 1],
        "verify_requests": expand(verified[0]),
        "verify_tokens": expand(verified[1]),
    }


def _ticks(lane: LaneLog, from_span: int, decodes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lane's ticks (see LaneLog) by step, for the steps from those of a span on, of which some decode; zeros elsewhere."""
    rows = np.zeros((len(decodes), 4), dtype=np.int64)
    if len(lane.ticks):
        before = int(lane.span_steps[:from_span][lane.span_decode_requests[:from_span] > 0].sum())
        rows[decodes] = lane.ticks[before : before + int(decodes.sum())]
    return rows


def step_parts(records: RunRecords) -> Iterator[dict[str, NDArray[Any]]]:
    """All steps, lane by lane, in pieces of about a million rows (one span is never split)."""
    for lane in records.lanes:
        ends = np.cumsum(lane.span_steps)
        begin = 0
        while begin < len(ends):
            done = int(ends[begin - 1]) if begin else 0
            stop = max(begin + 1, int(np.searchsorted(ends, done + _ROWS_PER_GROUP, side="right")))
            yield step_columns(lane, begin, stop)
            begin = stop


def write_steps(records: RunRecords, path: Path) -> None:
    """Write steps.parquet in row groups, in bounded memory. Same run, same bytes."""
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    fields = [
        pa.field(name, pa.float64() if name.endswith("_s") else pa.int64(), metadata={"unit": unit, "meaning": meaning})
        for name, unit, meaning in columns_of(records)
    ]
    schema = pa.schema(fields, metadata={"simserve_schema": "steps/1"})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in step_parts(records):
            writer.write_table(pa.Table.from_arrays([column(part[name]) for name in schema.names], schema=schema))
