"""The answer of a placement search in a few sentences. Each says what was seen and where, and no more."""

from __future__ import annotations

from simserve.study.caveats import at_an_end
from simserve.study.limits import steering
from simserve.study.placement.figures import PlacementFigures, Tried, told_apart
from simserve.study.rate_key import unit

_MOST_TIES = 4


def answer(result: PlacementFigures) -> str:
    """The answer, whatever it is."""
    best, what = result.best, unit(result.rate_key)
    if (best is None or best.low is None) and steering(result.predicate).split:
        return f"No placement holds: '{result.predicate.text}' fails at the highest load that all but the cost of a token allows, or below."
    if best is None or best.low is None:
        rates = [t.high for t in result.tried if t.high is not None and t.error is None]
        return f"No placement holds: '{result.predicate.text}' fails even at {min(rates):.3g} {what} a device, the lightest load tried."
    devices = best.placement.devices
    on = f"{best.low * devices:.3g} on {devices} device{'s' if devices > 1 else ''}"
    per_s = best.values.get("arrivals_per_s")
    if per_s is not None and what != "requests/s":
        on += f", {per_s:.3g} requests/s"
    text = f"Best: {best.placement}, holds at {best.low:.3g} {what} a device ({on})"
    if best.high is None:
        more = "with all requests in the system at once: the workload is too short to load it, use more requests"
        tried = "the heaviest load that was tried: what is tested may not depend on this load at all"
        return f"{text}. It never failed, {more if at_an_end(best.values, holds=True) else tried}.{_ties(result)}"
    above = f"{best.high:.3g} a device, {100 * (best.high / best.low - 1):.2g} % more"
    if best.saturates:
        text += f". At {above}, the queue grows through the run while the predicate still holds."
    else:
        text += f". It fails at {above}: {best.limit}."
    return text + _ties(result) + _other_kind(result, best)


def _ties(result: PlacementFigures) -> str:
    ties = result.ties
    if not ties:
        return ""
    names = ", ".join(str(t.placement) for t in ties[:_MOST_TIES])
    more = f" and {len(ties) - _MOST_TIES} more" if len(ties) > _MOST_TIES else ""
    return f" At this tolerance ({100 * result.tolerance:g} %) the search does not tell it from {names}{more}; a smaller --tolerance may."


def _other_kind(result: PlacementFigures, best: Tried) -> str:
    other = result.best_of("mixed" if best.placement.kind == "disaggregated" else "disaggregated")
    if other is None or not other.low or best.low is None:
        return ""
    if not told_apart(best, other):
        return f" The best {other.placement.kind} one is as good, as far as this search tells: {other.placement}."
    return f" That is {best.low / other.low:.3g} times the best {other.placement.kind} one: {other.placement}."
