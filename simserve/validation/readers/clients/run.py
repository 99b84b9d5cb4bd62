"""What every client's reader returns: one run, from which a case is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simserve.validation import names
from simserve.validation.case import Arrivals, Case, Lengths, Load, Ramp
from simserve.validation.readers.clients.fields import Fields

MOST_TOKENS = 10_000_000
"""The mean prompt or answer of a run; no model has a longer context."""

MOST_FAILED_FRACTION = 0.05
"""Of the requests sent: where more failed, the engine had another load than that of the requests that were measured."""

EQUAL_GAPS = math.inf
"""The burstiness of arrivals at a constant rate."""


class LoadError(Exception):
    """The load of a run is not understood; the text says what of it."""


@dataclass(frozen=True, slots=True)
class ClientRun:
    """A run as its result tells it.

    requests  that were measured; 0 = not stated
    failed    that were sent and ended with an error
    load      kind, clients, rate and arrivals (see the functions below); the lengths and the count are filled in by `case_of`
    measured  metric -> seconds or tokens per second, None where not measured
    settings  of the server, where the result states them, in the words of `Case.settings`
    """

    requests: int
    prompt: Lengths
    output: Lengths
    load: Load
    measured: Mapping[str, float | None]
    model: str = ""
    engine: str = ""
    version: str = ""
    gpu: str = ""
    tp: int = 1
    failed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Lengths(0.0)


def closed(clients: int) -> Load:
    """So many clients, each with one request under way."""
    return Load("closed", NOTHING, NOTHING, concurrency=clients)


def at_once() -> Load:
    """Every request at the start."""
    return Load("burst", NOTHING, NOTHING)


def arriving(
    rate_per_s: float, *, cap: int = 0, burstiness: float = 1.0, ramp: Ramp | None = None, exact_rate: bool = False, first_at_once: int = 0
) -> Load:
    """Open arrivals, with at most `cap` requests under way (0 = any number). Plain Poisson arrivals carry no `Arrivals`."""
    shape = Arrivals(burstiness, ramp, exact_rate, first_at_once)
    return Load("open", NOTHING, NOTHING, concurrency=cap, rate_per_s=rate_per_s, arrivals=None if shape == Arrivals() else shape)


def replayed(rows: Sequence[tuple[float, int, int]]) -> Load:
    """Requests (start in seconds, prompt tokens, output tokens) exactly as they were sent."""
    ordered = sorted(rows)
    first = ordered[0][0]
    return Load(
        "replay",
        NOTHING,
        NOTHING,
        arrival_s=tuple(start - first for start, _, _ in ordered),
        prompts=tuple(prompt for _, prompt, _ in ordered),
        outputs=tuple(output for _, _, output in ordered),
    )


def spread(values: Sequence[float]) -> Lengths:
    """Lognormal lengths with the mean and the variance of the measured ones; fixed when they hardly differ."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    if mean <= 0 or variance < (0.02 * mean) ** 2:
        return Lengths(mean)
    return Lengths(mean, "lognormal", spread=math.sqrt(math.log(1.0 + variance / mean**2)))


def case_of(run: ClientRun | None, fields: Fields, lacks: str, label: str, dataset: str) -> Case:
    """The case of a run. `lacks` says what of the load was not understood; what `fields` could not read counts as well."""
    if run is None:
        run = ClientRun(0, NOTHING, NOTHING, at_once(), {})
    if not lacks and fields.problems:
        lacks = fields.problems[0]
    if not lacks and (run.requests < 1 or not all(0 < lengths.mean <= MOST_TOKENS for lengths in (run.prompt, run.output))):
        lacks = "the result lacks its request count or lengths"
    if not lacks and run.failed > MOST_FAILED_FRACTION * (run.requests + run.failed):
        lacks = f"{run.failed:,} of {run.requests + run.failed:,} requests failed"
    load = run.load
    if load.kind == "closed":
        load = _replaced(load, concurrency=min(load.concurrency, max(run.requests, 1)))
    return Case(
        dataset=dataset,
        label=label,
        run=dataset,
        engine=run.engine,
        version=run.version,
        profile=names.engine_profile_name(run.engine, run.version) if run.engine else "",
        gpu=run.gpu,
        model=run.model,
        load=_replaced(load, prompt=run.prompt, output=run.output, requests=run.requests),
        measured={metric: value for metric, value in run.measured.items() if value},
        tp=run.tp,
        settings={**run.settings, "client": True, **({"lacks": lacks} if lacks else {})},
        skip=lacks,
    )


def _replaced(load: Load, **changes: Any) -> Load:
    from dataclasses import replace

    return replace(load, **changes)
