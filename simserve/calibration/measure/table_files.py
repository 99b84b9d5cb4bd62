"""From the journal to one table per operator, in the schema that `simserve.calibration.tables` reads."""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simserve.calibration.measure.journal import OK
from simserve.calibration.measure.torch_library import load_optional

FILES = {
    "elementwise": "elementwise_model_layers",
    "all_gather": "all_gather_reduce_scatter",
    "reduce_scatter": "all_gather_reduce_scatter",
}
"""Operator -> file stem where they differ."""

_TAIL = ("latency_us", "spread_percent", "repeats", "mode", "backend", "kernel", "source")


def write_tables(folder: Path, records: Iterable[dict[str, Any]], backend: str, source: str) -> dict[str, int]:
    """Write `folder`/<operator>.parquet (.csv without pyarrow) from the records that succeeded; rows by file name.

    Rows are ordered by their inputs: the same measurements give the same file in whatever order they were taken.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record["status"] == OK:
            operator = record["operator"]
            rows.setdefault(FILES.get(operator, operator), []).append(_row(record, backend, source))
    written = {}
    for stem, table in sorted(rows.items()):
        columns = list(dict.fromkeys(name for row in table for name in row))
        columns = [c for c in columns if c not in _TAIL] + [c for c in _TAIL if c in columns]
        table.sort(key=lambda row: [(str(type(row.get(c))), row.get(c)) for c in columns if c not in _TAIL or c in ("mode", "kernel")])
        path = _write(folder, stem, columns, table)
        written[path.name] = len(table)
    return written


def _row(record: dict[str, Any], backend: str, source: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {name: value for name, value in record["inputs"].items() if name not in ("implementation", "mode")}
    mode = record["inputs"].get("mode", "eager")
    latency_us, kernel = record["seconds"] * 1e6, record["kernel"]
    if mode == "eager" and record["graphs"]:
        kernel += ", eager"  # the same kernel with launch gaps is another model: the two must not be mixed in one fit
    operator: str = record["operator"]
    facts: dict[str, Any] = record["facts"]
    tail: dict[str, Any] = {
        "latency_us": latency_us,
        "spread_percent": record["spread_percent"],
        "repeats": record["repeats"],
        "mode": mode,
        "backend": backend,
        "kernel": kernel,
        "source": source,
    }
    if operator == "launch_overhead":
        length = inputs["chain_length_kernels"]
        return inputs | facts | {"makespan_us": latency_us, "period_per_kernel_us": latency_us / length} | tail
    if "bytes_moved" in facts:
        return inputs | facts | {"gbytes_per_s": facts["bytes_moved"] / record["seconds"] / 1e9} | tail
    if "collective" in inputs:
        return inputs | facts | {"library": kernel} | {name: value for name, value in tail.items() if name != "kernel"}
    return inputs | facts | tail


def _write(folder: Path, stem: str, columns: list[str], rows: list[dict[str, Any]]) -> Path:
    pyarrow = load_optional("pyarrow")
    path = folder / f"{stem}.{'csv' if pyarrow is None else 'parquet'}"
    partial = path.with_name(f".{path.name}.partial")
    if pyarrow is None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet = importlib.import_module("pyarrow.parquet")
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
        parquet.write_table(table, partial, compression="zstd")
        path.with_suffix(".csv").unlink(missing_ok=True)
    os.replace(partial, path)
    return path
