"""Readers of trace formats, one file each. What a file is, is told by the names of its columns or fields; the readers then check that the
content agrees (`hashed_lines.py`), so that a file is not taken for what it merely looks like."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from simserve.errors import TraceError, nearest
from simserve.workload.readers import azure, burstgpt, mooncake, qwen_bailian, ragpulse, simserve_schema, vidur
from simserve.workload.readers.columns import ReadOptions, TraceColumns
from simserve.workload.readers.csv_layout import layout_of, listed, named_as, plain
from simserve.workload.readers.json_lines import parse_line
from simserve.workload.readers.parquet_table import fields
from simserve.workload.source import Source


@dataclass(frozen=True, slots=True)
class Format:
    """What a format is known by: the columns of its header, or the fields of its records, and its reader."""

    read: Callable[[Source, ReadOptions], TraceColumns]
    known_by: tuple[str, ...]
    csv: bool = True
    records: bool = False


READERS: dict[str, Format] = {
    "burstgpt": Format(burstgpt.read, burstgpt.KNOWN_BY),
    "azure": Format(azure.read, azure.COLUMNS),
    "ragpulse": Format(ragpulse.read, ("session_id", "hash_ids", "input_length"), csv=False, records=True),
    "qwen-bailian": Format(qwen_bailian.read, ("chat_id", "input_length", "output_length"), csv=False, records=True),
    "mooncake": Format(mooncake.read, ("input_length", "output_length"), csv=False, records=True),
    "vidur": Format(vidur.read, vidur.COLUMNS),
    "simserve": Format(simserve_schema.read, simserve_schema.REQUIRED, records=True),
}


def sniff_format(source: Source) -> str:
    """The name of the format of the file, by its columns or fields. Raises TraceError when no reader knows it."""
    line = source.first_line()
    if line.startswith("["):
        raise TraceError(f"{source.path}: line 1: begins a list; a trace is JSONL, one object a line (jq -c '.[]' makes it of a list)")
    if source.is_parquet or line.startswith("{"):
        return _by_fields(source, fields(source) if source.is_parquet else parse_line(line, f"{source.path}: line 1"))
    header = layout_of(source).header
    for name, known in READERS.items():
        if known.csv and len(named_as(header, known.known_by)) == len(known.known_by):
            return name
    raise _unknown(source, header, [name for name, known in READERS.items() if known.csv])


def _by_fields(source: Source, first: dict[str, object]) -> str:
    if "hash_ids" in first and isinstance(first["hash_ids"], dict):
        return "ragpulse"
    for name, known in READERS.items():
        if known.records and name != "ragpulse" and set(known.known_by) <= first.keys():
            return name
    raise _unknown(source, list(first), [name for name, known in READERS.items() if known.records])


def _unknown(source: Source, found: Collection[str], candidates: list[str]) -> TraceError:
    alike = {plain(name) for name in found}
    other = next((name for name, known in READERS.items() if name not in candidates and {plain(c) for c in known.known_by} <= alike), None)
    if other:  # e.g. pandas wrote a CSV trace as Parquet
        kind = "CSV" if READERS[other].csv else "JSONL"
        return TraceError(f"{source.path}: has the columns of format '{other}', which is read as {kind} only; write it as {kind}")
    shares = {name: sum(plain(c) in alike for c in READERS[name].known_by) / len(READERS[name].known_by) for name in candidates}
    best = max(shares, key=lambda name: shares[name])
    text = f"{source.path}: line 1: no known trace format has the columns {listed(found)}. "
    if shares[best]:
        missing = [c for c in READERS[best].known_by if plain(c) not in alike]
        lacks = f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        text += f"Nearest is {best} (--format {best}, in an experiment workload.trace.format), but {lacks}. "
    return TraceError(text + f"Allowed: {', '.join(READERS)}")


def read_columns(source: Source, format: str | None, options: ReadOptions) -> tuple[str, TraceColumns]:
    """(format name, columns). Raises TraceError for an unknown format or a file that does not follow it."""
    name = format or sniff_format(source)
    if name not in READERS:
        raise TraceError(f"unknown trace format '{name}'{nearest(name, READERS)}")
    if source.is_parquet and not READERS[name].records:
        raise TraceError(f"{source.path}: is a Parquet file, format '{name}' is CSV")
    is_record = source.is_parquet or source.first_line().startswith("{")
    if is_record != READERS[name].records and name != "simserve":
        raise TraceError(f"{source.path}: format '{name}' is {'CSV' if READERS[name].csv else 'JSONL'}, which this file is not")
    return name, READERS[name].read(source, options._replace(sniffed=format is None))


__all__ = ["READERS", "ReadOptions", "TraceColumns", "read_columns", "sniff_format"]
