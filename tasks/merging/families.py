"""Families: which models of a collection can be merged with each other.

Members that differ in names, shapes, architecture or tokenizer are apart by gates. Within a gate,
complete linkage groups members by the similarity of their weights; it is cut in the middle of the
largest gap above what unrelated weights reach, in place of a fixed cosine.

Shape letters: M members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...loaders import HiddenPermutations, ZooDataset, align
from ...loaders.collections import Member, ModelCollection
from ...zoos.errors import MergeError
from ..merge_methods.kinship import DUPLICATE
from .similarity import COLUMNS, Similarity, column_similarity
from .zoo_rows import StateMember

LEVELS = ("duplicate", "family", "shared initialisation", "unrelated")


@dataclass(frozen=True)
class Families:
    """The families of a collection.

    Attributes:
        names: names of the M members.
        groups: member numbers of every family, larger families first.
        similarity_MM: mean column cosine; NaN between members of different gates.
        error_MM: its standard error.
        delta_MM: the same of differences from the base; None without a base.
        null: per member, the similarity that unrelated members of its gate reach.
        cut: per member, the similarity from which members of its gate are a family.
        gates: per member, the number of its gate.
        reasons: why two gates are apart, one line each.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    similarity_MM: Tensor
    error_MM: Tensor
    delta_MM: Tensor | None
    null: tuple[float, ...]
    cut: tuple[float, ...]
    gates: tuple[int, ...]
    reasons: tuple[str, ...]

    def level(self, one: int, two: int) -> str:
        """What two members are to each other, one of `LEVELS`.

        Args:
            one: number of the first member.
            two: number of the second member.
        """
        value = float(self.similarity_MM[one, two])
        if self.gates[one] != self.gates[two] or value <= self.null[one]:
            return LEVELS[3]
        if value > DUPLICATE:
            return LEVELS[0]
        return LEVELS[1] if value > self.cut[one] else LEVELS[2]

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN becomes None."""

        def plain(matrix: Tensor | None) -> Any:
            if matrix is None:
                return None
            return [[None if v != v else round(v, 6) for v in row] for row in matrix.tolist()]

        pairs = [(i, j) for i in range(len(self.names)) for j in range(i)]
        return {
            "members": list(self.names),
            "families": [[self.names[index] for index in group] for group in self.groups],
            "similarity": plain(self.similarity_MM),
            "standard_error": plain(self.error_MM),
            "delta_similarity": plain(self.delta_MM),
            "null": list(self.null),
            "cut": list(self.cut),
            "levels": [[self.names[j], self.names[i], self.level(i, j)] for i, j in pairs],
            "gates": list(self.reasons),
        }


def find_families(
    collection: ModelCollection, *, columns: int = COLUMNS, seed: int = 0
) -> Families:
    """Group members by gates and by the similarity of their weights.

    Args:
        collection: M members, and the base if it is known.
        columns: columns drawn of every matrix.
        seed: seed of the draws.
    """
    gates, reasons = _gates(collection.members)
    count = len(collection.members)
    similarity, error = torch.full((2, count, count), torch.nan, dtype=torch.float64)
    delta = torch.full((count, count), torch.nan, dtype=torch.float64)
    null, cut = [0.0] * count, [1.0] * count
    groups = list[tuple[int, ...]]()
    for gate in range(max(gates) + 1):
        rows = [index for index in range(count) if gates[index] == gate]
        part = ModelCollection([collection.members[row] for row in rows], collection.base)
        place = np.ix_(rows, rows)
        try:
            found = _compare(part, columns, seed)
        except MergeError:  # nothing to compare: each stays alone
            groups += [(row,) for row in rows]
            continue
        similarity[place], error[place] = found.mean_MM, found.error_MM
        if collection.base is not None and _fits(collection.members[rows[0]], collection.base):
            delta[place] = column_similarity(part, deltas=True, columns=columns, seed=seed).mean_MM
        limit, own = _linked(found)
        for row in rows:
            null[row], cut[row] = found.null, limit
        groups += [tuple(rows[index] for index in group) for group in own]
    return Families(
        names=tuple(member.name for member in collection.members),
        groups=tuple(sorted(groups, key=lambda group: (-len(group), group))),
        similarity_MM=similarity,
        error_MM=error,
        delta_MM=None if collection.base is None else delta,
        null=tuple(null),
        cut=tuple(cut),
        gates=tuple(gates),
        reasons=tuple(reasons),
    )


def find_zoo_families(
    zoo: ZooDataset, *, aligned: bool = False, columns: int = COLUMNS, seed: int = 0
) -> Families:
    """Families of the rows of a zoo.

    Args:
        zoo: M rows of one architecture.
        aligned: reorder hidden units first, every member to every other, by weight matching; a
            pair's similarity is then the larger one of both directions.
        columns: columns drawn of every matrix.
        seed: seed of the draws.

    Raises:
        MergeError: if rows are to be aligned and the architecture is not known.
    """
    from ...loaders.collections import ZooMember

    plain = ModelCollection([ZooMember(zoo, index) for index in range(len(zoo))])
    families = find_families(plain, columns=columns, seed=seed)
    if not aligned:
        return families
    if zoo.header.architecture is None:
        raise MergeError(f"zoo {zoo.name!r} holds no architecture to align its models by")
    found = column_similarity(plain, columns=columns, seed=seed)
    mean = _aligned_similarity(zoo, columns, seed).maximum(found.mean_MM)
    found = Similarity(mean, found.error_MM, found.null, found.tensors, found.columns)
    limit, groups = _linked(found)
    return Families(
        names=families.names,
        groups=tuple(sorted(groups, key=lambda group: (-len(group), group))),
        similarity_MM=mean,
        error_MM=found.error_MM,
        delta_MM=None,
        null=families.null,
        cut=(limit,) * len(zoo),
        gates=families.gates,
        reasons=families.reasons,
    )


def _aligned_similarity(zoo: ZooDataset, columns: int, seed: int) -> Tensor:
    """(M, M): similarity of every pair after alignment of one to the other."""
    assert zoo.header.architecture is not None
    weights, permutations = zoo.weights(), HiddenPermutations.of(zoo.header.architecture)
    similar = torch.empty(len(zoo), len(zoo), dtype=torch.float64)
    for place, reference in enumerate(weights):
        moved, _ = align(weights, reference, permutations, seed)
        members = [
            StateMember(str(index), zoo.layer_table.split(row)) for index, row in enumerate(moved)
        ]
        found = column_similarity(ModelCollection(members), columns=columns, seed=seed)
        similar[place] = found.mean_MM[place]
    return similar.maximum(similar.T)


def _compare(part: ModelCollection, columns: int, seed: int) -> Similarity:
    return column_similarity(ModelCollection(part.members), columns=columns, seed=seed)


def _fits(member: Member, base: Member) -> bool:
    return all(
        name in base.tensors and base.tensors[name].shape == kind.shape
        for name, kind in member.tensors.items()
    )


def _gates(members: Sequence[Member]) -> tuple[list[int], list[str]]:
    """The gate of every member, and what tells each further gate from the first."""
    keys = [
        {
            "architecture": member.architecture,
            "tensors": tuple(sorted((name, kind.shape) for name, kind in member.tensors.items())),
            "tokenizer": member.tokenizer,
            "tie of head and embedding": member.tied,
        }
        for member in members
    ]
    found = list[int]()  # the first member of every gate
    gates, reasons = list[int](), list[str]()
    for index, key in enumerate(keys):
        gate = next((g for g, first in enumerate(found) if keys[first] == key), len(found))
        gates.append(gate)
        if gate == len(found):
            found.append(index)
            odd = [fact for fact in key if key[fact] != keys[0][fact]]
            if odd:
                names = f"{members[index].name} and {members[0].name}"
                reasons.append(f"{names} differ in {', '.join(odd)}")
    return gates, reasons


def _linked(similarity: Similarity) -> tuple[float, list[tuple[int, ...]]]:
    """The cut, and the groups of complete linkage above it."""
    from scipy.cluster.hierarchy import fcluster, linkage

    count = len(similarity.mean_MM)
    if count == 1:
        return 1.0, [(0,)]
    tree = linkage(condensed_distance(similarity.mean_MM), "complete")
    cut = _largest_gap(1 - tree[:, 2], similarity.null)
    labels = fcluster(tree, 1 - cut, "distance")
    groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return cut, groups


def condensed_distance(similarity_MM: Tensor) -> np.ndarray:
    """1 - similarity of every pair, in the order that scipy takes."""
    rows, columns = np.triu_indices(len(similarity_MM), 1)
    values = np.nan_to_num(similarity_MM.numpy()[rows, columns], nan=-1.0)
    return np.clip(1 - values, 0, 2)


def _largest_gap(levels: np.ndarray, null: float) -> float:
    """The middle of the largest gap between the null, the levels of linkage above it, and 1."""
    inner = sorted(level for level in levels.tolist() if null < level < 1)
    edges = [min(null, 1.0), *inner, 1.0]
    gaps = np.diff(edges)
    place = int(np.argmax(gaps))
    return float((edges[place] + edges[place + 1]) / 2)
