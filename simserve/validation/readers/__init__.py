"""Readers of measurement files: a file -> its cases. Each module knows one schema."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError, nearest
from simserve.files.words import clipped
from simserve.validation.case import Case

if TYPE_CHECKING:
    import pandas as pd

_BY_COLUMNS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"queued_s", "first_token_s", "last_token_s", "request_id"}), "per_request"),
    (frozenset({"stage_index", "itl_mean_ms", "question_tokens"}), "load_stages"),
    (frozenset({"backend", "system", "ttft_ms", "tpot_ms", "concurrency"}), "fixed_concurrency"),
    (frozenset({"serve_command", "mean_tpot_ms", "successful_requests"}), "bench_pages"),
    (frozenset({"prompt_phase_ms", "decode_step_ms"}), "batch_phases"),
    (frozenset({"trace", "rate_tag", "sum_request_latency_s"}), "trace_means"),
    (frozenset({"num_gpus", "batch", "latency_s"}), "static_batches"),
    (frozenset({"num_gpus", "batch", "ttft_s"}), "static_batches"),
    (frozenset({"arrival", "output_tokens_per_s", "num_requests", "tensor_parallel"}), "offline_throughput"),
    (frozenset({"baseline_output_tokens_per_s", "serve_options"}), "ascend_nightly"),
    (frozenset({"workload", "tpot_ms", "output_tokens_per_s", "engine"}), "published_points"),
    (frozenset({"tokens_per_s_per_gpu", "phase"}), "published_points"),
)


@dataclass(frozen=True, slots=True)
class Measurements:
    """The cases of a directory, and by name the files in it that could not be read, with the reason."""

    cases: list[Case]
    unreadable: dict[str, str]


def read_directory(place: Path, dataset: str | None = None) -> list[Case]:
    """The cases of every measurement file in a directory (or of one file), all of which must be readable.

    Raises ConfigError as `read_measurements`, and for the first file that cannot be read.
    """
    found = read_measurements(place, dataset)
    for reason in found.unreadable.values():
        raise ConfigError(reason)
    return found.cases


def read_measurements(place: Path, dataset: str | None = None) -> Measurements:
    """The cases of every measurement file in a directory (or of one file); files that cannot be read are left out and told.

    Raises ConfigError: no such place, no measurement file in it, none that can be read, an unknown `dataset` (with the nearest).
    """
    if not place.exists():
        raise ConfigError(f"{place}: no such file or directory")
    files = [place] if place.is_file() else sorted(f for f in place.iterdir() if f.suffix in (".parquet", ".json", ".jsonl"))
    if not files:
        raise ConfigError(f"{place}: holds no measurements (.parquet tables or .json results of a benchmark client)")
    if dataset is not None:
        chosen = [f for f in files if f.stem == dataset]
        if not chosen:
            raise ConfigError(f"{place}: no data set '{dataset}'{nearest(dataset, [f.stem for f in files])}")
        files = chosen
    cases: list[Case] = []
    unreadable: dict[str, str] = {}
    for file in files:
        try:
            cases += read_file(file)
        except ConfigError as problem:
            unreadable[file.name] = str(problem)
    if len(unreadable) == len(files):
        more = f" (and {len(files) - 1} more files, none of which can be read)" if len(files) > 1 else ""
        raise ConfigError(next(iter(unreadable.values())) + more)
    return Measurements(cases, unreadable)


def read_file(file: Path) -> list[Case]:
    """The cases of one file. Raises ConfigError when its columns or keys are those of no known schema."""
    if file.suffix in (".json", ".jsonl"):
        clients: Any = importlib.import_module("simserve.validation.readers.client_results")
        return list(clients.read(file))
    import pandas as pd

    try:
        table = pd.read_parquet(file)
    except Exception as problem:  # pyarrow raises several unrelated types
        raise ConfigError(f"{file}: not a readable Parquet table ({clipped(str(problem) or type(problem).__name__, 120)})") from None
    for columns, module in _BY_COLUMNS:
        if columns <= set(table.columns):
            reader: Any = importlib.import_module(f"benchmarks.measured_runs.{module}")
            try:
                found: Iterable[Case] = reader.read(_plain(table), file.stem)
                return list(found)
            except Exception as problem:  # a column or a value that this kind of table does not have: the reader need not foresee which
                said = clipped(f"{type(problem).__name__}: {problem}", 100)
                raise ConfigError(f"{file}: not a sound table of the kind that its columns say ({module}: {said})") from problem
    raise ConfigError(f"{file}: no reader for a table with the columns {clipped(', '.join(map(str, table.columns)), 300)}")


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Categories as plain strings, so that missing values and comparisons behave."""
    return table.assign(**{c: table[c].astype(object) for c in table.columns if str(table[c].dtype) == "category"})
