"""Generated requests drawn a piece at a time: the same as those that `build_workload` draws at once, whatever the pieces."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from simserve.workload.config import WorkloadConfig, finished, generated, random_streams
from simserve.workload.generators.arrivals import Arriving
from simserve.workload.requests import RequestTable, Workload


def can_be_drawn(config: WorkloadConfig) -> bool:
    """Whether a section states a number of requests with arrivals and lengths that are drawn one after the other."""
    lengths, source = config.lengths, config.trace or config.burstgpt_like
    if source is not None or config.closed_loop is not None or config.arrivals is None or config.duration_s is not None:
        return False
    return bool(config.count) and lengths is not None and lengths.prompt is not None and lengths.output is not None


def drawn(config: WorkloadConfig, seed: int) -> Workload:
    """The workload of a section that `can_be_drawn`, whose table has no rows: they come from `Workload.tables`."""
    assert config.count is not None and config.arrivals is not None
    nothing = next(_tables(config, seed, 0, 0))
    about_s = config.count / config.arrivals.mean_rate_per_s()
    tables = partial(_tables, config, seed, config.count)
    return Workload(nothing, max_concurrency=config.max_concurrency, tables=tables, total=config.count, about_s=about_s)


def _tables(config: WorkloadConfig, seed: int, count: int, rows: int) -> Iterator[RequestTable]:
    """`count` requests, so many rows at a time; one table without rows for none."""
    arrivals, lengths = config.arrivals, config.lengths
    assert arrivals is not None and lengths is not None and lengths.prompt is not None and lengths.output is not None
    arrival_rng, length_rng, class_rng, _ = random_streams(seed)
    output_rng = copy.deepcopy(length_rng)  # draws of outputs come after those of all prompts
    for first in range(0, count, rows or 1):
        lengths.prompt.sample(output_rng, min(rows, count - first))
    arriving = Arriving(arrivals, arrival_rng)
    for first in range(0, count, rows) if count else (0,):
        size = min(rows, count - first)
        prompt, output = lengths.prompt.sample(length_rng, size), lengths.output.sample(output_rng, size)
        table = RequestTable.build(arriving.next_s(size), prompt, output, provenance=generated(config, config.count or 0))
        yield finished(replace(table, prefix=None), config, class_rng)


def whole(workload: Workload) -> Workload:
    """The same with all rows in its table."""
    if workload.tables is None:
        return workload
    from simserve.workload.joining import joined

    table = joined([*workload.tables(max(workload.total, 1))])
    return replace(workload, requests=table, tables=None, total=len(table), about_s=float(np.max(table.arrival_s, initial=0.0)))
