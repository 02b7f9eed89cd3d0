"""Similarity of models by their weights: the mean cosine of columns, with a null and an error.

Shape letters: M members, C columns of a tensor that were drawn, O outputs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...loaders.collections import ModelCollection
from ...zoos.errors import MergeError

COLUMNS, NULL_DRAWS, NULL_MEMBERS = 64, 20, 8
NULL_DEVIATIONS = 6


@dataclass(frozen=True)
class Similarity:
    """How alike the members of a collection are.

    Attributes:
        mean_MM: mean cosine of columns over all shared matrices.
        error_MM: standard error of it, from drawing some of the columns; 0 where all were taken.
        null: what unrelated members reach: mean plus six deviations over permuted channels.
        tensors: number of matrices compared.
        columns: number of columns compared, over all matrices.
    """

    mean_MM: Tensor
    error_MM: Tensor
    null: float
    tensors: int
    columns: int


def column_similarity(
    collection: ModelCollection,
    *,
    deltas: bool = False,
    columns: int = COLUMNS,
    most_tensors: int | None = None,
    null_draws: int = NULL_DRAWS,
    seed: int = 0,
) -> Similarity:
    """Compare members column by column, as Model-GLUE does, over tensors of two or more sides.

    The null reorders the outputs of every matrix: members keep the sizes of their weights and lose
    what they have in common.

    Args:
        collection: members whose shared tensors are compared.
        deltas: compare differences from the base.
        columns: drawn of every matrix; more cost time and lower the error.
        most_tensors: compare so many of the smallest matrices, for a quick look; None takes all.
        null_draws: random orders of the outputs that the null is taken from.
        seed: seed of the draws.

    Raises:
        MergeError: if there is no matrix that all members have, or no base for deltas.
    """
    if deltas and collection.base is None:
        raise MergeError("similarity of deltas needs the base: give it")
    generator = torch.Generator().manual_seed(seed)
    total, variance = torch.zeros(2, *[len(collection.members)] * 2, dtype=torch.float64)
    drawn, tensors = 0, 0
    kept = min(NULL_MEMBERS, len(collection.members))
    nulls = torch.zeros(null_draws, kept, kept, dtype=torch.float64)
    for columns_CMO, share in _drawn_columns(
        collection, _matrices(collection, most_tensors), deltas, columns, generator
    ):
        cosines_CMM = columns_CMO @ columns_CMO.mT
        count = len(cosines_CMM)
        total += cosines_CMM.mean(0)
        if count > 1:
            variance += cosines_CMM.var(0) / count * (1 - share)
        for null in nulls:
            order = torch.randperm(columns_CMO.shape[2], generator=generator)
            few = columns_CMO[:, :kept]
            null += (few @ few[:, :, order].mT).mean(0)
        drawn, tensors = drawn + count, tensors + 1
    if tensors == 0:
        raise MergeError("the members share no tensor of two or more sides to compare")
    nulls /= tensors
    return Similarity(
        mean_MM=total / tensors,
        error_MM=variance.sqrt() / tensors,
        null=float(nulls.mean() + NULL_DEVIATIONS * nulls.std()),
        tensors=tensors,
        columns=drawn,
    )


def _matrices(collection: ModelCollection, most: int | None) -> list[str]:
    """Names of the tensors that have columns to compare."""
    names = [
        name
        for name, kind in collection.tensors.items()
        if len(kind.shape) > 1 and kind.is_float and kind.size and kind.shape[0] > 1
    ]
    return sorted(names, key=lambda name: collection.tensors[name].size)[:most]


def _drawn_columns(
    collection: ModelCollection,
    names: Sequence[str],
    deltas: bool,
    columns: int,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, float]]:
    """Normalised columns (C, M, O) of every matrix, and the share of its columns that they are."""
    for name in names:
        width = math.prod(collection.tensors[name].shape[1:])
        chosen = torch.randperm(width, generator=generator)[:columns].sort().values
        stacked = torch.stack([m.columns(name, chosen).double() for m in collection.members])
        if deltas and collection.base is not None:
            stacked -= collection.base.columns(name, chosen).double()
        unit = torch.nn.functional.normalize(stacked, dim=1)
        yield unit.permute(2, 0, 1), len(chosen) / width
