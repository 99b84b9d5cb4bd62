"""What a sweep found: one row for each run, its plots, its files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve import renamed
from simserve.errors import ConfigError, OutputError, nearest
from simserve.report.files import write_json, write_whole
from simserve.study.base import LABEL, VARIANT
from simserve.study.labels import short
from simserve.study.paired import PairedRow, compare
from simserve.study.predicate import parse_quantity
from simserve.study.prepare import Plan
from simserve.study.quantities import SCALED
from simserve.study.statistics import CONFIDENCE, mean_interval
from simserve.study.sweep.axes import label, name_of
from simserve.study.sweep.plots import SweepPlots
from simserve.study.sweep.table import Rows
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

SWEEP = "sweep.json"
FRAME = "sweep.parquet"
SCHEMA_VERSION = 1

FIXED = ("point", "seed", "status", "error")
"""Columns that are neither a key of the sweep nor a figure."""

_SHOWN = (
    "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s", "tpot_p99_s", "attainment", "output_tokens_per_s",
    "goodput_per_s", "usd_per_hour", "usd_per_million_output_tokens", "saturated",
)  # fmt: skip


_FEW = 40
"""Points that a notebook shows."""


class SweepResult:
    """The rows of a sweep.

    frame  one row a run: `point`, `seed`, a column for each key that changes, `status` (ok, failed, invalid), `error`, then the figures
    about  name, keys, seeds, method and notes
    """

    def __init__(self, frame: pd.DataFrame, about: dict[str, Any]) -> None:
        self.frame = frame
        self.about = about
        self.name = str(about["name"])
        self.keys: tuple[str, ...] = tuple(about["keys"])
        self.notes: list[str] = list(about["notes"])

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """The keys by which tables and plots tell points apart: of named points their names, which say more than what they change."""
        if LABEL not in self.keys:
            return self.keys
        return tuple(key for key in self.keys if key in (VARIANT, LABEL))

    @property
    def failures(self) -> pd.DataFrame:
        """The rows that have an error instead of figures."""
        return self.frame[self.frame["status"] != "ok"]

    @cached_property
    def by_point(self) -> pd.DataFrame:
        """One row a point: means over the seeds, `runs` = how many of them are there."""
        good = self.frame[self.frame["status"] == "ok"]
        figures = [name for name in good.columns if name not in (*FIXED, *self.keys)]
        grouped = good.groupby("point", sort=True)
        return grouped[list(self.keys)].first().assign(runs=grouped.size()).join(grouped[figures].mean())

    def intervals(self, metric: str, confidence: float = CONFIDENCE) -> pd.DataFrame:
        """A figure of each point over its seeds: the keys, `runs`, `mean`, and the Student's t interval [`low`, `high`] of the mean.

        metric  a column (`ttft_p99_s`) or the name in a predicate (`ttft.p99`); in the figure's unit, seconds for latencies
        Of a single run `low` and `high` are NaN: one seed says nothing of chance. Raises ConfigError for an unknown figure.
        """
        column = self._column(metric)
        rows = []
        for point, runs in self.frame[self.frame["status"] == "ok"].groupby("point", sort=True):
            values = runs[column].dropna().tolist()
            mean, low, high = mean_interval(values, confidence) if values else (math.nan,) * 3
            bounds = {"low": low, "high": high} if len(values) > 1 else {"low": math.nan, "high": math.nan}
            named = {key: runs[key].iloc[0] for key in self.shown_keys}
            rows.append({"point": point, **named, "runs": len(values), "mean": mean, **bounds})
        import pandas as pd

        return pd.DataFrame(rows, columns=["point", *self.shown_keys, "runs", "mean", "low", "high"]).set_index("point")

    def paired(self, metric: str, first: Any, second: Any, confidence: float = CONFIDENCE) -> PairedRow:
        """A figure of two points over the seeds that both have: the mean difference, its interval and a verdict (study/paired.py).

        first, second  the point's name where points have some, otherwise its number
        Raises ConfigError for an unknown figure or point, or points without a common seed.
        """
        quantity = parse_quantity(metric)
        column = self._column(metric)
        one, other = (self._runs(point).set_index("seed")[column] for point in (first, second))
        seeds = [seed for seed in one.index if seed in other.index]
        if not seeds:
            raise ConfigError(f"the points {first!r} and {second!r} have no seed in common that both have figures of")
        mine, theirs = ([None if value != value else float(value) for value in side[seeds]] for side in (one, other))
        return compare(quantity, mine, theirs, confidence)

    def _column(self, metric: str) -> str:
        column = metric if metric in self.frame.columns else parse_quantity(metric).column
        if column not in self.frame.columns or column in (*FIXED, *self.keys):
            raise ConfigError(f"the sweep has no figure '{metric}'{nearest(metric, self.frame.columns)}")
        return column

    def _runs(self, point: Any) -> pd.DataFrame:
        named = LABEL in self.keys and isinstance(point, str)
        good: pd.DataFrame = self.frame[(self.frame["status"] == "ok") & (self.frame[LABEL if named else "point"] == point)]
        if not len(good):
            known = self.frame[LABEL if named else "point"].unique().tolist()
            raise ConfigError(f"the sweep has no point {point!r} with figures{nearest(str(point), [str(one) for one in known])}")
        return good

    @property
    def plot(self) -> SweepPlots:
        """Plots of the sweep: each method returns matplotlib axes."""
        return SweepPlots(self.by_point, self.shown_keys)

    def write(self, directory: str | Path) -> Path:
        """Writes sweep.parquet and sweep.json, the latter last. Raises OutputError."""
        import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

        out = Path(directory)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror}") from error
        write_whole(out / FRAME, lambda part: pq.write_table(pa.Table.from_pandas(self.frame, preserve_index=False), part))
        write_json(out / SWEEP, self._about())
        return out

    @staticmethod
    def read(directory: str | Path) -> SweepResult:
        """The sweep that lies in a directory. Raises OutputError when there is none."""
        import pandas as pd
        import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

        folder = Path(directory)
        try:
            about = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
            return SweepResult(pd.read_parquet(folder / FRAME).rename(columns=renamed.COLUMNS), about)
        except FileNotFoundError as error:
            raise OutputError(f"{folder}: is not the output of a finished sweep (there is no {Path(error.filename).name})") from error
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise OutputError(f"{folder}: the sweep's files cannot be read: {error}") from error

    def shown(self) -> pd.DataFrame:
        """The keys and a few figures of each point: what the terminal and a notebook show. Long values are shortened."""
        figures = self.with_figures(_SHOWN)
        table = self.by_point[[*self.shown_keys, "runs", *figures]]
        return table.assign(**{key: table[key].map(short(table[key].unique().tolist())) for key in self.shown_keys})

    def with_figures(self, names: Sequence[str]) -> list[str]:
        """The columns of these that have figures, and those of scaling where instances start."""
        points = self.by_point
        scales = "starts" in points and bool((points["starts"] > 0).any())
        return [name for name in (*names, *(SCALED if scales else ())) if name in points and points[name].notna().any()]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: what sweep.json holds, and every row with its figures (None = not defined)."""
        rows = self.frame.astype(object).where(self.frame.notna(), None).to_dict("records")
        plain = [{str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()} for row in rows]
        return {**self._about(), "rows": plain}

    def _about(self) -> dict[str, Any]:
        counts = {str(k): int(v) for k, v in self.frame["status"].value_counts().sort_index().items()}
        version = {"schema_version": SCHEMA_VERSION, "simserve_version": __version__}
        return {**version, **self.about, "runs": len(self.frame), "status": counts}

    def __repr__(self) -> str:
        bad = len(self.failures)
        keys = ", ".join(self.shown_keys) or "seed"
        return f"SweepResult({self.name!r}: {len(self.frame)} runs over {keys}{f', {bad} without figures' if bad else ''})"

    def _repr_html_(self) -> str:
        from simserve.study.notebook import fragment

        table = self.shown()
        return fragment(repr(self), table.head(_FEW), self.notes, max(0, len(table) - _FEW))


def frame(plan: Plan, keys: Sequence[str], rows: Rows, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The rows as a DataFrame, in the order of the design whatever the order in which they were computed.

    names  of values of a key, where they have some, as `Values.names`
    """
    import pandas as pd

    fixed: dict[str, list[Any]] = {name: [] for name in ("point", "seed", *keys, "status", "error")}
    for number, place, point, seed in plan.runs():
        fixed["point"].append(place)
        fixed["seed"].append(plan.seeds[seed])
        for key in keys:
            value = point.changes.get(key)
            named = names.get(key)
            fixed[key].append(named.get(name_of(value), label(value)) if named else label(value))
        error = rows.errors.get(number)
        fixed["status"].append("ok" if error is None else "invalid" if point.error is not None else "failed")
        fixed["error"].append(error)
    columns: dict[str, Any] = {name: _column(values) for name, values in fixed.items()}
    return pd.DataFrame({**columns, **rows.columns()})


def _column(values: list[Any]) -> Any:
    """Values of one type as they are; a mixture as text, because a column of a file has one type."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return pd.Series(values, dtype="str" if kinds == {str} or not kinds else None)
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")
