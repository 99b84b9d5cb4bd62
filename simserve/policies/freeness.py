"""Freeness, Llumnix's one measure of load for dispatching, migrating and scaling (arXiv 2406.03243, section 4.4.1)."""

from __future__ import annotations

import math

from simserve.contracts import Load


def freeness(load: Load, headroom_blocks: int = 0, high_priority: int = 0) -> float:
    """Decode steps until the memory is used up: (M - sum of virtual usage) / batch, in blocks a request; infinite when idle.

    The first waiting request uses what it demands, so that an instance with a blocked queue is below one with the same memory and none:
    this is what makes migration clear memory for it (de-fragmentation). Each of `high_priority` running requests uses `headroom_blocks`
    beyond its own.
    """
    requests = load.running + (1 if load.waiting else 0)
    if not requests:
        return math.inf
    return (load.free_blocks - load.head_blocks - headroom_blocks * high_priority) / requests
