"""Readers of trace formats, one file each. What a file is, is told by the names of its columns or fields; the readers then check that the
content agrees (`hashed_lines.py`), so that a file is not taken for what it merely looks like.

What a reader of another package is written with is here as well: `Format`, `Source`, `ReadOptions`, `TraceColumns`; `CsvTable` for CSV,
`objects`, `number` and `text` for JSONL and Parquet.
"""

from __future__ import annotations

from collections.abc import Collection

from simserve.errors import TraceError, nearest
from simserve.workload import formats
from simserve.workload.formats import Format
from simserve.workload.readers import azure, burstgpt, mooncake, qwen_bailian, ragpulse, simserve_schema, vidur
from simserve.workload.readers.columns import ReadOptions, TraceColumns
from simserve.workload.readers.csv_layout import layout_of, listed, named_as, plain
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.readers.json_lines import number, objects, parse_line, text
from simserve.workload.readers.of_package import read_by
from simserve.workload.readers.parquet_table import fields
from simserve.workload.source import Source

READERS: dict[str, Format] = {
    "burstgpt": Format(burstgpt.read, burstgpt.KNOWN_BY, about="BurstGPT, any release"),
    "azure": Format(azure.read, azure.COLUMNS, about="Azure LLM inference traces 2023, 2024, 2025"),
    "ragpulse": Format(ragpulse.read, ("session_id", "hash_ids", "input_length"), csv=False, records=True, about="RAGPulse"),
    "qwen-bailian": Format(
        qwen_bailian.read, ("chat_id", "input_length", "output_length"), csv=False, records=True, about="Qwen-Bailian usage traces"
    ),
    "mooncake": Format(
        mooncake.read, ("input_length", "output_length"), csv=False, records=True, about="Mooncake, and what load generators write like it"
    ),
    "vidur": Format(vidur.read, vidur.COLUMNS, about="Vidur's processed traces"),
    "simserve": Format(simserve_schema.read, simserve_schema.REQUIRED, records=True, about="every column of a workload"),
}
"""simserve's own formats, in the order in which a file is held against them."""


def known() -> dict[str, Format]:
    """Every format, simserve's own first. Raises ConfigError for one of a package that cannot be loaded."""
    return READERS | {name: formats.load(name) for name in formats.of_packages()}


def sniff_format(source: Source) -> str:
    """The name of the format of the file, by its columns or fields. Raises TraceError when no reader knows it."""
    line = source.first_line()
    if line.startswith("["):
        raise TraceError(f"{source.path}: line 1: begins a list; a trace is JSONL, one object a line (jq -c '.[]' makes it of a list)")
    records = source.is_parquet or line.startswith("{")
    if records:
        first = fields(source) if source.is_parquet else parse_line(line, f"{source.path}: line 1")
        if isinstance(first.get("hash_ids"), dict):
            return "ragpulse"
        found: Collection[str] = list(first)
    else:
        found = layout_of(source).header
    names = _followed(READERS, found, records) or _followed(known(), found, records)  # packages are asked about what is not our own
    if not names:
        raise _unknown(source, found, records)
    return names[0]


def _followed(readers: dict[str, Format], found: Collection[str], records: bool) -> list[str]:
    """The formats whose columns or fields are all there."""
    if records:
        return [name for name, one in readers.items() if one.records and name != "ragpulse" and set(one.known_by) <= set(found)]
    return [name for name, one in readers.items() if one.csv and len(named_as(found, one.known_by)) == len(one.known_by)]


def _unknown(source: Source, found: Collection[str], records: bool) -> TraceError:
    every = known()
    candidates = [name for name, one in every.items() if (one.records if records else one.csv)]
    alike = {plain(name) for name in found}
    other = next((name for name, one in every.items() if name not in candidates and {plain(c) for c in one.known_by} <= alike), None)
    if other:  # e.g. pandas wrote a CSV trace as Parquet
        kind = every[other].files
        return TraceError(f"{source.path}: has the columns of format '{other}', which is read as {kind} only; write it as {kind}")
    fractions = {name: sum(plain(c) in alike for c in every[name].known_by) / len(every[name].known_by) for name in candidates}
    best = max(fractions, key=lambda name: fractions[name])
    text = f"{source.path}: line 1: no known trace format has the columns {listed(found)}. "
    if fractions[best]:
        missing = [c for c in every[best].known_by if plain(c) not in alike]
        lacks = f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        text += f"Nearest is {best} (--format {best}, in an experiment workload.trace.format), but {lacks}. "
    return TraceError(text + f"Allowed: {', '.join(every)}")


def read_columns(source: Source, format: str | None, options: ReadOptions) -> tuple[str, TraceColumns]:
    """(format name, columns). Raises TraceError for an unknown format or a file that does not follow it."""
    name = format or sniff_format(source)
    if name not in formats.names():
        raise TraceError(f"unknown trace format '{name}'{nearest(name, formats.names())}")
    one = READERS[name] if name in READERS else formats.load(name)
    if source.is_parquet and not one.records:
        raise TraceError(f"{source.path}: is a Parquet file, format '{name}' is CSV")
    if not (one.records if source.is_parquet or source.first_line().startswith("{") else one.csv):
        raise TraceError(f"{source.path}: format '{name}' is {one.files}, which this file is not")
    options = options._replace(sniffed=format is None)
    try:
        return name, one.read(source, options) if name in READERS else read_by(formats.of_packages()[name].words, one, source, options)
    except TraceError as error:
        if format is None or (told := _told(source)) in ("", format):
            raise
        hint = f"it was read as '{format}', as stated (--format, workload.trace.format), and has the columns of '{told}'"
        raise TraceError(f"{error}; {hint}") from error


def _told(source: Source) -> str:
    """The format that a file's columns are of; empty where they are of none."""
    try:
        return sniff_format(source)
    except TraceError:
        return ""


__all__ = [
    "READERS",
    "CsvTable",
    "Format",
    "ReadOptions",
    "Source",
    "TraceColumns",
    "known",
    "number",
    "objects",
    "read_columns",
    "sniff_format",
    "text",
]
