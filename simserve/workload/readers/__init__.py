"""Readers of trace formats, one file each: `sniff(first_line)` knows its own, `read(source)` gives the columns."""

from __future__ import annotations

from collections.abc import Callable

from simserve.errors import TraceError, nearest
from simserve.workload.readers import azure, burstgpt, mooncake, ragpulse, simserve_schema, vidur
from simserve.workload.readers.columns import TraceColumns
from simserve.workload.source import Source

READERS: dict[str, Callable[[Source], TraceColumns]] = {
    "burstgpt": burstgpt.read,
    "azure": azure.read,
    "mooncake": mooncake.read,
    "ragpulse": ragpulse.read,
    "vidur": vidur.read,
    "simserve": simserve_schema.read,
}
_SNIFFERS: dict[str, Callable[[str], bool]] = {
    "burstgpt": burstgpt.sniff,
    "azure": azure.sniff,
    "mooncake": mooncake.sniff,
    "ragpulse": ragpulse.sniff,
    "vidur": vidur.sniff,
    "simserve": simserve_schema.sniff,
}


def sniff_format(source: Source) -> str:
    """The name of the format of the file. Raises TraceError when no reader knows it."""
    if source.is_parquet:
        return "simserve"
    line = source.first_line()
    for name, knows in _SNIFFERS.items():
        if knows(line):
            return name
    raise TraceError(f"{source.path}: line 1: no known trace format starts like '{line[:80]}'. Allowed: {', '.join(READERS)}")


def read_columns(source: Source, format: str | None) -> tuple[str, TraceColumns]:
    """(format name, columns). Raises TraceError for an unknown format or a file that does not follow it."""
    name = format or sniff_format(source)
    if name not in READERS:
        raise TraceError(f"unknown trace format '{name}'{nearest(name, READERS)}")
    if source.is_parquet and name != "simserve":
        raise TraceError(f"{source.path}: is a Parquet file, format '{name}' is text")
    return name, READERS[name](source)


__all__ = ["READERS", "TraceColumns", "read_columns", "sniff_format"]
