"""The metrics that measured runs report, and how a simulated run gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import LaneLog, RunRecords, Status

F64 = NDArray[np.float64]

METRICS = (
    "ttft_mean",
    "ttft_median",
    "ttft_p90",
    "ttft_p99",
    "tpot_mean",
    "tpot_median",
    "tpot_p99",
    "e2e_mean",
    "e2e_p90",
    "e2e_p99",
    "latency_sum",
    "makespan",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "prompt_phase",
    "ttft_batch",
    "decode_step",
)
"""ttft, tpot, e2e: per request, seconds. latency_sum: e2e of all requests together. makespan: first arrival to last token.
ttft_batch: first arrival until every request has its first token."""

_STATISTICS: dict[str, Callable[[F64], Any]] = {
    "mean": np.mean,
    "median": np.median,
    "p90": lambda v: np.percentile(v, 90),
    "p99": lambda v: np.percentile(v, 99),
}


def step_starts_s(lane: LaneLog) -> F64:
    """When each step of a lane began."""
    starts = np.concatenate([[0.0], lane.step_end_s[:-1]])
    starts[lane.span_first_step] = lane.span_start_s
    return starts


def request_latencies(records: RunRecords, waits_s: F64) -> dict[str, F64]:
    """ttft, tpot and e2e of the completed requests, seconds, as the client sees them.

    waits_s  for each request of the table: what it waits for its first token beside what was simulated.
    Requests of one output token have no TPOT and are left out of it.
    """
    r = records.requests
    done = r.status == Status.COMPLETED
    waits = waits_s[done]
    first, finish, tokens = r.first_token_s[done], r.finish_s[done], r.generated_tokens[done]
    many = tokens > 1
    return {
        "ttft": first - r.released_s[done] + waits,
        "tpot": (finish - first)[many] / (tokens[many] - 1),
        "e2e": finish - r.released_s[done] + waits,
    }


def summarise(records: RunRecords, waits_s: F64, first: int = 0, end: int | None = None) -> dict[str, float]:
    """Every metric of a run that ended. Requests before row `first` (warm-up) and from row `end` (cool-down) load the engine but are not
    counted."""
    r = records.requests
    row = np.arange(len(records.table))
    late = (row >= first) & (row < (len(row) if end is None else end))
    done = (r.status == Status.COMPLETED) & late
    latencies = request_latencies(records, waits_s)
    kept = late[r.status == Status.COMPLETED]
    several = (r.generated_tokens > 1)[r.status == Status.COMPLETED]
    latencies = {"ttft": latencies["ttft"][kept], "tpot": latencies["tpot"][kept[several]], "e2e": latencies["e2e"][kept]}
    found: dict[str, float] = {}
    for name, values in latencies.items():
        if len(values):
            found |= {f"{name}_{label}": float(statistic(values)) for label, statistic in _STATISTICS.items()}
    if done.any():
        longest_wait_s = float(waits_s.max()) if len(waits_s) else 0.0  # the first requests wait together
        makespan = float(r.finish_s[done].max() - r.released_s[late].min()) + longest_wait_s
        output = float(r.generated_tokens[done].sum())
        found["latency_sum"] = float(latencies["e2e"].sum())
        found["makespan"] = makespan
        found["ttft_batch"] = float(r.first_token_s[done].max() - r.released_s[late].min()) + longest_wait_s
        found["output_tokens_per_s"] = output / makespan
        found["total_tokens_per_s"] = (output + float(records.table.prompt_tokens[done].sum())) / makespan
    return found
