"""Predicates over the figures of a run: `ttft.p99 <= 2.0 and classes.chat.attainment >= 0.95`.

The text is parsed with Python's own grammar and only comparisons, and/or/not, numbers, + - * / and the names of quantities are accepted.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simserve.errors import ConfigError
from simserve.report.metrics import ALL_CLASSES
from simserve.study.quantities import Quantity, quantity

_COMPARE: dict[type[ast.cmpop], tuple[Callable[[float, float], bool], str]] = {
    ast.LtE: (operator.le, "<="),
    ast.Lt: (operator.lt, "<"),
    ast.GtE: (operator.ge, ">="),
    ast.Gt: (operator.gt, ">"),
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

Values = Mapping[str, float | None]
"""Figures of a run by column."""


@dataclass(frozen=True)
class Predicate:
    """A condition on a run. `quantities` are the figures that it needs, in the order of the text."""

    text: str
    tree: ast.expr
    quantities: tuple[Quantity, ...]

    def holds(self, values: Values) -> bool:
        """Whether it holds. A figure that is not defined (no request completed) satisfies no comparison."""
        return _truth(self.tree, values)

    def failures(self, values: Values) -> list[str]:
        """The comparisons that do not hold, each with what was found: 'ttft.p99 <= 2.0 (found 3.1)'."""
        out = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare) and not _truth(node, values):
                figures = [child for child in ast.walk(node) if isinstance(child, ast.Attribute | ast.Name) and _names(child)]
                found = [_number(child, values) for child in figures]
                texts = ["not defined" if value is None else f"{value:.4g}" for value in found]
                out.append(f"{ast.unparse(node)} (found {', '.join(texts)})")
        return out


def parse(text: str) -> Predicate:
    """The predicate in a text. Raises ConfigError naming what is wrong and what is allowed."""
    tree = _expression(text)
    found: dict[Quantity, None] = {}
    try:
        _check(tree, found, want_truth=True)
    except ConfigError as error:
        raise ConfigError(f"predicate '{text}': {error}") from None
    if not found:
        raise ConfigError(f"predicate '{text}': it tests no figure of a run; write for example 'ttft.p99 <= 2.0'")
    return Predicate(text, tree, tuple(found))


def parse_quantity(text: str) -> Quantity:
    """One quantity alone. Raises ConfigError."""
    node = _expression(text)
    if not isinstance(node, ast.Attribute | ast.Name):
        raise ConfigError(f"'{text}' is not the name of a quantity, such as ttft.p99 or goodput")
    return _quantity(node)


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None)
        where = f" at character {column}" if column else ""
        raise ConfigError(f"predicate '{text}': cannot be read{where}; write for example 'ttft.p99 <= 2.0 and tpot.p99 <= 0.1'") from None


def _check(node: ast.expr, found: dict[Quantity, None], want_truth: bool) -> None:
    """Raises ConfigError for anything but conditions (`want_truth`) or numbers; collects quantities."""
    if want_truth:
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                _check(value, found, True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            _check(node.operand, found, True)
        elif isinstance(node, ast.Compare):
            for op in node.ops:
                if type(op) not in _COMPARE:
                    raise ConfigError(f"'{ast.unparse(node)}': compare with <=, <, >= or >")
            for side in (node.left, *node.comparators):
                _check(side, found, False)
        else:
            raise ConfigError(f"'{ast.unparse(node)}' is not a condition; compare a figure with a number, such as ttft.p99 <= 2.0")
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        pass
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, found, False)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check(node.left, found, False)
        _check(node.right, found, False)
    elif isinstance(node, ast.Attribute | ast.Name):
        found[_quantity(node)] = None
    else:
        raise ConfigError(f"'{ast.unparse(node)}' is not allowed; use figures (ttft.p99), numbers, + - * /, comparisons, and, or, not")


def _quantity(node: ast.expr) -> Quantity:
    parts = _parts(node)
    slo_class = ALL_CLASSES
    if parts[0] == "classes":
        if len(parts) < 3:
            raise ConfigError(f"'{ast.unparse(node)}': a figure of an SLO class is written classes.NAME.ttft.p99")
        slo_class, parts = parts[1], parts[2:]
    if len(parts) > 2:
        raise ConfigError(f"'{ast.unparse(node)}' has too many parts; a figure is written ttft.p99, or classes.NAME.ttft.p99")
    return quantity(parts[0], parts[1] if len(parts) == 2 else "", slo_class)


def _parts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_parts(node.value), node.attr]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return [*_parts(node.value), node.slice.value]  # classes["a name with-dashes"]
    raise ConfigError(f"'{ast.unparse(node)}' is not the name of a figure")


def _names(node: ast.expr) -> bool:
    """Whether the node is a whole quantity, not a part of one (`ttft` in `ttft.p99`)."""
    try:
        _quantity(node)
    except ConfigError:
        return False
    return True


def _truth(node: ast.expr, values: Values) -> bool:
    if isinstance(node, ast.BoolOp):
        results = (_truth(value, values) for value in node.values)
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.UnaryOp):
        return not _truth(node.operand, values)
    assert isinstance(node, ast.Compare)
    sides = [_number(side, values) for side in (node.left, *node.comparators)]
    for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if left is None or right is None or not _COMPARE[type(op)][0](left, right):
            return False
    return True


def _number(node: Any, values: Values) -> float | None:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]  # _check let only numbers through
    if isinstance(node, ast.UnaryOp):
        inner = _number(node.operand, values)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left, values), _number(node.right, values)
        if left is None or right is None or (isinstance(node.op, ast.Div) and right == 0):
            return None
        return _ARITHMETIC[type(node.op)](left, right)
    return values.get(_quantity(node).column)
