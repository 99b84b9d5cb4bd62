"""The trace formats there are: simserve's own by name, and those of installed packages, which are loaded when a file may be one of them.

A package names a `Format` in the entry-point group `simserve.trace_formats` (docs/workloads.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from simserve import plugins
from simserve.errors import ConfigError

if TYPE_CHECKING:
    from simserve.workload.readers.columns import ReadOptions, TraceColumns
    from simserve.workload.source import Source

GROUP = "simserve.trace_formats"

OWN = ("burstgpt", "azure", "mooncake", "qwen-bailian", "ragpulse", "vidur", "simserve")
"""Names that no package can take. `readers.READERS` has the formats."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a format is known by, and its reader.

    read      (Source, ReadOptions) -> TraceColumns; raises TraceError with file and line for a file that does not follow the format
    known_by  the columns of a CSV's header, or the fields of its records, that a file of this format has
    csv       a file of it may be CSV
    records   a file of it may be JSONL, or Parquet with the same fields
    about     a few words for listings
    """

    read: Callable[[Source, ReadOptions], TraceColumns]
    known_by: tuple[str, ...]
    csv: bool = True
    records: bool = False
    about: str = ""

    @property
    def files(self) -> str:
        """'CSV', 'JSONL' or 'CSV or JSONL'."""
        return " or ".join(name for name, may in (("CSV", self.csv), ("JSONL", self.records)) if may)


@cache
def of_packages() -> dict[str, plugins.Plugin]:
    """Formats that are not simserve's own, by name. Nothing is imported."""
    return {name: plugin for name, plugin in plugins.found(GROUP).items() if name not in OWN}


def names() -> tuple[str, ...]:
    """Every name that `workload.trace.format` may have."""
    return (*OWN, *of_packages())


@lru_cache(maxsize=64)
def load(name: str) -> Format:
    """The format of a package. Raises ConfigError, which names the package, where it is none."""
    plugin = of_packages()[name]
    found = plugin.load()
    problem = ""
    if not isinstance(found, Format) or not callable(found.read):
        problem = "it must be a simserve.workload.formats.Format"
    elif not (isinstance(found.known_by, tuple) and found.known_by and all(isinstance(column, str) for column in found.known_by)):
        problem = "its known_by must name at least one column"
    elif not (found.csv or found.records):
        problem = "it must be read from CSV or from records"
    if problem:
        raise ConfigError(f"{plugin.words}: {problem}")
    assert isinstance(found, Format)
    return found
