"""Which figures err alike: of the first token, of the next ones, of whole requests, and rates; tails apart from means."""

from __future__ import annotations

import re
from typing import NamedTuple

from simserve.uncertainty.facts import Facts
from simserve.uncertainty.kernels import StepSpread

DEVICES_DECIDE = 0.5
"""Rates that follow the devices by at least this much say how wrong steps are; the others are mostly the load's, which is given."""


class Kind(NamedTuple):
    """A kind of figure: its `name` in what was learned, how much such a figure of this run `reacts` to slower steps, and which `steps` it
    is made of."""

    name: str
    reacts: float
    steps: StepSpread


FIRST, NEXT, WHOLE, RATE = "first", "next", "whole", "rate"
TAIL = " tail"
"""What is added to the name of a kind for the tails of its figures."""


_FIRST = {"ttft", "queueing", "prompt_phase", "ttft_batch"}
_NEXT = {"tpot", "itl", "itl_emission", "decode_step"}
_WHOLE = {"e2e", "normalized_latency", "latency_sum"}
_RATES = {"throughput.requests", "throughput.output_tokens", "throughput.total_tokens", "output_tokens_per_s", "total_tokens_per_s"}

_STAT = re.compile(r"[._](mean|median|max|p\d{1,2}(?:_\d+)?)\Z")
_TAIL_FROM = 75
"""Percentiles above the upper quartile are of the slow requests, whose time is made of waiting and of the longest."""


def kind_of(figure: str, facts: Facts) -> Kind | None:
    """Of a headline ("ttft.p99", "throughput.output_tokens") or a metric of measured runs ("ttft_p99", "makespan"); None where figures of
    this name have no interval."""
    stat = _STAT.search(figure)
    base = figure[: stat.start()] if stat else figure
    tail = TAIL if stat and _is_tail(stat[1]) else ""
    s = facts.sensitivity
    if base in _FIRST:
        return Kind(FIRST + tail, max(s.queueing if base == "queueing" else s.ttft, 1.0), facts.first)
    if base in _NEXT:
        return Kind(NEXT + tail, max(s.tpot, 1.0), facts.next)
    if base in _WHOLE:
        return Kind(WHOLE + tail, max(s.e2e, 1.0), max(facts.first, facts.next, key=lambda step: step.log))
    if base in _RATES or base == "makespan":
        return Kind(RATE, max(-s.rate, 0.0), facts.next)
    return None


def _is_tail(stat: str) -> bool:
    return stat == "max" or (stat[:1] == "p" and float(stat[1:].replace("_", ".")) > _TAIL_FROM)
