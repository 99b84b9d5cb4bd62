"""How far predictions are from measurements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.hardware.schema import ErrorSummary


def summary(measured_s: NDArray[np.float64], predicted_s: NDArray[np.float64]) -> ErrorSummary | None:
    """Absolute relative errors in percent, None for no rows."""
    if not len(measured_s):
        return None
    error = 100.0 * np.abs(predicted_s / measured_s - 1.0)
    return ErrorSummary(
        rows=len(error),
        mape_percent=round(float(error.mean()), 3),
        p90_percent=round(float(np.quantile(error, 0.9)), 3),
        worst_percent=round(float(error.max()), 2),
    )
