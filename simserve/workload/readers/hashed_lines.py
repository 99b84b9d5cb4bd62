"""Records of a time, lengths and ids of the prompt's blocks, as Mooncake and Qwen-Bailian publish them, and what tells them apart.

The two have the same names for different quantities (milliseconds and 512 tokens; seconds and 16 tokens), and tools write more variants.
So a reading is accepted on evidence: the number of ids must be that of the prompt's blocks, and the rate one that a service can have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from simserve.errors import TraceError
from simserve.workload.readers.columns import MOST_SECONDS, MOST_TOKENS, PER_SECOND, ReadOptions, count_of
from simserve.workload.readers.content_ids import ContentIds, fitting, sizes_that_fit
from simserve.workload.readers.json_lines import LeftOver, number, objects
from simserve.workload.requests import F64, I64, PrefixBlocks
from simserve.workload.source import Source

FIELDS = frozenset({"timestamp", "input_length", "output_length", "hash_ids"})

MOST_PROMPT_TOKENS_PER_S = 250_000.0
"""Four times what the densest published trace offers (Mooncake's synthetic one, 60,000 a second): above it, seconds were read as
milliseconds sooner than that the service was so large."""

LEAST_PROMPT_TOKENS_PER_S = 1.0
"""A sixth of what the sparsest published trace offers (BurstGPT_3): below it, milliseconds were read as seconds."""


class HashedRows(NamedTuple):
    """Columns in file order; `times` in the file's own unit, NaN where a record has none."""

    lines: list[int]
    times: F64
    prompt_tokens: I64
    output_tokens: I64
    ids: ContentIds
    left: LeftOver


def read_rows(source: Source, more_fields: frozenset[str], see: Callable[[int, dict[str, Any]], None]) -> HashedRows:
    """The common fields of all records; `see(line, record)` takes the others. Raises TraceError with the line of the first mistake."""
    ids, left = ContentIds(source, "hash_ids"), LeftOver(FIELDS | more_fields)
    times, prompt, output = [], [], []
    for line, record in objects(source):
        prompt.append(number(source, line, record, "input_length", whole=True, maximum=MOST_TOKENS))
        output.append(number(source, line, record, "output_length", whole=True, maximum=MOST_TOKENS))
        timed = record.get("timestamp") is not None
        times.append(number(source, line, record, "timestamp", whole=False) if timed else np.nan)
        ids.add(line, record.get("hash_ids"))
        left.see(record)
        see(line, record)
    return HashedRows(
        ids.lines, np.array(times, dtype=np.float64), np.array(prompt).astype(np.int64), np.array(output).astype(np.int64), ids, left
    )


def contents(
    source: Source, rows: HashedRows, name: str, own_tokens: int, options: ReadOptions
) -> tuple[PrefixBlocks | None, list[str], list[str]]:
    """(block ids of the prompts, evidence, remarks); no blocks when no record has ids.

    Raises TraceError where another block size fits the prompts better than the format's, or where there are more ids than prompt.
    """
    counts, tokens = rows.ids.counts, rows.prompt_tokens
    having = int(np.count_nonzero(counts))
    if not having:
        return None, [], []
    size = options.block_tokens or own_tokens
    best, fit = sizes_that_fit(tokens, counts), fitting(tokens, counts, size)
    over = counts > -(-tokens // size)
    refused = 2 * fit < having and bool(over.any()) if options.block_tokens else size not in best
    if refused:
        raise _wrong_blocks(source, rows, name, size, best)
    blocks = rows.ids.blocks(size)
    remarks = list(rows.ids.remarks)
    if bool(over.any()):
        remarks.append(f"{count_of(int(over.sum()), 'prompt')} had more content ids than blocks of {size} tokens: the rest was left out")
    short = int(np.count_nonzero((counts > 0) & (counts < tokens // size)))
    if short:
        remarks.append(f"{count_of(short, 'prompt')} had content ids for a beginning only: the rest counts as never seen before")
    if having < len(counts):
        remarks.append(f"{len(counts) - having:,} of {count_of(len(counts), 'prompt')} had no content ids: they count as never seen before")
    evidence = [f"{fit:,} of {count_of(having, 'prompt')} with ids have as many as blocks of {size} tokens"]
    return blocks.within(tokens), evidence, remarks


def _wrong_blocks(source: Source, rows: HashedRows, name: str, size: int, best: list[int]) -> TraceError:
    counts, tokens = rows.ids.counts, rows.prompt_tokens
    right = -(-tokens // size)
    row = int(np.argmax((counts > 0) & (counts != right) & (counts != tokens // size)))
    text = (
        f"{source.path}: line {rows.lines[row]}: {count_of(int(counts[row]), 'content id')} for a prompt of "
        f"{count_of(int(tokens[row]), 'token')}; blocks of {size} tokens (format {name}) would be {right[row]:,}. "
    )
    if best:
        other = next((b for b in best if b in (16, 512)), best[-1])
        bailian = " or, with times in seconds, --format qwen-bailian" if other == 16 and name != "qwen-bailian" else ""
        return TraceError(
            text + f"Blocks of {other} tokens fit; if they are meant, state --format {name} --block-tokens {other}{bailian} "
            "(in an experiment: workload.trace.format and block_tokens)"
            + ("" if bool(np.any(counts > right)) else f"; or --block-tokens {size}, if the ids are those of a beginning of the prompt")
        )
    return TraceError(
        text + "No block size fits the prompts; leave hash_ids out, or state --block-tokens (in an experiment: "
        "workload.trace.block_tokens) if the ids are those of the prompts' beginnings"
    )


def seconds(source: Source, rows: HashedRows, name: str, own_unit: str, options: ReadOptions) -> tuple[F64, str, list[str]]:
    """(times in seconds, the unit they were in, evidence). Raises TraceError when a format told by its content has an implausible rate."""
    unit = options.time_unit or own_unit
    times = rows.times / PER_SECOND[unit]
    known = times[~np.isnan(times)]
    beyond = times >= MOST_SECONDS
    if bool(beyond.any()):
        line = rows.lines[int(np.argmax(beyond))]
        raise TraceError(f"{source.path}: line {line}: 'timestamp' is {rows.times[np.argmax(beyond)]:.16g}, which cannot be {unit}")
    span = float(np.ptp(known)) if len(known) else 0.0
    evidence = []
    if span > 0:
        last = int(np.nanargmax(rows.times))
        tokens = float(rows.prompt_tokens.sum() - rows.prompt_tokens[last]) / span
        rate = (len(known) - 1) / span
        said = f"as {unit} they are {rate:,.4g} requests/s with {tokens:,.4g} prompt tokens/s"
        evidence.append(f"times {said}")
        if options.sniffed and options.time_unit is None:
            fractions = unit == "ms" and not rows.ids.any and bool(np.any(rows.times != np.floor(rows.times), where=~np.isnan(times)))
            if fractions or not LEAST_PROMPT_TOKENS_PER_S <= tokens <= MOST_PROMPT_TOKENS_PER_S:
                raise TraceError(
                    f"{source.path}: the times may be seconds or milliseconds: {said}{', and they are fractions' if fractions else ''}. "
                    f"State --format {name} ({unit}), or also --time-unit {'s' if unit == 'ms' else 'ms'} "
                    "(in an experiment: workload.trace.format and time_unit)"
                )
    return times, unit, evidence
