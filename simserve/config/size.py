"""How large a run will be, said before it starts: requests and instances that memory cannot hold, timers that tick without end."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from simserve.bounds import LEAST_INTERVAL_S, MOST_S
from simserve.config.experiment import Experiment
from simserve.engine.spec import ClusterSpec
from simserve.errors import ConfigError
from simserve.files.words import shown
from simserve.workload.config import WorkloadConfig
from simserve.workload.requests import Workload

REQUEST_BYTES = 600
"""Memory of one request with its records and metrics: 565 bytes in runs of 200,000 open arrivals."""

INSTANCE_BYTES = 15_000
"""Memory of one instance: runs of 3,000 against runs of one."""

MOST_TICKS = 1_000_000_000
"""A tick takes microseconds: so many take hours during which nothing else happens."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_memory(experiment: Experiment, pieces: bool = False) -> None:
    """Raises ConfigError when the requests that the workload states, and the instances, need more memory than this machine has. `pieces`:
    requests beyond `stream_above` leave while the run goes on."""
    requests = _stated_requests(experiment.spec.workload)
    instances = sum(group.max_count for group in experiment.groups)
    kept = min(requests, experiment.spec.stream_above) if pieces else requests
    needed, there = kept * REQUEST_BYTES + instances * INSTANCE_BYTES, memory_bytes()
    if needed > there:
        raise ConfigError(
            f"{experiment.name}: {requests:,} requests on {instances:,} instance{'s' if instances > 1 else ''} need about "
            f"{needed / 2**30:.0f} GiB of memory, this machine has {there / 2**30:.0f}; take fewer (count, limit, resample)"
        )


def check_time(experiment: Experiment, workload: Workload, cluster: ClusterSpec) -> None:
    """Raises ConfigError for arrivals beyond what a clock can tell apart, and for timers that would tick more than MOST_TICKS times."""
    last = float(np.max(workload.requests.arrival_s, initial=0.0)) if workload.tables is None else workload.about_s
    if not math.isfinite(last) or last > MOST_S:
        raise ConfigError(
            f"{experiment.name}: the last request arrives after {last:.3g} s; a run is at most {MOST_S:,.0f} s (30 years) long:"
            " take fewer requests, a higher rate or a larger rate_scale"
        )
    until = experiment.spec.until_s
    span = last if until is None else min(last, until) if workload.concurrency is None else until
    instances = sum(group.max_count for group in experiment.groups)
    timers = [("cluster.router.refresh_s", cluster.refresh_s, 1)]
    timers += [(f"cluster.controllers.{i}: interval_s", _interval(i, one), 1) for i, one in enumerate(cluster.controllers)]
    if cluster.failures is not None and cluster.failures.mtbf_s is not None:
        timers.append(("cluster.failures.mtbf_s", cluster.failures.mtbf_s, instances))
    for key, seconds, times in timers:
        if seconds > 0 and (ticks := times * span / seconds) > MOST_TICKS:
            raise ConfigError(
                f"{experiment.name}: {key}: found {seconds:g}; over the {span:,.0f} s of arrivals that is {ticks:,.0f} times"
                f" (at most {MOST_TICKS:,})"
            )


def memory_bytes() -> int:
    """Memory that this process may use: of the machine, or of its control group where that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(found, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no control groups here, or "max"
        return found


def _interval(number: int, controller: object) -> float:
    found = getattr(controller, "interval_s", None)
    if isinstance(found, bool) or not isinstance(found, int | float) or not LEAST_INTERVAL_S <= found <= MOST_S:
        raise ConfigError(f"cluster.controllers.{number}: interval_s is {shown(found)}, expected seconds >= {LEAST_INTERVAL_S:g}")
    return float(found)


def _stated_requests(workload: WorkloadConfig | None) -> int:
    """Requests as far as the experiment says how many; a trace's own number is known when it has been read."""
    if workload is None:
        return 0
    if workload.count is not None:
        return workload.count
    source = workload.trace or workload.burstgpt_like
    return 0 if source is None else source.resample or 0
