"""The one rule by which models are given splits: by model, by shares, fixed by a generator."""

from collections.abc import Mapping

import numpy as np

from .format import SPLITS


def split_edges(count: int, fractions: Mapping[str, float]) -> np.ndarray:
    """First and last positions of the splits, in the order of `SPLITS`: (4,), int64.

    Edges are cumulated shares of the count, rounded half up: `np.round` halves to even, so that
    whether a model belongs to a split would depend on the parity of its position.

    Args:
        count: number of models.
        fractions: share of each split; a missing split has none. They sum to 1.
    """
    bounds = np.cumsum([0.0] + [fractions.get(split, 0.0) for split in SPLITS])
    return np.floor(bounds * count + 0.5).astype(np.int64)


def draw_splits(
    count: int, fractions: Mapping[str, float], generator: np.random.Generator
) -> list[str]:
    """Draw a split for every model.

    Args:
        count: number of models.
        fractions: share of each split; a missing split has none. They sum to 1.
        generator: source of the order in which models are assigned.

    Returns:
        The split of each model, by position. A split whose share is less than half a model may
        have none.
    """
    edges = split_edges(count, fractions)
    assigned = np.empty(count, object)
    order = generator.permutation(count)
    for split, start, stop in zip(SPLITS, edges[:-1], edges[1:], strict=True):
        assigned[order[start:stop]] = split
    return list(assigned.tolist())
