"""The answer of a plan search: the plan, its price, how sure that is, why cheaper ones lose; or what stops all of them."""

from __future__ import annotations

from collections import Counter

from simserve.study.limits import ALL_REJECTED, serves_none
from simserve.study.plan.figures import BY_BOUNDS, Fate, Outcome, PlanFigures

_MOST_DOUBTS = 2


def price(one: Outcome) -> str:
    """`$6.98 an hour`, or the devices where they have no price."""
    return f"{devices(one.devices)} (no price)" if one.usd_per_hour is None else f"${one.usd_per_hour:,.2f} an hour"


def devices(count: int) -> str:
    """`1 device`, `8 devices`."""
    return f"{count:,} device{'s' if count != 1 else ''}"


def about(seconds: float) -> str:
    """`about 8 minutes`, of work that has not begun."""
    hours = seconds / 3600
    return f"about {hours:,.1f} hours" if hours >= 1 else f"about {60 * hours:,.0f} minutes" if hours >= 1 / 60 else "less than a minute"


def answer(result: PlanFigures) -> str:
    """The answer, whatever it is, and to which load."""
    best = result.best
    text = _none(result) if best is None else _chosen(result, best)
    return f"{text} Planned for {result.load}." if result.load else text


def _chosen(result: PlanFigures, best: Outcome) -> str:
    text = f"Deploy {best.name}: {devices(best.devices)}{'' if best.usd_per_hour is None else f', {price(best)}'}"
    per_token = best.values.get("usd_per_million_output_tokens")
    if per_token is not None:
        text += f", ${per_token:,.3g} per million output tokens"
    assert best.verification is not None
    text += f". On {len(best.verification.seeds)} fresh seeds it meets '{result.predicate.text}'{_margin(result, best)}."
    return text + _doubts(result, best) + _cheaper(result, best) + _room(best)


def _margin(result: PlanFigures, best: Outcome) -> str:
    known = [(limit, value) for limit in result.limits if (value := best.values.get(limit.quantity.column)) is not None]
    return f": {', '.join(f'{limit.quantity.text} {value:.4g}' for limit, value in known)}" if known else ""


def _doubts(result: PlanFigures, best: Outcome) -> str:
    verification = best.verification
    assert verification is not None
    if not verification.doubtful:
        return ""
    text = f" But that margin lies inside its own error: {'; '.join(verification.doubtful[:_MOST_DOUBTS])}."
    clear = result.clear
    if clear is None:
        return text + " No plan that was verified is clear of it."
    return f"{text} Clear of it is {clear.name}, {price(clear)}."


def _cheaper(result: PlanFigures, best: Outcome) -> str:
    cheaper = [one for one in result.outcomes if one.order < best.order and one.fate != Fate.NOT_RUN]
    if not cheaper:
        return " No plan within the budget is cheaper."
    nearest = _nearest(result, cheaper)
    verb = "are" if len(cheaper) > 1 else "is"
    return f" {_tally(cheaper)} {verb} cheaper; of these {nearest.name} ({price(nearest)}) comes nearest: {nearest.why}."


def _room(best: Outcome) -> str:
    return "" if best.head_room is None else f" The load could grow by {100 * best.head_room:.0f} % before the capacity bound, at best."


def _none(result: PlanFigures) -> str:
    ran = [one for one in result.outcomes if one.values]
    if ran and all(serves_none(one.values) for one in ran):
        why = ran[0].why.removeprefix(ALL_REJECTED).removeprefix(": ")
        others = [one for one in result.outcomes if not one.values]
        rest = f" The others were not run: {_tally(others)}." if others else ""
        return (
            f"No plan within the budget serves a single request: on all {len(ran):,} that were run every request is rejected"
            f"{f' ({why})' if why else ''}. This is no question of price or speed.{rest}"
        )
    nearest = _nearest(result, list(result.outcomes))
    there = "There is" if len(result.outcomes) == 1 else "There are"
    text = f"No plan within the budget meets '{result.predicate.text}'. {there} {_tally(list(result.outcomes))}."
    if all(one.fate in (Fate.TOO_SLOW, Fate.IMPOSSIBLE) for one in result.outcomes):
        text += " They miss it on empty instances: it cannot hold at any load."
    return f"{text} The nearest is {nearest.name} ({price(nearest)}): {nearest.why}."


def _tally(found: list[Outcome]) -> str:
    """`12 plans (6 'overloaded', 4 'does not fit', 2 'misses the SLO')`."""
    counts = Counter(str(one.fate) for one in found)
    parts = [f"{count:,} '{fate}'" for fate, count in counts.most_common()]
    return f"{len(found):,} plan{'s' if len(found) != 1 else ''} ({', '.join(parts)})"


def _nearest(result: PlanFigures, found: list[Outcome]) -> Outcome:
    """The one that came furthest, of these with the least overload, or the largest margin."""
    stages = [*BY_BOUNDS, Fate.NOT_RUN, Fate.FAILED, Fate.HELD, Fate.REFUTED, Fate.VERIFIED]

    def key(one: Outcome) -> tuple[float, ...]:
        margins = [limit.margin(value) for limit in result.limits if (value := one.values.get(limit.quantity.column)) is not None]
        return (stages.index(one.fate), one.fraction, min(margins, default=0.0), -(one.utilisation or 0.0), -one.order)

    return max(found, key=key)
