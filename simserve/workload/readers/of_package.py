"""A reader of another package: whatever it does wrong is an error with its name."""

from __future__ import annotations

import traceback
from dataclasses import fields
from typing import Any

import numpy as np

from simserve.errors import SimserveError, TraceError
from simserve.files.words import clipped
from simserve.workload.formats import Format
from simserve.workload.readers.columns import ReadOptions, TraceColumns
from simserve.workload.requests import Labels, PrefixBlocks
from simserve.workload.source import Source

_WHOLE = ("prompt_tokens", "output_tokens", "max_output_tokens", "priority", "session", "after")
_NUMBERS = ("arrival_s", "elapsed_s")
_LABELS = ("slo_class", "label_model", "log_type")


def read_by(words: str, format: Format, source: Source, options: ReadOptions) -> TraceColumns:
    """The columns that the format's reader makes of a file.

    words  how errors call the format
    Raises TraceError when the reader fails or gives something else than columns of one length.
    """
    try:
        found = format.read(source, options)
    except SimserveError:
        raise
    except Exception as problem:
        last = traceback.extract_tb(problem.__traceback__)[-1]
        what = f"{type(problem).__name__}: {clipped(str(problem), 200)}"
        raise TraceError(f"{source.path}: {words} failed in {last.name}, {last.filename}:{last.lineno}: {what}") from problem
    wrong = _wrong(found)
    if wrong:
        raise TraceError(f"{source.path}: {words}: its reader gave {wrong}")
    return found


def _wrong(found: Any) -> str:
    """What is not as TraceColumns says; "" when all is."""
    if not isinstance(found, TraceColumns):
        return f"{type(found).__name__} instead of TraceColumns"
    rows = np.shape(found.prompt_tokens)
    for name in sorted((field.name for field in fields(found)), key=lambda name: name != "prompt_tokens"):  # which says how many rows
        value = getattr(found, name)
        if value is None:
            if name in ("prompt_tokens", "output_tokens"):
                return f"no {name}"
        elif name in _WHOLE or name in _NUMBERS:
            kinds, word = ("iu", "whole numbers") if name in _WHOLE else ("iuf", "numbers")
            if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in kinds:
                return f"{name} that is no array of {word}"
            if value.shape != rows:
                return f"{name} with {len(value)} rows, prompt_tokens with {rows[0]}"
        elif name in _LABELS and not isinstance(value, Labels):
            return f"{name} that is no Labels"
        elif name == "prefix" and not (isinstance(value, PrefixBlocks) and len(value.offsets) == rows[0] + 1):
            return "prefix that is no PrefixBlocks of as many rows"
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        value = getattr(found, name)
        if value is not None and not bool(np.all(np.isfinite(value) & (value >= 0))):
            row = int(np.argmin(np.isfinite(value) & (value >= 0)))
            return f"{name} {value[row]} in row {row}, which must be a number >= 0"
    return ""
