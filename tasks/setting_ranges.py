"""Ranges of the numbers in settings of trainings, checked alike for all of them."""

import math
from collections.abc import Mapping
from typing import Any


def check_least(settings: Any, least: Mapping[str, int]) -> None:
    """Refuse numbers below a bound.

    Args:
        settings: an object with the numbers as attributes.
        least: the smallest allowed value by attribute.

    Raises:
        ValueError: if one is below.
    """
    for name, smallest in least.items():
        if (value := getattr(settings, name)) < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value!r}")


def check_positive(settings: Any, *names: str) -> None:
    """Refuse attributes that are not positive and finite.

    Raises:
        ValueError: if one is not.
    """
    for name in names:
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value!r}")
