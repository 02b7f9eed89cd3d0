"""The split rule: shares of models, rounded half up, in an order that a generator fixes."""

from collections import Counter

import numpy as np
import pytest

from weightzoo.builders.importing.models import FoundModel, Scan
from weightzoo.builders.importing.splits import assign_splits
from weightzoo.tasks.generation.generated_zoo import FRACTIONS, generated_splits
from weightzoo.zoos.splits import draw_splits, split_edges


@pytest.mark.parametrize(
    ("count", "edges"),
    [(1, [0, 1, 1, 1]), (2, [0, 1, 2, 2]), (5, [0, 4, 4, 5]), (10, [0, 7, 9, 10])],
)
def test_edges_are_rounded_half_up(count: int, edges: list[int]) -> None:
    """0.7 * 5 = 3.5 goes up to 4; 0.85 * 10 = 8.5 to 9, where rounding half to even says 8."""
    assert split_edges(count, {"train": 0.7, "val": 0.15, "test": 0.15}).tolist() == edges


def test_splits_are_drawn_by_the_generator() -> None:
    shares = {"train": 0.5, "test": 0.5}
    one, same, other = (draw_splits(40, shares, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other
    assert Counter(one) == Counter(other) == {"train": 20, "test": 20}


@pytest.mark.parametrize("count", [1, 3, 5, 10, 30])
def test_every_maker_of_zoos_splits_by_the_same_rule(count: int) -> None:
    expected = Counter(draw_splits(count, FRACTIONS, np.random.default_rng(0)))
    scan = Scan(models=[FoundModel(str(i), [i], np.zeros(1)) for i in range(count)])
    assign_splits(scan, list(FRACTIONS.values()), 0, None)
    assert Counter(model.split for model in scan.models) == expected
    assert Counter(generated_splits(count, 0)) == expected
