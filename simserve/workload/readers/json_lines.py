"""Records of JSONL, or of a Parquet file with the same fields, into Python objects and checked numbers, with the line of a mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from simserve.errors import TraceError
from simserve.files.words import clipped, shown
from simserve.workload.readers import unused
from simserve.workload.readers.csv_layout import listed
from simserve.workload.source import Source

_MOST_INTEGER = 2**53  # above it, not every whole number is a floating-point number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise KeyError(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODE = json.JSONDecoder(object_pairs_hook=_object).decode


def parse_line(line: str, where: str) -> dict[str, Any]:
    """The object in a line. Raises TraceError for anything else, nesting without end and repeated keys included."""
    try:
        value = _DECODE(line)
    except json.JSONDecodeError as e:
        raise TraceError(f"{where}: not JSON ({e.msg} at column {e.colno}); is the file cut short?") from None
    except RecursionError:
        raise TraceError(f"{where}: not JSON of a trace (nested too deeply)") from None
    except KeyError as e:
        raise TraceError(f"{where}: key {shown(e.args[0])} is there twice") from None
    except ValueError:  # Python's own limit of 4,300 digits
        raise TraceError(f"{where}: not JSON of a trace (a number of thousands of digits)") from None
    if not isinstance(value, dict):
        raise TraceError(f"{where}: a JSON object is expected, found {shown(value)}")
    return value


def objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank, or (row from 1, object) of a Parquet file's rows, nulls left out."""
    if source.is_parquet:
        from simserve.workload.readers.parquet_table import records

        yield from records(source)
        return
    for number, line in enumerate(source.data.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{source.path}: line {number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise TraceError(f"{where}: not UTF-8 text") from None
        yield number, parse_line(text, where)


def number(
    source: Source,
    line: int,
    record: dict[str, Any],
    key: str,
    *,
    whole: bool,
    minimum: float | None = 0.0,
    maximum: float = _MOST_INTEGER,
) -> float:
    """record[key] as a finite number from minimum to maximum; numbers in quotes count. Raises TraceError naming line and key."""
    if key not in record:
        raise TraceError(f"{source.path}: line {line}: '{key}' is missing; found {listed(record)}")
    raw = record[key]

    def wrong(what: str) -> TraceError:
        return TraceError(f"{source.path}: line {line}: '{key}' is {shown(raw)}, {what}")

    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)) or (isinstance(raw, str) and "_" in raw):
        raise wrong("not a number")
    try:
        value = float(raw)
    except ValueError:
        raise wrong("not a number") from None
    except OverflowError:
        value = 2 * maximum if isinstance(raw, int) and raw > 0 else -2 * maximum
    if value != value or value in (float("inf"), float("-inf")):
        raise wrong("not a finite number")
    if minimum is not None and value < minimum:
        raise wrong("must not be negative" if minimum == 0 else f"must be at least {minimum:g}")
    if abs(value) > maximum:
        raise wrong(f"more than {maximum:,.0f}")
    if whole and value != int(value):
        raise wrong("not a whole number")
    return value


def text(source: Source, line: int, record: dict[str, Any], key: str, default: str = "") -> str:
    """record[key] as a name: text, or a whole number as text; absent or null = the default."""
    raw = record.get(key)
    if raw is None:
        return default
    if isinstance(raw, bool) or not isinstance(raw, (str, int)) or (isinstance(raw, int) and abs(raw) > 2**64):
        raise TraceError(f"{source.path}: line {line}: '{key}' is {shown(raw)}, not a name")
    return str(raw)


class LeftOver:
    """Keys of records that a reader does not use, and how much they state where that is work."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._amounts: dict[str, list[float]] = {}
        self._rows = 0

    def see(self, record: dict[str, Any]) -> None:
        """Takes note of one record."""
        self._rows += 1
        for key in record.keys() - self._known:
            sizes = self._amounts.setdefault(key, [])
            if unused.means_work(key):
                sizes.append(unused.amount(record[key]))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(clipped(name) for name in sorted(self._amounts))

    def remarks(self) -> tuple[str, ...]:
        """One sentence a key of work."""
        out = []
        for name in sorted(self._amounts):
            sizes = self._amounts[name]
            said = unused.remark(clipped(name), [*((size, 1) for size in sizes), (0.0, self._rows - len(sizes))])
            out += [said] if said else []
        return tuple(out)
