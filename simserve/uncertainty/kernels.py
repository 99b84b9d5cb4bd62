"""How far off the time of a run's steps may be for its kernels: their check errors, weighed with the time each takes.

Operators of one kind err together (a multiplication that is 5 % too slow in one layer is so in all: one fit, one device), operators of
different kinds do not (fits of different tables): shares add up within a kind and in squares between kinds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from simserve.contracts import Slice, Step
from simserve.contracts.wrapping import innermost
from simserve.engine.records import LaneLog

KINDS = {
    "gemm": ("gemm", "lm_head"),
    "attention_prefill": ("attention_prefill",),
    "attention_decode": ("attention_decode",),
    "mla": ("attention_prefill", "attention_decode"),
    "moe": ("moe",),
    "elementwise": ("elementwise", "sampler"),
}
"""Operator -> parts of a step's breakdown that it makes. What is not here is a part of its own name, or of the links."""

HOST = ("host", "launch")
"""Parts that are no kernel: the engine's overheads, learned from runs, so their errors are in what runs leave unexplained."""


class StepSpread(NamedTuple):
    """How far off a step may be.

    log         standard deviation of ln(true / predicted) seconds from its kernels
    host        fraction of its time that is the host's
    unmeasured  fraction of its time of operators that nothing measured
    """

    log: float
    host: float
    unmeasured: float


def step_spread(cost: Any, step: Step) -> StepSpread | None:
    """Of a step under this cost model; None where the model does not know how wrong it may be."""
    knowing = innermost(cost, "spreads")
    if not hasattr(knowing, "spreads"):
        return None
    parts = knowing.breakdown(step)
    total = sum(parts.values())
    if total <= 0:
        return None
    spreads, measured = _by_part(knowing.spreads(), knowing.describe().get("unvalidated") or ())
    kinds: dict[str, float] = defaultdict(float)
    unmeasured = 0.0
    for part, seconds in parts.items():
        if part in HOST:
            continue
        kind = part if part in spreads else "links"
        kinds[kind] += seconds / total * spreads.get(kind, 0.0)
        unmeasured += seconds / total * (0.0 if measured.get(kind, True) else 1.0)
    host = sum(parts.get(part, 0.0) for part in HOST) / total
    return StepSpread(math.sqrt(sum(log * log for log in kinds.values())), host, unmeasured)


def _by_part(spreads: Mapping[str, float], unmeasured: Any) -> tuple[dict[str, float], dict[str, bool]]:
    """The spread of each part of a step, the mean over its kernels, and whether all of these were measured."""
    found: dict[str, list[float]] = defaultdict(list)
    measured: dict[str, bool] = defaultdict(lambda: True)
    missing = set(unmeasured)
    for label, spread in spreads.items():
        name = label.split(" ", 1)[0]
        for part in KINDS.get(name, ("links",)):
            found[part].append(spread)
            measured[part] &= label not in missing and "roofline estimate" not in label
    return {part: sum(values) / len(values) for part, values in found.items()}, dict(measured)


def decode_step(lane: LaneLog) -> Step | None:
    """The mean decode-only step of a lane, by steps; None where there is none."""
    only = (lane.span_decode_requests > 0) & (lane.sliced()[1] == 0)
    steps = lane.span_steps[only].astype(float)
    if not steps.sum():
        return None
    batch = lane.span_decode_requests[only].astype(float)
    context = lane.span_context_tokens[only] + batch * (steps - 1.0) / 2.0
    n = max(round(float((steps * batch).sum() / steps.sum())), 1)
    tokens = max(round(float((steps * context).sum() / (steps * batch).sum()) * n), n)
    return Step(n, tokens, -(-tokens // n))


def prompt_step(lane: LaneLog) -> Step | None:
    """The mean step of a lane that computes prompts, by their tokens; None where there is none."""
    chunks, tokens, pairs = lane.sliced()
    has = tokens > 0
    if not has.any():
        return None
    weight = tokens[has].astype(float)
    mean = {name: float((weight * column[has]).sum() / weight.sum()) for name, column in (("chunks", chunks), ("tokens", tokens))}
    each = max(round(mean["tokens"] / mean["chunks"]), 1)
    attended = float(pairs[has].sum() / tokens[has].sum())  # of the mean query
    before = max(round(attended - each / 2.0), 0)
    n = round(float((weight * lane.span_decode_requests[has]).sum() / weight.sum()))
    context = round(float((weight * lane.span_context_tokens[has]).sum() / weight.sum()))
    decodes = (n, max(context, n), -(-max(context, n) // n)) if n else (0, 0, 0)
    return Step(*decodes, [Slice(each, before)] * max(round(mean["chunks"]), 1))
