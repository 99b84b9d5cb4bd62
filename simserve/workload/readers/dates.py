"""Dates and times of day as seconds: ISO 8601 with or without zone offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

from simserve.workload.requests import F64, I64

_DAY_NS = 86_400_000_000_000
_ISO = re.compile(
    r"(\d{4})([-/])(\d{1,2})\2(\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9})\d*)?)?)?"
    r"\s*(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?\Z"
)
_EITHER_WAY = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\b")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DateError(ValueError):
    """A text that is no date and time: `row` (from 0) and what is wrong with it."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row


def seconds_of_dates(texts: list[str]) -> F64:
    """Seconds since the first row's day began (UTC where the texts state a zone), to the nanosecond the texts give.

    Raises DateError for a text that is no ISO date and time, or that states a zone while others do not.
    """
    return since_first_day(_nanoseconds(texts))


def since_first_day(ns: I64) -> F64:
    """Nanoseconds on any clock as seconds since the first row's day began."""
    seconds: F64 = (ns - ns[0] // _DAY_NS * _DAY_NS) / 1e9
    return seconds


def looks_like_date(text: str) -> bool:
    """Whether a field holds a date rather than a number."""
    return bool(_ISO.match(text.strip()) or _EITHER_WAY.match(text.strip()))


def _nanoseconds(texts: list[str]) -> I64:
    import pyarrow as pa

    array = pa.array(texts, pa.string())
    for zone in (None, "UTC"):  # all without, or all with an offset: Arrow's own parser is a hundred times as fast as ours
        try:
            cast = array.cast(pa.timestamp("ns", zone))
        except pa.ArrowException:
            continue
        return np.frombuffer(cast.buffers()[1], dtype=np.int64)[: len(texts)].copy()
    found = [_parse(row, text.strip()) for row, text in enumerate(texts)]
    zoned = [has_zone for _, has_zone in found]
    if any(zoned) and not all(zoned):
        row = zoned.index(not zoned[0])
        raise DateError(row, "has no zone offset, as others have" if zoned[0] else "has a zone offset, which others have not")
    return np.array([ns for ns, _ in found], dtype=np.int64)


def _parse(row: int, text: str) -> tuple[int, bool]:
    found = _ISO.match(text)
    if found is None:
        if _EITHER_WAY.match(text):
            raise DateError(row, "may be day or month first; write dates as 2024-01-31 00:00:05")
        raise DateError(row, "not a date and time")
    digits, fraction, zone = found.group(1, 3, 4, 5, 6, 7), found.group(8), found.group(9)
    year, month, day, hour, minute, second = (int(part or 0) for part in digits)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_zone(zone))
    except (ValueError, OverflowError):
        raise DateError(row, "not a date and time") from None
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    ns = whole * 10**9 + int((fraction or "0").ljust(9, "0"))
    if abs(ns) >= 2**63:
        raise DateError(row, "not a date and time between 1678 and 2261")
    return ns, zone is not None


def _zone(text: str | None) -> timezone:
    if text is None or text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
