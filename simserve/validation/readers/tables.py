"""Tables of measured runs, and who reads them.

simserve reads the result files of load generators. A published data set has a schema of its own: its users provide a
`TableReader` for each schema, either to `validate_serving` and `read_measurements`, or on the command line as the module that lists
them (`--readers MODULE`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import ConfigError
from simserve.files.words import clipped
from simserve.validation.case import Case

if TYPE_CHECKING:
    import pandas as pd

LISTED_AS = "TABLES"
"""The name under which a module lists its readers."""

BUNDLED = "benchmarks.measured_runs"
"""Readers of the data sets that the bundled engine profiles are judged by; part of a checkout, not of an installed simserve."""


_WITHOUT_READERS = (
    "; simserve itself reads results of load generators (JSON), readers of tables are given with --readers MODULE. Those of the published"
    f" data sets in docs/serving-validation.md are in a checkout of simserve: --readers {BUNDLED}"
)


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads the Parquet tables of one schema, whatever they are called.

    name     of the schema, for messages
    columns  those by which its tables are known: a table belongs to the first reader whose columns it has
    read     (table, name of the data set) -> cases; a row that cannot be simulated is a case that is skipped with its reason. Categories
             arrive as plain objects. Whatever it raises becomes a ConfigError that names the file
    """

    name: str
    columns: frozenset[str]
    read: Callable[[pd.DataFrame, str], Iterable[Case]]


def readers_of(module: str) -> tuple[TableReader, ...]:
    """The readers that a module lists as `TABLES`; it is looked for in the working directory, then where Python looks.

    Raises ConfigError for a module that cannot be imported or lists something else.
    """
    try:
        with _working_directory_first():
            found = importlib.import_module(module)
    except Exception as problem:  # a module from elsewhere may fail in any way while it is imported
        raise ConfigError(
            f"readers '{clipped(module)}' cannot be imported ({type(problem).__name__}: {clipped(str(problem), 200)}){_hint(module)}"
        ) from problem
    listed = getattr(found, LISTED_AS, None)
    if not (isinstance(listed, Sequence) and listed and all(isinstance(one, TableReader) for one in listed)):
        raise ConfigError(
            f"readers '{clipped(module)}': the module must list its readers as {LISTED_AS}, a sequence of"
            " simserve.validation.readers.TableReader"
        )
    return tuple(listed)


def read_table(file: Path, readers: Sequence[TableReader]) -> list[Case]:
    """The cases of one Parquet table. Raises ConfigError: not a table, of no known schema, or not sound."""
    import pandas as pd

    try:
        table = pd.read_parquet(file)
    except Exception as problem:  # pyarrow raises several unrelated types
        raise ConfigError(f"{file}: not a readable Parquet table ({clipped(str(problem) or type(problem).__name__, 120)})") from None
    reader = next((one for one in readers if one.columns <= set(table.columns)), None)
    if reader is None:
        columns = clipped(", ".join(map(str, table.columns)), 300)
        raise ConfigError(f"{file}: no reader for a table with the columns {columns}{'' if readers else _WITHOUT_READERS}")
    try:
        return list(reader.read(_plain(table), file.stem))
    except Exception as problem:  # a column or a value that this kind of table does not have: the reader need not foresee which
        said = clipped(f"{type(problem).__name__}: {problem}", 100)
        raise ConfigError(f"{file}: not a sound table of the kind that its columns say ({reader.name}: {said})") from problem


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Categories as plain strings, so that missing values and comparisons behave."""
    return table.assign(**{c: table[c].astype(object) for c in table.columns if str(table[c].dtype) == "category"})


def _hint(module: str) -> str:
    return "; it comes with a checkout of simserve: run the command there" if module.split(".")[0] == BUNDLED.split(".")[0] else ""


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """As `python -m` has it: a checkout's own `benchmarks` comes before another's. The script `simserve` looks elsewhere only."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
