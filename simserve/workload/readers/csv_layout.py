"""How a CSV is laid out: what separates its fields, and what its columns are called."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from simserve.errors import TraceError
from simserve.files.words import clipped
from simserve.workload.source import Source

SEPARATORS = (",", ";", "\t", "|")
_MOST_SHOWN = 12


class Layout(NamedTuple):
    """Separator and column names as written; a name is empty where the header has none (the index column of a data frame)."""

    separator: str
    header: tuple[str, ...]


def layout_of(source: Source) -> Layout:
    """The layout of the first line: the separator that gives most columns. Raises TraceError when the line cannot be one."""
    line = source.first_line()
    best = Layout(",", ())
    for separator in SEPARATORS:
        try:
            header = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator), []))
        except csv.Error as e:
            raise TraceError(f"{source.path}: line 1: no header of a CSV ({e})") from None
        if len(header) > len(best.header):
            best = Layout(separator, header)
    return best


def plain(name: str) -> str:
    """A column name without case, spaces and punctuation: 'Request tokens' and 'request_tokens' are the same."""
    return re.sub(r"[\W_]+", "", name).casefold()


def named_as(header: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Names as in the header -> names as wanted, for columns that are called alike."""
    of = {plain(name): name for name in wanted}
    exact = set(of.values())
    out: dict[str, str] = {}
    for name in header:
        if name in exact:
            out[name] = name
    for name in header:
        if plain(name) in of and of[plain(name)] not in out.values():
            out[name] = of[plain(name)]
    return out


def listed(names: Iterable[str]) -> str:
    """Column names for a message, of bounded length."""
    shown = [clipped(name, 40) or "(unnamed)" for name in names]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(shown[:_MOST_SHOWN]) + more


def rows(source: Source, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each data row, read slowly. Raises TraceError for what no CSV reader takes."""
    before = csv.field_size_limit(sys.maxsize)  # a long field is a value like any other: what asks for it says what is wrong with it
    try:
        reader = csv.reader(io.StringIO(source.data.decode("utf-8", "replace"), newline=""), delimiter=separator)
        line = 1
        try:
            header = False
            for row in reader:
                line = reader.line_num
                if row and header:
                    yield line + (source.lines_before if line > 2 else 0), row  # before that stands what is repeated
                header = header or bool("".join(row).strip())
        except csv.Error as e:
            raise TraceError(f"{source.path}: line {line + 1 + source.lines_before}: not a row of a CSV ({e})") from None
    finally:
        csv.field_size_limit(before)
