"""The answer of a capacity search in a sentence or two. Each says what was seen and where, and no more."""

from __future__ import annotations

from simserve.study.capacity.figures import CapacityFigures, Probe, Replicate
from simserve.study.caveats import at_an_end
from simserve.study.rate_key import unit
from simserve.study.statistics import CONFIDENCE


def answer(result: CapacityFigures) -> str:
    """The answer, whatever it is."""
    if result.outcome == "never":
        return _never(result)
    if result.outcome == "always":
        return _always(result)
    return _found(result)


def _never(result: CapacityFigures) -> str:
    dear = [r for r in result.replicates if r.outcome == "never" and r.low is not None]
    if dear:
        return _too_dear(result, dear[0])
    lightest = min(_of(result, "never"), key=lambda probe: probe.rate)
    what = unit(result.rate_key)
    where = "where no two requests meet" if at_an_end(lightest.values, holds=False) else "the lightest load that was tried"
    text = f"Never holds{_fraction(result, 'never')}: '{result.predicate.text}' fails even at {lightest.rate:.4g} {what}, {where}: "
    return text + "; ".join(lightest.reasons) + "."


def _too_dear(result: CapacityFigures, replicate: Replicate) -> str:
    """What improves with the load fails at the highest load that the rest allows."""
    what = unit(result.rate_key)
    probe = next(p for p in result.probes if p.seed == replicate.seed and p.rate == replicate.low)
    where = f"at {probe.rate:.4g} {what}, the highest load that everything else allows"
    text = f"Never holds{_fraction(result, 'never')}: '{result.predicate.text}' fails {where}, where a token costs least: "
    return text + "; ".join(probe.reasons) + "."


def _always(result: CapacityFigures) -> str:
    heaviest = max(_of(result, "always"), key=lambda probe: probe.rate)
    what = unit(result.rate_key)
    text = f"Always holds{_fraction(result, 'always')}: '{result.predicate.text}' holds up to {heaviest.rate:.4g} {what}, "
    if at_an_end(heaviest.values, holds=True):
        text += "where all requests are in the system at once. The workload is too short to load it: "
        return text + "use more requests (count, duration_s) or a stricter predicate."
    return text + "the heaviest load that was tried. What it tests may not depend on this load at all."


def _found(result: CapacityFigures) -> str:
    assert result.rate is not None and result.resolution is not None
    what = unit(result.rate_key)
    text = f"Capacity {result.rate:.4g} {what}"
    if result.requests_per_s is not None and result.rate_key.endswith("rate_scale"):
        text += f", {result.requests_per_s:.4g} requests/s"
    if result.interval is not None:
        low, high = result.interval
        text += f" ({100 * CONFIDENCE:.0f} % confidence {max(low, 0):.4g} to {high:.4g}, {len(result.replicates)} seeds)"
    text += f": the highest load seen at which '{result.predicate.text}' holds, within {100 * result.resolution:.2g} %. "
    edge = result.edge
    assert edge is not None
    first = f"at {edge.rate:.4g}" if len(result.replicates) == 1 else f"first at {edge.rate:.4g} (seed {edge.seed})"
    if result.saturates:
        return text + f"It saturates {first}: the queue grows through the run while the predicate still holds."
    return text + f"It fails {first}: {result.limit}."


def _of(result: CapacityFigures, outcome: str) -> list[Probe]:
    seeds = {replicate.seed for replicate in result.replicates if replicate.outcome == outcome}
    return [probe for probe in result.probes if probe.seed in seeds]


def _fraction(result: CapacityFigures, outcome: str) -> str:
    number = sum(replicate.outcome == outcome for replicate in result.replicates)
    return "" if number == len(result.replicates) else f" for {number} of {len(result.replicates)} seeds"
