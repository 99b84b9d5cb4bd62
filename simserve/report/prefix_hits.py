"""The hit rate of prefix caches: of the prompt tokens looked up, those found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simserve.report.metrics import Measurement


def prefix_hits(m: Measurement) -> dict[str, Any] | None:
    """The `prefix_cache` part of summary.json; None where no instance looked anything up (no cache, or prompts of unknown content).

    looked_up_tokens  prompt tokens of the requests released in the window whose first prefill ended on an instance with a prefix cache
    hit_tokens        those of them that were found there at the first admission; what a request reads again after a preemption is no hit
                      (as in vLLM's prefix cache metrics)
    hit_rate          hit_tokens / looked_up_tokens
    """
    caches = np.array([info.prefix_caching for info in m.records.instances], dtype=np.bool_)
    if not caches.any():
        return None
    emitted = m.records.emissions
    ended = np.flatnonzero(emitted.of_prefill())
    request, first = np.unique(emitted.request[ended], return_index=True)  # segments of one request are in order of time
    lanes = np.array([lane.instance for lane in m.records.lanes], dtype=np.int64)
    rows = request[caches[lanes[emitted.lane[ended[first]]]]]
    rows = rows[m.in_window[rows]]
    looked_up = int(m.records.table.prompt_tokens[rows].sum())
    hits = int(m.records.requests.cached_tokens[rows].sum())
    return hit_figures(len(rows), looked_up, hits)


def hit_figures(requests: int, looked_up_tokens: int, hit_tokens: int) -> dict[str, Any]:
    """The same from its counts."""
    rate = hit_tokens / looked_up_tokens if looked_up_tokens else math.nan
    return {"requests": requests, "looked_up_tokens": looked_up_tokens, "hit_tokens": hit_tokens, "hit_rate": rate}
