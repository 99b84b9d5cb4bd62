"""The metrics that serving engines export, as an autoscaler reads them: for a pool of instances, and some time late.

waiting         requests in the queues of its instances and held before them (vllm:num_requests_waiting)
running         requests that hold KV cache (vllm:num_requests_running)
kv_usage        fraction of the KV cache in use, mean over the instances (vllm:kv_cache_usage_perc)
tokens_per_s    output tokens a second, over the last window (rate of vllm:generation_tokens_total)
requests_per_s  requests that ended a second, likewise (rate of vllm:request_success_total)
ttft_s          mean time to the first token of those that had theirs in the last window (vllm:time_to_first_token_seconds)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from simserve.contracts import ClusterControl, Request
from simserve.policies.scaling.pool import Pool

Metric = Literal["waiting", "running", "kv_usage", "tokens_per_s", "requests_per_s", "ttft_s"]


class Sample(NamedTuple):
    """What the instances of a pool exported at a moment: `ready` of them did. None: no instance, or no request, said anything.

    All values but `ttft_s` are means of an instance.
    """

    at_s: float
    ready: int
    values: dict[str, float | None]
    each: tuple[tuple[float, int], ...] = ()
    """KV usage and queue of every instance."""


class Exported:
    """The metrics of one pool over time. `look` samples them; `read` says what is known with a lag."""

    def __init__(self, window_s: float, lag_s: float) -> None:
        self._window_s, self._lag_s = window_s, lag_s
        self._samples: deque[Sample] = deque()
        self._totals: deque[tuple[float, float, float]] = deque()
        self._ended_tokens = self._ended_requests = 0
        self._first_tokens: deque[tuple[float, float]] = deque()

    def ended(self, requests: Sequence[Request]) -> None:
        """Requests have ended: their tokens go on counting, and so do their first tokens."""
        for request in requests:
            self._ended_requests += 1
            self._ended_tokens += request.generated_tokens
            if request.first_token_s >= 0:
                self._first_tokens.append((request.first_token_s, request.first_token_s - request.released_s))

    def look(self, cluster: ClusterControl, pool: Pool) -> None:
        """Samples the pool now."""
        now = cluster.now
        loads = [cluster.load(number) for number in pool.ready]
        ready = len(loads)
        each = tuple((1.0 - load.free_blocks / load.total_blocks if load.total_blocks else 0.0, load.waiting) for load in loads)
        waiting, running = sum(load.waiting for load in loads) + cluster.held, sum(load.running for load in loads)
        tokens_per_s, requests_per_s = self._rates(cluster, now)
        values: dict[str, float | None] = {
            "waiting": waiting / ready if ready else None,
            "running": running / ready if ready else None,
            "kv_usage": sum(usage for usage, _ in each) / ready if ready else None,
            "tokens_per_s": tokens_per_s / ready if ready else None,
            "requests_per_s": requests_per_s / ready if ready else None,
            "ttft_s": self._ttft_s(cluster, now),
        }
        self._samples.append(Sample(now, ready, values, each))
        while len(self._samples) > 1 and self._samples[1].at_s <= now - max(self._window_s, self._lag_s):
            self._samples.popleft()

    def read(self, now: float) -> Sample | None:
        """The newest sample that is at least the lag old; None before there is one."""
        return next((sample for sample in reversed(self._samples) if sample.at_s <= now - self._lag_s + 1e-9), None)

    def since(self, from_s: float, now: float) -> list[Sample]:
        """The samples of a time that are known by now."""
        return [sample for sample in self._samples if from_s <= sample.at_s <= now - self._lag_s + 1e-9]

    def _rates(self, cluster: ClusterControl, now: float) -> tuple[float, float]:
        """Tokens and ended requests a second since the oldest look in the window."""
        live = sum(cluster.generated(number) for number in range(len(cluster.states)))
        self._totals.append((now, self._ended_tokens + live, self._ended_requests))
        while len(self._totals) > 2 and self._totals[1][0] <= now - self._window_s:
            self._totals.popleft()
        since_s, tokens, requests = self._totals[0]
        if now <= since_s:
            return 0.0, 0.0
        return max(0.0, self._totals[-1][1] - tokens) / (now - since_s), (self._ended_requests - requests) / (now - since_s)

    def _ttft_s(self, cluster: ClusterControl, now: float) -> float | None:
        """Mean over the first tokens of the window, of requests that have ended and of those that go on."""
        from_s = now - self._window_s
        self._first_tokens = deque(entry for entry in self._first_tokens if entry[0] > from_s)
        waits_s = [wait_s for _, wait_s in self._first_tokens] + cluster.first_token_waits(from_s)
        return sum(waits_s) / len(waits_s) if waits_s else None
