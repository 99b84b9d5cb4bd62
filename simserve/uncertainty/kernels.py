"""How far off the time of a run's steps may be for its kernels: their check errors, weighed with the time each takes.

Operators of one kind err together (a multiplication that is 5 % too slow in one layer is so in all: one fit, one device), operators of
different kinds do not (fits of different tables): shares add up within a kind and in squares between kinds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    "elementwise": ("elementwise",),
}
"""Operator -> parts of a step's breakdown that it makes. What is not here is of the links."""

APART = ("sampler", "linear_attention")
"""Element-wise kernels that are parts of their own: where they are estimated by name, this says nothing of the others."""

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
    spreads, estimated = _by_part(knowing.spreads(), knowing.describe().get("unvalidated") or ())
    kinds: dict[str, float] = defaultdict(float)
    unmeasured = 0.0
    for part, seconds in parts.items():
        if part in HOST:
            continue
        kind = part if part in spreads else "links"
        kinds[kind] += seconds / total * spreads.get(kind, 0.0)
        unmeasured += seconds / total * estimated.get(kind, 0.0)
    host = sum(parts.get(part, 0.0) for part in HOST) / total
    return StepSpread(math.sqrt(sum(log * log for log in kinds.values())), host, unmeasured)


def _by_part(spreads: Mapping[str, float], unmeasured: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The spread of each part of a step, the mean over its kernels, and how much of it nothing measured: of the element-wise kernels, which
    are many and alike, the fraction of them; all of another part as soon as one of its kernels was not measured.

    unmeasured  labels as in `spreads`, or with the name of the one kernel that is meant in parentheses
    """
    found: dict[str, list[float]] = defaultdict(list)
    estimated: dict[str, list[bool]] = defaultdict(list)
    missing = set(unmeasured)
    for label, spread in spreads.items():
        for part in _parts(label, missing):
            found[part].append(spread)
            estimated[part].append(label in missing or "roofline estimate" in label)
    for part in APART:
        if part not in found and "elementwise" in found:
            found[part], estimated[part] = found["elementwise"], estimated["elementwise"]
    fractions = {part: float(any(each)) if part != "elementwise" else sum(each) / len(each) for part, each in estimated.items()}
    return {part: sum(values) / len(values) for part, values in found.items()}, fractions


def _parts(label: str, missing: Collection[str]) -> Sequence[str]:
    """The parts that kernels of this label make, each as often as there are such kernels."""
    name = label.split(" ", 1)[0]
    named = sorted(one.removeprefix(f"{label} (").removesuffix(")") for one in missing if one.startswith(f"{label} ("))
    if name == "elementwise" and named and label not in missing:
        return [kernel if kernel in APART else "elementwise" for kernel in named]
    return KINDS.get(name, ("links",))


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
