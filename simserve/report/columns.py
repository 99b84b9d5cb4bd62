"""The latency metrics of each request, as columns. Definitions: docs/metrics.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64, RunRecords, Status
from simserve.report.itl import TokenGaps

Mask = NDArray[np.bool_]

LATENCIES: tuple[str, ...] = ("ttft_s", "tpot_s", "e2e_s", "normalized_latency_s_per_token", "queueing_s", "itl_max_s")
"""Names of the per-request columns, in the order of tables and files."""


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """One entry per request, in the order of the request table; NaN where the quantity is not defined for that request."""

    ttft_s: F64
    tpot_s: F64
    e2e_s: F64
    normalized_latency_s_per_token: F64
    queueing_s: F64
    itl_max_s: F64

    def column(self, name: str) -> F64:
        """The column of that name (one of LATENCIES)."""
        values: F64 = getattr(self, name)
        return values


def request_metrics(records: RunRecords, gaps: TokenGaps) -> RequestMetrics:
    """Latency columns of all requests. TTFT and queueing exist as soon as the event happened; the others only for completed requests."""
    r = records.requests
    completed = r.status == Status.COMPLETED
    e2e = np.where(completed, r.finish_s - r.released_s, math.nan)
    several = completed & (r.generated_tokens > 1)
    return RequestMetrics(
        ttft_s=r.first_token_s - r.released_s,
        tpot_s=_ratio(r.finish_s - r.first_token_s, r.generated_tokens - 1, several),
        e2e_s=e2e,
        normalized_latency_s_per_token=_ratio(e2e, r.generated_tokens, completed & (r.generated_tokens > 0)),
        queueing_s=r.scheduled_s - r.released_s,
        itl_max_s=np.where(completed, gaps.longest_s(), math.nan),
    )


def _ratio(over: F64, under: NDArray[np.int64], where: Mask) -> F64:
    out = np.full(len(over), math.nan)
    np.divide(over, under, out=out, where=where)
    return out
