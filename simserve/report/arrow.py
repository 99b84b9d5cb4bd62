"""NumPy columns as Arrow arrays, from their buffers: `pyarrow.array` would import pandas, which takes longer than a whole short run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]


def column(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """The values (float64, int64, int32 or bool) as an Arrow array, without copying numbers; null where `missing`, and NaN is null."""
    import pyarrow as pa

    if missing is None and values.dtype == np.float64:
        missing = np.isnan(values)
    nulls = 0 if missing is None else int(missing.sum())
    validity = pa.py_buffer(_bits(~missing)) if missing is not None and nulls else None
    if values.dtype == np.bool_:
        kind, data = pa.bool_(), _bits(values)
    else:
        kind = {"float64": pa.float64(), "int64": pa.int64(), "int32": pa.int32()}[values.dtype.name]
        data = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(data)], nulls)


def names_column(codes: NDArray[np.int32], names: list[str]) -> pa.Array:
    """A dictionary column of strings; code -1 is null."""
    import pyarrow as pa

    encoded = [name.encode() for name in names]
    offsets = np.concatenate([[0], np.cumsum([len(name) for name in encoded])]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    dictionary = pa.Array.from_buffers(pa.string(), len(names), buffers, 0)
    return pa.DictionaryArray.from_arrays(column(codes.astype(np.int32), codes < 0), dictionary)


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")
