"""requests.parquet: one row a request. The schema below is stable: columns are only ever added, at the end. After them stand columns that
this workload has beyond them (`workload/columns.py`: an adapter, a cache salt)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.catalogue import OF_REQUESTS
from simserve.engine.records import Status
from simserve.report.arrow import column, names_column
from simserve.report.metrics import Measurement
from simserve.workload.columns import Labels

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]


class Column(NamedTuple):
    """A column of the file: its name, unit ("" for none) and meaning."""

    name: str
    unit: str
    meaning: str


_LATENCIES = [Column(metric.name, metric.unit, metric.meaning) for metric in OF_REQUESTS]
_OLDER = 1 + [column.name for column in _LATENCIES].index("itl_max_s")
"""So many of them are older than the columns that follow them; later ones are at the end."""

REQUEST_COLUMNS: tuple[Column, ...] = (
    Column("request", "", "row of the workload, from 0"),
    Column("slo_class", "", "SLO class"),
    Column("priority", "", "larger is more urgent"),
    Column("session", "", "session number, null = none"),
    Column("prompt_tokens", "tokens", "prompt length"),
    Column("output_tokens", "tokens", "output length asked for; 0 = failed at its source"),
    Column("released_s", "s", "when it entered the system"),
    Column("scheduled_s", "s", "start of the first step that worked on it"),
    Column("first_token_s", "s", "end of the step that produced its first output token"),
    Column("finish_s", "s", "when its last token appeared, or when it was rejected, failed or cancelled"),
    Column("status", "", "unfinished, completed, rejected, failed or cancelled"),
    Column("reason", "", "why it was rejected, failed or cancelled, or a note on its completion; null otherwise"),
    Column("instance", "", "name of the instance that served it, null = none"),
    Column("generated_tokens", "tokens", "output tokens produced"),
    Column("preemptions", "", "times it lost its KV cache or was swapped out"),
    Column("recomputed_tokens", "tokens", "tokens computed more than once"),
    Column("cached_tokens", "tokens", "prompt tokens that its first admission took from a prefix cache"),
    Column("reread_tokens", "tokens", "tokens that later admissions took from it: computed before, lost in a preemption or a failure"),
    *_LATENCIES[:_OLDER],
    Column("in_window", "", "released in the measured window"),
    Column("slo_met", "", "met every limit of its class; null when it is not judged"),
    *_LATENCIES[_OLDER:],
)


def request_arrays(m: Measurement, first_row: int = 0) -> dict[str, NDArray[Any]]:
    """The numeric columns, by name, as arrays of one entry per request (times NaN where undefined). `first_row`: number of the first."""
    table, r = m.records.table, m.records.requests
    columns: dict[str, NDArray[Any]] = {
        "request": np.arange(first_row, first_row + len(table), dtype=np.int64),
        "priority": table.priority,
        "session": table.session,
        "prompt_tokens": table.prompt_tokens,
        "output_tokens": table.output_tokens,
    }
    for name in (
        "released_s",
        "scheduled_s",
        "first_token_s",
        "finish_s",
        "generated_tokens",
        "preemptions",
        "recomputed_tokens",
        "cached_tokens",
        "reread_tokens",
    ):
        columns[name] = getattr(r, name)
    columns.update(m.requests.columns)
    columns["in_window"] = m.in_window
    return columns


def request_labels(m: Measurement) -> dict[str, tuple[NDArray[np.int32], list[str]]]:
    """The columns of names, as (codes, names); code -1 = null."""
    table, r = m.records.table, m.records.requests
    instance_names = [info.name for info in m.records.instances]
    return {
        "slo_class": (table.slo_class.codes.astype(np.int32), list(table.slo_class.names)),
        "status": (r.status.astype(np.int32), [status.name.lower() for status in Status]),
        "reason": (r.reason.astype(np.int32) - 1, list(r.reasons[1:])),
        "instance": (r.instance.astype(np.int32), instance_names),
    }


def request_table(m: Measurement, first_row: int = 0) -> pa.Table:
    """The file's content as an Arrow table. NaN becomes null; units and meanings are in the fields' metadata. `first_row`: number of the
    first request."""
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    arrays = request_arrays(m, first_row)
    labels = request_labels(m)
    columns, fields = [], []
    for name, unit, meaning in REQUEST_COLUMNS:
        if name in labels:
            values = names_column(*labels[name])
        elif name == "slo_met":
            judged = np.zeros(len(m.in_window), dtype=np.bool_) if m.slo is None else m.slo.judged
            values = column(judged if m.slo is None else m.slo.met, ~judged)
        else:
            values = column(arrays[name], arrays[name] < 0 if name == "session" else None)
        columns.append(values)
        fields.append(pa.field(name, values.type, metadata={"unit": unit, "meaning": meaning}))
    for stated, found in m.records.table.other_columns():  # columns that policies or caches read, where the workload has them
        if isinstance(found, Labels):
            codes = np.where(stated.stated(found), found.codes, -1).astype(np.int32)
            values = names_column(codes, list(found.names))
        else:
            values = column(found, ~stated.stated(found))
        columns.append(values)
        fields.append(pa.field(stated.name, values.type, metadata={"unit": stated.unit, "meaning": stated.meaning}))
    schema = pa.schema(fields, metadata={"simserve_schema": "requests/1"})
    return pa.Table.from_arrays(columns, schema=schema)


def write_requests(m: Measurement, path: Path) -> None:
    """Write requests.parquet. Same run, same bytes. Raises OSError when the place cannot be written."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    pq.write_table(request_table(m), path, compression="zstd", row_group_size=1 << 20, store_schema=True)
