"""JSON as RFC 8259 defines it: numbers that are not finite are written as null.

Python's own writer puts NaN and Infinity into a file, which other readers refuse.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def json_text(
    data: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Plain data as JSON; the only writer of JSON in the package.

    Args:
        data: dicts, lists, tuples, text, numbers, booleans and None.
        indent: spaces by level; None writes a single line.
        sort_keys: whether keys are sorted.
        default: maps a value of another type to plain data.

    Raises:
        TypeError: if a value is of another type and `default` is None.
    """
    plain = finite_or_null(data)
    return json.dumps(plain, indent=indent, sort_keys=sort_keys, default=default, allow_nan=False)


def finite_or_null(data: Any) -> Any:
    """The same data with None in place of numbers that are not finite."""
    if isinstance(data, Mapping):
        return {key: finite_or_null(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite_or_null(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
