"""Predicates over the figures of a run: `ttft.p99 <= 2.0 and classes.chat.attainment >= 0.95`.

The text is parsed with Python's own grammar and only comparisons, and/or/not, numbers, + - * / and the names of quantities are accepted.
"""

from __future__ import annotations

import ast
import math
import operator
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simserve.errors import ConfigError
from simserve.files.words import number, shown
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

_MOST_CHARACTERS = 1000
_MOST_DEEP = 50
"""Far beyond what is written in practice, and far below what Python's own recursion allows."""

Values = Mapping[str, float | None]
"""Figures of a run by column."""


@dataclass(frozen=True)
class Predicate:
    """A condition on a run. `quantities` are the figures that it needs, in the order of the text."""

    text: str
    tree: ast.expr
    quantities: tuple[Quantity, ...]

    def holds(self, values: Values) -> bool:
        """Whether it holds. A comparison of a figure that is not defined (no request completed) is neither true nor false, nor is its
        `not`: neither satisfies the predicate."""
        return _truth(self.tree, values) is True

    def failures(self, values: Values) -> list[str]:
        """The comparisons that keep it from holding, each with what was found: 'ttft.p99 <= 2.0 (found 3.1)'; empty when it holds."""
        return list(dict.fromkeys(_blame(self.tree, values, wanted=True)))


def parse(text: str) -> Predicate:
    """The predicate in a text. Raises ConfigError naming what is wrong and what is allowed."""
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"predicate {shown(text)}: cannot be read: {len(text):,} characters are more than {_MOST_CHARACTERS:,}")
    tree = _expression(text)
    found: dict[Quantity, None] = {}
    try:
        _check(tree, found, _MOST_DEEP, want_truth=True)
    except ConfigError as error:
        raise ConfigError(f"predicate {shown(text)}: {error}") from None
    if not found:
        raise ConfigError(f"predicate {shown(text)}: it tests no figure of a run; write for example 'ttft.p99 <= 2.0'")
    return Predicate(text, tree, tuple(found))


def parse_quantity(text: str) -> Quantity:
    """One quantity alone. Raises ConfigError."""
    node = _expression(text)
    if not isinstance(node, ast.Attribute | ast.Name):
        raise ConfigError(f"{shown(text)} is not the name of a quantity, such as ttft.p99 or goodput")
    return _quantity(node)


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = getattr(error, "offset", None)
        where = f" at character {at}" if at else ""
        raise ConfigError(
            f"predicate {shown(text)}: cannot be read{where}; write for example 'ttft.p99 <= 2 and tpot.p99 <= 0.1'"
        ) from None


def _check(node: ast.expr, found: dict[Quantity, None], deep: int, *, want_truth: bool) -> None:
    """Raises ConfigError for anything but conditions (`want_truth`) or numbers, nested at most `deep` levels; collects quantities."""
    if deep == 0:
        raise ConfigError(f"it is nested more than {_MOST_DEEP} levels deep")
    deep -= 1
    if want_truth:
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                _check(value, found, deep, want_truth=True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            _check(node.operand, found, deep, want_truth=True)
        elif isinstance(node, ast.Compare):
            for op in node.ops:
                if type(op) not in _COMPARE:
                    raise ConfigError(f"'{ast.unparse(node)}': compare with <=, <, >= or >")
            for side in (node.left, *node.comparators):
                _check(side, found, deep, want_truth=False)
        else:
            raise ConfigError(f"'{ast.unparse(node)}' is not a condition; compare a figure with a number, such as ttft.p99 <= 2.0")
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) <= sys.float_info.max:
            raise ConfigError(f"{number(node.value, 30)} is not a number that a figure can be compared with")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, found, deep, want_truth=False)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check(node.left, found, deep, want_truth=False)
        _check(node.right, found, deep, want_truth=False)
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


def _figures(node: ast.AST) -> list[ast.expr]:
    """The quantities in a comparison, each whole: `ttft.p99`, not also the `ttft` in it."""
    if isinstance(node, ast.Attribute | ast.Name):
        return [node]
    return [found for child in ast.iter_child_nodes(node) for found in _figures(child)]


def _truth(node: ast.expr, values: Values) -> bool | None:
    """Kleene's three values: None where it hangs on a figure that is not defined."""
    if isinstance(node, ast.BoolOp):
        results = [_truth(value, values) for value in node.values]
        decisive = isinstance(node.op, ast.Or)
        if decisive in results:
            return decisive
        return None if None in results else not decisive
    if isinstance(node, ast.UnaryOp):
        inner = _truth(node.operand, values)
        return None if inner is None else not inner
    assert isinstance(node, ast.Compare)
    sides = [_number(side, values) for side in (node.left, *node.comparators)]
    known: bool | None = True
    for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if left is None or right is None:
            known = None
        elif not _COMPARE[type(op)][0](left, right):
            return False
    return known


def _blame(node: ast.expr, values: Values, wanted: bool) -> list[str]:
    """The comparisons because of which a part of the predicate is not as `wanted`: those of the parts that are not either."""
    if _truth(node, values) is wanted:
        return []
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _blame(value, values, wanted)]
    if isinstance(node, ast.UnaryOp):
        return _blame(node.operand, values, not wanted)
    found = [_number(child, values) for child in _figures(node)]
    texts = ["not defined" if value is None else f"{value:.4g}" for value in found]
    text = ast.unparse(node)
    return [f"{text if wanted else f'not {text}'} (found {', '.join(texts)})"]


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
        found = _ARITHMETIC[type(node.op)](left, right)
        return found if math.isfinite(found) else None
    return values.get(_quantity(node).column)
