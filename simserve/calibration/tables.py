"""Reads a directory of measured kernel tables (one Parquet or CSV file per operator) into rows that operators understand.

The schema is that of the public tables the bundled profiles were fitted on; docs/cost-models.md lists the columns of each file.
Rows that cannot be used are counted by reason, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError
from simserve.hardware.operators import OPERATORS

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("operator", "dtype", "kv_dtype", "backend", "kernel")
"""What tells one fitted model from another."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Usable rows by operator, and what was left out.

    frames   operator -> DataFrame with the operator's columns, `seconds`, the identity columns, `source`, `heldout_kind`, `file`
    skipped  reason -> rows
    skipped_groups  (operator, dtype, backend, heldout_kind) -> rows left out
    """

    frames: dict[str, pd.DataFrame]
    skipped: Counter[str]
    skipped_groups: Counter[tuple[str, str, str, str]]


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def _collective(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    if "gpus_per_node_used" not in out:
        out["gpus_per_node_used"] = 0.0
    out["gpus_per_node_used"] = out["gpus_per_node_used"].astype(float).fillna(0.0)
    if "collective" in out:
        out["operator"] = out["collective"].astype(str).replace({"reducescatter": "reduce_scatter"})
    if "library" in out:
        out["kernel"] = out["library"].astype(str)
    return out


_PASSES = {"emb": 2, "add": 3, "input_layernorm": 4, "post_attention_layernorm": 4, "attn_rope": 2, "mlp_act": 3}
"""16-bit tensors of the operation's width that are read and written, as `simserve.model` counts them (norms with the residual add)."""


def _elementwise(frame: pd.DataFrame) -> pd.DataFrame:
    """Width and bytes per token of one rank from the model's dimensions."""
    import numpy as np

    out = frame.copy()
    op, tp, hidden = out["op"].astype(str), out["tensor_parallel"].astype(float), out["hidden_size"].astype(float)
    heads = (out["num_heads"] + out["num_kv_heads"]).astype(float) * hidden / out["num_heads"].astype(float)
    width = np.select([op == "attn_rope", op == "mlp_act"], [heads / tp, out["mlp_hidden_size"].astype(float) / tp], default=hidden)
    out["width"] = width
    out["bytes_per_token"] = 2.0 * width * op.map(_PASSES).astype(float)
    out["kernel"] = op
    return out


_FILES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "gemm": ("gemm", _plain),
    "gemm_model_layers": ("gemm", _plain),
    "gemm_large_square": ("gemm", _plain),
    "attention_prefill": ("attention_prefill", _plain),
    "attention_prefill_model_layers": ("attention_prefill", _plain),
    "attention_decode": ("attention_decode", _plain),
    "attention_decode_model_layers": ("attention_decode", _plain),
    "elementwise_model_layers": ("elementwise", _elementwise),
    "all_reduce": ("all_reduce", _collective),
    "all_to_all": ("all_to_all", _collective),
    "all_gather_reduce_scatter": ("all_gather", _collective),
    "p2p": ("p2p", _collective),
}
"""File stem -> operator and the conversion of its rows."""


def read_tables(folder: Path, only: frozenset[str] | None = None) -> Tables:
    """Read every table in `folder` (`only` these operators, if given).

    Raises ConfigError: no such folder, no table in it, a file that is not Parquet or CSV inside, a table without a needed column.
    """
    import pandas as pd

    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such directory of kernel tables")
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".parquet", ".csv"))
    if not paths:
        raise ConfigError(f"{folder}: no .parquet or .csv table in it")
    parts: dict[str, list[pd.DataFrame]] = {}
    skipped: Counter[str] = Counter()
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for path in paths:
        frame = _read(path)
        if path.stem not in _FILES:
            _count(skipped, groups, frame.assign(operator=path.stem), f"no operator model for table '{path.stem}'")
            continue
        operator, convert = _FILES[path.stem]
        normal = _normalise(path, frame, operator, convert, skipped, groups)
        for name, rows in normal.groupby("operator", observed=True):
            if only is None or name in only:
                parts.setdefault(str(name), []).append(rows)
    return Tables({name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}, skipped, groups)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # pyarrow and pandas raise many kinds; to the user they are one thing
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: cannot be read as a table ({first})") from None


def _normalise(
    path: Path,
    frame: pd.DataFrame,
    operator: str,
    convert: Callable[[Any], Any],
    skipped: Counter[str],
    groups: Counter[tuple[str, str, str, str]],
) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    needed = ["latency_us", "backend", *(() if operator == "elementwise" else [c for c, d in OPERATORS[operator].columns.items() if d is None])]
    missing = [c for c in needed if c not in frame and not (operator == "p2p" and c == "num_gpus")]
    if missing:
        raise ConfigError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(map(str, frame.columns))}")
    frame = convert(frame)
    out = pd.DataFrame({"operator": frame["operator"].astype(str) if "operator" in frame else operator}, index=frame.index)
    for name in ("dtype", "kv_dtype", "backend", "kernel", "source", "heldout_kind"):
        out[name] = frame[name].astype(str) if name in frame else ""
    out["file"] = path.stem
    columns = OPERATORS[operator].columns
    for name, default in columns.items():
        values = frame[name] if name in frame else default
        out[name] = pd.to_numeric(pd.Series(values, index=frame.index), errors="coerce").astype(float)
    out["seconds"] = pd.to_numeric(frame["latency_us"], errors="coerce").astype(float) * 1e-6
    with np.errstate(invalid="ignore"):
        bad_time = ~(np.isfinite(out["seconds"]) & (out["seconds"] > 0))
        bad_input = ~np.isfinite(out[list(columns)]).all(axis=1) | (out[list(columns)] < 0).any(axis=1)
    if operator == "attention_decode":
        bad_input |= out["kv_tokens"] < 1
    unknown = ~out["operator"].isin(list(OPERATORS))
    for mask, reason in (
        (bad_time, "time is missing, not finite or not positive"),
        (bad_input & ~bad_time, "an input is missing, negative or not finite"),
        (unknown & ~bad_time & ~bad_input, "no operator model for this collective"),
    ):
        _count(skipped, groups, out[mask], reason)
    return out[~(bad_time | bad_input | unknown)].reset_index(drop=True)


def _count(skipped: Counter[str], groups: Counter[tuple[str, str, str, str]], rows: pd.DataFrame, reason: str) -> None:
    if not len(rows):
        return
    skipped[reason] += len(rows)
    keys = [rows[c].astype(str) if c in rows else [""] * len(rows) for c in ("operator", "dtype", "backend", "heldout_kind")]
    groups.update(zip(*keys, strict=True))
