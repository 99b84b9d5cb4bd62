"""How a core's matrix and vector units share a tile: pipelines of two, three or four stages (XY-Serve, arXiv 2412.18106)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_SCORE_BYTES = 2.0
"""A score on its way from the matrix to the vector unit, 16 bits."""


def pipeline_stages(decode_only: bool, queries: float, keys: float, cores: int, l2_bytes: float) -> int:
    """Stages of the pipeline for tiles of `queries` rows and `keys` keys.

    2  decode only: the vector unit multiplies queries with keys and goes on to the softmax, the matrix unit weighs the values; keys and
       values stream side by side
    3  scores, softmax, values; the scores of all cores' tiles fit the cache between the units
    4  they do not: the keys are split so that they do, and the output is rescaled after each part (the update)
    """
    if decode_only:
        return 2
    return 3 if score_parts(np.array([queries]), np.array([keys]), cores, l2_bytes)[0] == 0.0 else 4


def score_parts(queries: F64, keys: F64, cores: int, l2_bytes: float) -> F64:
    """Updates of each tile: parts of the keys whose scores fit the cache, beyond the first. The paper's condition is
    cache >= alpha x cores x tile x length x bytes; alpha is not published, here 1."""
    return np.maximum(np.ceil(cores * queries * keys * _SCORE_BYTES / l2_bytes) - 1.0, 0.0)
