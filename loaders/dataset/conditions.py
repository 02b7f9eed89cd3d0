"""Conditions on columns as text: `"test_accuracy >= 0.5 and epoch == 12"`.

The text is parsed, never run. It can hold column names, numbers, texts, comparisons, `in`, `and`,
`or`, `not` and brackets, and nothing else.

Shape letters: N rows.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from ...zoos.errors import did_you_mean
from ..storage.column_batches import Columns
from ..storage.columns import CodedText

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_Column = np.ndarray | CodedText
_FOR_TEXT = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
_HELP = "write a condition like \"test_accuracy >= 0.5 and optimizer in ('adam', 'sgd')\""


def rows_where(condition: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Find the rows for which a condition holds.

    Args:
        condition: comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`) of columns with
            numbers, texts or other columns, joined by `and`, `or`, `not` and brackets. A missing
            number (NaN) is unequal to everything, as in Python.
        columns: columns by name, (N,) each, numbers or str objects.

    Returns:
        True for the rows that fulfil the condition, (N,), bool.

    Raises:
        ValueError: if the text is no such condition, a name is no column, or text is compared
            with a number.
    """
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, RecursionError, ValueError) as error:
        raise ValueError(f"condition {condition!r} cannot be parsed ({error}): {_HELP}") from error
    return _Condition(condition, columns).holds(tree.body)


class _Condition:
    """A parsed condition and its columns."""

    def __init__(self, text: str, columns: Mapping[str, np.ndarray]) -> None:
        self._text, self._columns = text, columns

    def holds(self, node: ast.expr) -> np.ndarray:
        """Evaluate a comparison, or comparisons joined by and, or, not: (N,), bool."""
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return join.reduce([self.holds(value) for value in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.holds(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            return np.logical_and.reduce([self._compare(*pair) for pair in pairs])
        self._refuse(node, "a comparison")

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> np.ndarray:
        if isinstance(operator, ast.In | ast.NotIn):
            found = self._is_in(self._column(left), right)
            return found if isinstance(operator, ast.In) else ~found
        if type(operator) not in _COMPARE:
            self._refuse(left, "a comparison by value")
        one, other = self._value(left), self._value(right)
        if not isinstance(one, _Column) and not isinstance(other, _Column):
            self._refuse(left, "a column on one side")
        self._check_kinds(left, operator, one, other)
        return _compared(_COMPARE[type(operator)], one, other)

    def _is_in(self, column: _Column, node: ast.expr) -> np.ndarray:
        if not isinstance(node, ast.Tuple | ast.List | ast.Set):
            self._refuse(node, "a list of values")
        values = [self._constant(value) for value in node.elts]
        if any(isinstance(value, str) != _is_text(column) for value in values):
            self._refuse(node, "values of the column's own kind, text or numbers")
        if isinstance(column, CodedText):
            return column.where(_equals_any(column.texts, values))
        return _equals_any(column, values)

    def _value(self, node: ast.expr) -> Any:
        return self._column(node) if isinstance(node, ast.Name) else self._constant(node)

    def _column(self, node: ast.expr) -> _Column:
        if not isinstance(node, ast.Name):
            self._refuse(node, "the name of a column")
        if node.id not in self._columns:
            raise ValueError(
                f"condition {self._text!r}: no column {node.id!r}, "
                f"the columns are {list(self._columns)}" + did_you_mean(node.id, self._columns)
            )
        columns = self._columns
        return columns.coded(node.id) if isinstance(columns, Columns) else columns[node.id]

    def _constant(self, node: ast.expr) -> Any:
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = (-1 if isinstance(node.op, ast.USub) else 1), node.operand
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._refuse(node, "a number after the sign")
        if not isinstance(node, ast.Constant) or not isinstance(node.value, int | float | str):
            self._refuse(node, "a column, a number or a text")
        return node.value if isinstance(node.value, str) else sign * node.value

    def _check_kinds(self, node: ast.expr, operator: ast.cmpop, one: Any, other: Any) -> None:
        if _is_text(one) != _is_text(other):
            self._refuse(node, "text with text, or numbers with numbers")
        if _is_text(one) and not isinstance(operator, _FOR_TEXT):
            self._refuse(node, "==, != or in for text")

    def _refuse(self, node: ast.expr, wanted: str) -> NoReturn:
        part = ast.get_source_segment(self._text.strip(), node)
        raise ValueError(f"condition {self._text!r}: at {part!r}, expected {wanted}; {_HELP}")


def _compared(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> np.ndarray:
    """Where a comparison holds, (N,), bool; with one text, each distinct text is compared once."""
    if isinstance(one, CodedText) and isinstance(other, str):
        return one.where(np.asarray(compare(one.texts, other), np.bool_))
    if isinstance(other, CodedText) and isinstance(one, str):
        return other.where(np.asarray(compare(one, other.texts), np.bool_))
    sides = (side.decoded() if isinstance(side, CodedText) else side for side in (one, other))
    return np.asarray(compare(*sides), np.bool_)


def _equals_any(column: np.ndarray, values: list[Any]) -> np.ndarray:
    """Where a column equals one of some values, bool."""
    found = [np.asarray(np.equal(column, value), np.bool_) for value in values]
    return np.logical_or.reduce([np.zeros(len(column), np.bool_), *found])


def _is_text(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "O"
    return isinstance(value, str | CodedText)
