"""The limits that a predicate sets, one by one: which binds, by how much it is met, what fails for certain."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

from simserve.study.caveats import improves_with_load
from simserve.study.predicate import Predicate, Values, parse, parse_quantity
from simserve.study.quantities import Quantity

ALL_REJECTED = "every request is rejected"


class Limit(NamedTuple):
    """`quantity` is at most (`upper`) or at least `bound`."""

    quantity: Quantity
    upper: bool
    bound: float

    @property
    def text(self) -> str:
        """As in a predicate."""
        return f"{self.quantity.text} {'<=' if self.upper else '>='} {self.bound:g}"

    def margin(self, value: float) -> float:
        """How far inside the limit a value is, as a fraction of it; negative outside. Of fractions that must be near 1 (attainment >= 0.99)
        as a fraction of what may miss, so that 0.995 is half way."""
        if self.upper:
            return (self.bound - value) / self.bound if self.bound else self.bound - value
        room = 1.0 - self.bound if 0.5 <= self.bound < 1.0 else self.bound
        return (value - self.bound) / room if room else value - self.bound

    def broken(self, value: float) -> bool:
        """Whether a value is outside."""
        return value > self.bound if self.upper else value < self.bound


def limits(predicate: Predicate) -> tuple[Limit, ...]:
    """The comparisons of one figure with a number that a predicate joins by `and`. Others (sums, or, not) set no single limit."""
    return tuple(_limits(predicate.tree))


def _limits(node: ast.expr) -> list[Limit]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [limit for value in node.values for limit in _limits(value)]
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return []
    left, right, op = node.left, node.comparators[0], node.ops[0]
    at_most = isinstance(op, ast.LtE | ast.Lt)
    if isinstance(left, ast.Constant):
        left, right, at_most = right, left, not at_most
    if not isinstance(right, ast.Constant) or not isinstance(left, ast.Attribute | ast.Name | ast.Subscript):
        return []
    return [Limit(parse_quantity(ast.unparse(left)), at_most, float(right.value))]  # type: ignore[arg-type]


def serves_none(values: Mapping[str, float | None]) -> bool:
    """Whether every request of a run was rejected: no limit on latencies then says anything."""
    requests = values.get("requests")
    return bool(requests) and values.get("rejected") == requests


class Steering(NamedTuple):
    """What decides which way a search for the highest load goes on.

    A limit on money or energy a token is met the better the heavier the load is, so a search that took it for a limit like others would
    turn round where it has to go on. It goes by `rest`, what a heavier load breaks (None = nothing but the queue), and the highest load
    that `rest` allows is where a token costs least: where the whole fails there, it holds at no load.
    """

    whole: Predicate
    rest: Predicate | None
    split: bool

    def goes_on(self, values: Values) -> bool:
        """Whether a heavier load is worth trying, for all that a heavier load breaks; the queue is tested elsewhere."""
        if not self.split:
            return self.whole.holds(values)
        return self.rest is None or self.rest.holds(values)


def steering(predicate: Predicate) -> Steering:
    """Of a predicate that joins limits by `and`; of any other the whole steers."""
    parts = predicate.tree.values if isinstance(predicate.tree, ast.BoolOp) and isinstance(predicate.tree.op, ast.And) else [predicate.tree]
    rest = [part for part in parts if not any(limit.upper and improves_with_load(limit.quantity) for limit in _limits(part))]
    text = " and ".join(f"({ast.unparse(part)})" for part in rest)
    return Steering(predicate, parse(text) if rest else None, len(rest) < len(parts))


def tightest(found: tuple[Limit, ...], values: Mapping[str, float | None]) -> tuple[Limit, float] | None:
    """The limit with the least margin, and that margin; None where no limit's figure is known."""
    known = [(limit, limit.margin(value)) for limit in found if (value := values.get(limit.quantity.column)) is not None]
    return min(known, key=lambda pair: pair[1]) if known else None


def broken_at_best(found: tuple[Limit, ...], best: Mapping[str, float], where: str = "on an empty instance") -> str:
    """The limit that even the best imaginable figures break, in words; "" when none is.

    best   latencies from below, fractions from above
    where  what they are the best of
    """
    for limit in found:
        value = best.get(limit.quantity.column)
        if value is not None and limit.quantity.more_is_worse == limit.upper and limit.broken(value):
            way = "at least" if limit.upper else "at most"
            return f"{limit.text} ({way} {value:.4g} {where})"
    return ""
