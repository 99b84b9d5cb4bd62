"""The DataFrames of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.catalogue import METRICS
from simserve.engine.records import RunRecords
from simserve.report.metrics import Measurement
from simserve.report.request_file import request_table
from simserve.report.step_file import columns_of, step_parts

if TYPE_CHECKING:
    import pandas as pd

STAT_COLUMNS = ("count", "mean", "p50", "p90", "p95", "p99", "max")


def summary_frame(summary: dict[str, Any]) -> pd.DataFrame:
    """Rows: metrics by SLO class; columns: slo_class, count, mean, p50, p90, p95, p99, max (NaN where undefined)."""
    import pandas as pd

    rows = [
        {"metric": metric.name, "slo_class": slo_class, **{key: np.nan if stats[key] is None else stats[key] for key in STAT_COLUMNS}}
        for slo_class, metrics in summary["latency"].items()
        for metric, stats in ((metric, metrics[metric.name]) for metric in METRICS if metric.name in metrics)
    ]
    return pd.DataFrame(rows).set_index("metric")


def request_frame(m: Measurement) -> pd.DataFrame:
    """The content of requests.parquet, as it is read back."""
    frame: pd.DataFrame = request_table(m).to_pandas()
    return frame


def step_frame(records: RunRecords) -> pd.DataFrame:
    """All steps of all lanes, in order of instance, lane and step."""
    import pandas as pd

    names = [name for name, _, _ in columns_of(records)]
    parts = [pd.DataFrame({name: part[name] for name in names}) for part in step_parts(records)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({name: [] for name in names})
