"""What the commands of studies share: values of options, and a table of figures on stdout."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from simserve.cli.failures import INTERRUPTED, handled
from simserve.cli.signals import TERMINATED, TerminatedError
from simserve.errors import ConfigError, OutputError

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS = 60


def changed(options: Iterable[str] | None) -> dict[str, Any]:
    """`--set key=value` options as values by key. Raises ConfigError."""
    from simserve.config.overrides import split

    return dict(split(text) for text in options or ())


PRICES = typer.Option(metavar="FILE", help="A price list in place of simserve's own (docs/planning.md).")
"""The option of every command that says what runs cost."""


def priced(changes: Iterable[str] | None, prices: Path | None) -> dict[str, Any]:
    """`--set key=value` options as values by key, and --prices as the key that it sets. Raises ConfigError."""
    return changed(changes) | ({} if prices is None else {"prices.file": str(prices.resolve())})


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """'0,1,2' as numbers. Raises ConfigError."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: expected whole numbers with commas between them, such as 0,1,2") from None


def show_frame(frame: pd.DataFrame, keys: int = 1) -> None:
    """The first rows of a table on stdout; seconds as milliseconds where they are few. The first `keys` columns name the rows."""
    from simserve.cli.study_tables import show
    from simserve.study.cells import headings

    seconds = [str(name).endswith(("_s", "_s_per_token")) and not str(name).endswith("_per_s") for name in frame.columns]
    rows = [[_cell(*cell) for cell in zip(row, seconds, strict=True)] for row in frame.head(_MAX_ROWS).itertuples(index=False)]
    left = len(frame) - len(rows)
    show(headings([str(name) for name in frame.columns]), rows, keys, f"and {left:,} more rows" if left > 0 else "")


def _cell(value: Any, seconds: bool) -> str:
    from simserve.report.rows import milliseconds, number

    if isinstance(value, str) or value is None:
        return value or "-"
    if str(value) in ("True", "False"):  # numpy's truth values are not Python's
        return "yes" if value else "no"
    if value != value:
        return "-"
    return milliseconds(float(value)) if seconds else number(float(value))


def fraction(text: str, option: str) -> float:
    """'2%' or '0.02' as a fraction. Raises ConfigError."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not math.isfinite(value):
        raise ConfigError(f"{option} {text}: expected a fraction such as 2% or 0.02")
    return value


class Load(NamedTuple):
    """A load as it was asked for. per_s: in requests/s, whatever the search counts."""

    amount: float
    unit: str
    per_s: bool


def load_of(text: str, rate_key: str) -> Load:
    """'12/s', '12x' or '12' of --rate. Raises ConfigError for what is no load, or a unit that the search at `rate_key` does not have."""
    from simserve.study.rate_key import unit

    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(x|/s|requests/s|clients)?\s*", text)
    try:
        amount = float(match[1]) if match else math.nan
    except ValueError:
        amount = math.nan
    if not match or not 0 < amount < math.inf:
        raise ConfigError(f"--rate {text[:40]}: expected a load above 0 such as 12/s (requests/s), 12x (a scale) or 12")
    said, own = match[2], unit(rate_key)
    if said in ("/s", "requests/s"):
        return Load(amount, "requests/s", True)
    if (said == "x" and not own.startswith("x ")) or (said == "clients" and own != "clients"):
        raise ConfigError(f"--rate {text}: this search counts {own}; say it so, or in requests/s (--rate 12/s)")
    return Load(amount, own, False)


def check_resume(resume: bool, force: bool, out: Path | None) -> None:
    """Raises OutputError where there is nothing to go on with: no folder, or one that shall be replaced."""
    if resume and force:
        raise OutputError("--resume and --force: one keeps what lies in --out, the other throws it away; give one of them")
    if (resume or force) and out is None:
        raise OutputError(f"{'--resume' if resume else '--force'}: say where the search was written to (--out)")


@contextmanager
def kept(folder: Path | None) -> Iterator[None]:
    """Ctrl-C and SIGTERM inside say that the finished runs are in the folder, and how to go on; without one they are like any other."""
    try:
        yield
    except (KeyboardInterrupt, TerminatedError) as problem:
        if folder is None:
            raise
        handled()
        how, code = ("terminated", TERMINATED) if isinstance(problem, TerminatedError) else ("interrupted", INTERRUPTED)
        print(f"{how}: the finished runs are kept in {folder}; the same command with --resume continues", file=sys.stderr)
        raise typer.Exit(code) from None
