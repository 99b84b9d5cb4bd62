"""Seconds of one call: warm-up, rounds of rotating calls between device events, the median and the spread of the rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

from simserve.calibration.measure.devices import TorchDevice

Call = Callable[[], object]
_MAX_CALLS = 128
"""Calls in one round at most: a captured graph of more launches takes long to make and gives no better clock."""


@dataclass(frozen=True, slots=True)
class TimingRule:
    """How a call is timed.

    repeats     rounds whose median is the result
    round_s     a round of fast calls is made about this long, so that the clock's resolution (0.5 us on CUDA) does not matter
    point_s     a slow call gets fewer rounds, so that one point takes about this long at most
    flush_l2    write more than the L2 cache holds before every call (inputs cold too, not only the rotated weights)
    """

    repeats: int = 11
    round_s: float = 3e-4
    point_s: float = 1.0
    flush_l2: bool = False


class Timing(NamedTuple):
    """Median seconds of one call; spread is the interquartile range over the median, in percent, of `repeats` rounds of `calls` calls."""

    seconds: float
    spread_percent: float
    repeats: int
    calls: int


class Prepared(NamedTuple):
    """A kernel with its data in place. `calls` do the same work on different copies of the data, so that weights are not in the cache.

    kernel   which implementation. facts: further columns of the row. capturable: False when it synchronises with the host inside.
    """

    calls: Sequence[Call]
    kernel: str
    facts: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    capturable: bool = True


def time_calls(device: TorchDevice, calls: Sequence[Call], rule: TimingRule, graph: bool) -> Timing:
    """Time `calls` in turn. `graph` captures a round into one CUDA graph, so launch gaps are not in the number."""
    estimate_s = _estimate(device, calls)
    per_round = 1 if rule.flush_l2 else _calls_per_round(estimate_s, len(calls), rule)
    repeats = max(1, min(rule.repeats, int(rule.point_s / max(estimate_s * per_round, 1e-9))))
    turn = cycle(calls)

    def one_round() -> None:
        for _ in range(per_round):
            next(turn)()

    run = device.capture(one_round) if graph else one_round
    flush = _flusher(device) if rule.flush_l2 else None
    if repeats > 1:
        run()
    device.synchronize()
    pairs = []
    for _ in range(repeats):
        if flush is not None:
            flush()  # long enough for the host to queue what follows, so no launch gap falls between the events
        start, end = device.event(), device.event()
        start.record()
        run()
        end.record()
        pairs.append((start, end))
    seconds = np.array([device.elapsed_s(start, end) for start, end in pairs]) / per_round
    q25, median, q75 = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Timing(float(median), float(100.0 * (q75 - q25) / median) if median else 0.0, repeats, per_round)


def _estimate(device: TorchDevice, calls: Sequence[Call]) -> float:
    """Seconds of one call by the host's clock. The first call compiles, allocates and picks algorithms: it does not count."""
    calls[0]()
    device.synchronize()
    start = time.perf_counter()
    calls[-1]()
    device.synchronize()
    return max(time.perf_counter() - start, 1e-6)


def _calls_per_round(estimate_s: float, copies: int, rule: TimingRule) -> int:
    longest = max(1, int(rule.point_s / rule.repeats / estimate_s))
    wanted = copies * -(-int(rule.round_s / estimate_s) // copies)  # whole turns through the copies
    return max(1, min(max(wanted, copies), longest, _MAX_CALLS))


def _flusher(device: TorchDevice) -> Call:
    buffer = device.torch.empty(2 * device.l2_bytes, dtype=device.torch.uint8, device=device.device)
    return lambda: buffer.fill_(1)
