"""Readers of measurement files: a file -> its cases. Each module knows one schema."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError, nearest
from simserve.serving.case import Case

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


def read_directory(place: Path, dataset: str | None = None) -> list[Case]:
    """The cases of every measurement file in a directory (or of one file).

    Raises ConfigError: no such place, no measurement file in it, a file that no reader knows, an unknown `dataset` (with the nearest).
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
    for file in files:
        cases += read_file(file)
    return cases


def read_file(file: Path) -> list[Case]:
    """The cases of one file. Raises ConfigError when its columns or keys are those of no known schema."""
    if file.suffix in (".json", ".jsonl"):
        clients: Any = importlib.import_module("simserve.serving.readers.client_results")
        return list(clients.read(file))
    import pandas as pd

    try:
        table = pd.read_parquet(file)
    except Exception as problem:  # pyarrow raises several unrelated types
        raise ConfigError(f"{file}: not a readable Parquet table ({str(problem).splitlines()[0]})") from None
    for columns, module in _BY_COLUMNS:
        if columns <= set(table.columns):
            reader: Any = importlib.import_module(f"simserve.serving.readers.{module}")
            found: Iterable[Case] = reader.read(_plain(table), file.stem)
            return list(found)
    raise ConfigError(f"{file}: no reader for a table with the columns {', '.join(map(str, table.columns))}")


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Categories as plain strings, so that missing values and comparisons behave."""
    return table.assign(**{c: table[c].astype(object) for c in table.columns if str(table[c].dtype) == "category"})
