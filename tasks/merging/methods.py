"""Runs a merge method on one tensor of a collection.

Weighted sums and sign methods go block by block. Methods of matrices take the whole tensor, of
two and more dimensions; tensors of fewer, such as biases and norms, are averaged by them.

Shape letters: M members, P members and the base, n values, O outputs, I inputs.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ...loaders.collections import ModelCollection
from ...zoos.errors import MergeError
from ..merge_methods import linear_methods as linear
from ..merge_methods import matrix_methods as matrices
from ..merge_methods import sign_methods as signs
from .settings import MergeSettings
from .tensor_reader import TensorReader

Write = Callable[[int, Tensor], None]


def merge_tensor(
    method: str,
    collection: ModelCollection,
    name: str,
    settings: MergeSettings,
    write: Write,
    companions: ModelCollection | None = None,
) -> list[float] | None:
    """Merge one tensor.

    Args:
        method: name of the method.
        collection: members, and the base if the method needs one.
        name: name of the tensor.
        settings: settings of the method, for this tensor.
        write: takes the place of the first value and the merged values.
        companions: Fisher information or Gram matrices of the members, by the same names.

    Returns:
        What each member, and last the base, was multiplied with; None where that differs by
        value.

    Raises:
        MergeError: if a value is NaN or infinite.
    """
    kind = collection.members[0].tensors[name]
    if not kind.is_float:  # a counter of batches
        write(0, collection.members[0].read(name))
        return [1.0]
    reader = TensorReader(collection, name, kind)
    if method in _SIGNS:
        _SIGNS[method](reader, settings, write)
        return None
    if method == "fisher":
        _fisher(reader, _companion(companions, name, kind.shape), write)
        return None
    matrix = len(kind.shape) > 1 and kind.size > 0
    if method in _MATRICES and matrix:
        _matrix_merge(reader, partial(_MATRICES[method], settings=settings), settings, write)
        return None
    if method == "regmean" and matrix and companions and name in companions.tensors:
        grams = torch.stack(companions.read(name))
        _whole(reader, lambda x: _regmean(x, grams, settings), write)
        return None
    return _weighted(reader, _coefficients(method, reader, settings), write)


def merged(
    method: str,
    collection: ModelCollection,
    settings: MergeSettings | Callable[[str], MergeSettings],
    companions: ModelCollection | None = None,
) -> dict[str, Tensor]:
    """Merge all tensors of a small collection in memory.

    Args:
        method: name of the method.
        collection: members and base.
        settings: settings of the method, for all tensors or by name of the tensor.
        companions: see `merge_tensor`.

    Returns:
        Tensors by name, in the first member's types.
    """
    state = {}
    for name, kind in collection.tensors.items():
        values = torch.empty(kind.size, dtype=kind.torch_dtype)

        def write(start: int, part: Tensor, values: Tensor = values) -> None:
            values[start : start + part.numel()] = part.flatten()

        own = settings(name) if callable(settings) else settings
        merge_tensor(method, collection, name, own, write, companions)
        state[name] = values.view(kind.shape)
    return state


def member_weights(settings: MergeSettings, members: int) -> list[float]:
    """One weight per member, as they are applied.

    Args:
        settings: settings of the merge method.
        members: number of members.

    Raises:
        MergeError: if there are more or fewer than members.
    """
    weights = [1.0] * members if settings.weights is None else list(settings.weights)
    if len(weights) != members:
        raise MergeError(f"{len(weights)} weights for {members} members: give one per member")
    return linear.normalized(weights) if settings.normalize else weights


def _coefficients(method: str, reader: TensorReader, settings: MergeSettings) -> list[float]:
    """Weights of members and base, for methods that are a weighted sum of this tensor."""
    members = len(reader.collection.members)
    if method == "weighted":
        return [*member_weights(settings, members), 0.0]
    if method == "task_arithmetic":
        return linear.task_arithmetic_weights(member_weights(settings, members), settings.scale)
    if method == "slerp":
        return [*linear.slerp_weights(reader.gram(of_task_vectors=False), settings.fraction), 0.0]
    if method == "model_stock":
        return linear.model_stock_weights(reader.gram(of_task_vectors=True))
    return [*linear.mean_weights(members), 0.0]


def _weighted(reader: TensorReader, weights: list[float], write: Write) -> list[float]:
    weights = weights[: len(reader.collection.everyone)]
    reader.weighted_sums(weights, write)
    return weights


def _ties(reader: TensorReader, settings: MergeSettings, write: Write) -> None:
    keep = max(1, int(settings.density * reader.type.size))

    def threshold(member: int) -> float:
        blocks = partial(reader.task_vector_blocks, member)
        return signs.magnitude_threshold(blocks, reader.type.size, keep)

    members = len(reader.collection.members)
    limits = reader.of_members(threshold) if settings.density < 1 else [0.0] * members
    _sign_merge(reader, settings, write, lambda taus, start: signs.trimmed(taus, limits))


def _dare_ties(reader: TensorReader, settings: MergeSettings, write: Write) -> None:
    _sign_merge(reader, settings, write, partial(_drop, reader, settings))


def _sign_merge(
    reader: TensorReader,
    settings: MergeSettings,
    write: Write,
    thin: Callable[[Tensor, int], Tensor],
) -> None:
    normalize = settings.normalize is not False
    weights = member_weights(replace(settings, normalize=False), len(reader.collection.members))

    def merge(start: int, values_Pn: Tensor) -> None:
        taus_Mn = values_Pn[:-1].sub_(values_Pn[-1])
        merged_n = signs.elected_merge(thin(taus_Mn, start), weights, normalize)
        write(start, values_Pn[-1] + settings.scale * merged_n)

    reader.map_blocks(merge)


def _dare(reader: TensorReader, settings: MergeSettings, write: Write) -> None:
    weights = member_weights(settings, len(reader.collection.members))

    def merge(start: int, values_Pn: Tensor) -> None:
        kept_Mn = _drop(reader, settings, values_Pn[:-1].sub_(values_Pn[-1]), start)
        write(start, values_Pn[-1] + settings.scale * linear.weighted_sum(kept_Mn, weights))

    reader.map_blocks(merge)


def _drop(reader: TensorReader, settings: MergeSettings, taus_Mn: Tensor, start: int) -> Tensor:
    if settings.density == 1:
        return taus_Mn
    masks = [
        signs.dare_mask(
            taus_Mn.shape[1], settings.density, _seed(settings.seed, reader.name, member, start)
        )
        for member in range(len(taus_Mn))
    ]
    return signs.dropped(taus_Mn, torch.stack(masks), settings.density)


def _seed(seed: int, name: str, member: int, start: int) -> int:
    """A seed of its own for every tensor, member and block."""
    text = f"{seed}/{name}/{member}/{start}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def _emr(reader: TensorReader, settings: MergeSettings, write: Write) -> None:
    def merge(start: int, values_Pn: Tensor) -> None:
        unified_n = signs.emr_unified(values_Pn[:-1] - values_Pn[-1])
        write(start, values_Pn[-1] + settings.scale * unified_n)

    reader.map_blocks(merge)


def _fisher(reader: TensorReader, companions: TensorReader, write: Write) -> None:
    fishers = companions.whole().flatten(1)
    members = len(reader.collection.members)

    def merge(start: int, values_Pn: Tensor) -> None:
        own = fishers[:, start : start + values_Pn.shape[1]].to(values_Pn.dtype)
        write(start, linear.fisher_merge(values_Pn[:members], own))

    reader.map_blocks(merge)


def _companion(
    companions: ModelCollection | None, name: str, shape: tuple[int, ...]
) -> TensorReader:
    kind = companions.tensors.get(name) if companions else None
    if companions is None or kind is None or kind.shape != shape:
        raise MergeError(
            f"the Fisher information of {name!r} is missing or of another shape: measure it for "
            "every member"
        )
    return TensorReader(companions, name, kind)


def _matrix_merge(
    reader: TensorReader,
    merge: Callable[[Tensor], Tensor],
    settings: MergeSettings,
    write: Write,
) -> None:
    def whole(values_P: Tensor) -> Tensor:
        base = values_P[-1]
        taus_MOI = matrices.as_matrices(values_P[:-1] - base)
        return base + settings.scale * merge(taus_MOI).view_as(base)

    _whole(reader, whole, write)


def _regmean(values_P: Tensor, grams_MII: Tensor, settings: MergeSettings) -> Tensor:
    weights_MOI = matrices.as_matrices(values_P[: len(grams_MII)]).double()
    merged_OI = matrices.regmean_merge(weights_MOI, grams_MII.double(), settings.off_diagonal)
    return merged_OI.view_as(values_P[0])


def _whole(reader: TensorReader, merge: Callable[[Tensor], Tensor], write: Write) -> None:
    write(0, merge(reader.whole()).flatten())


def _tsv(taus_MOI: Tensor, settings: MergeSettings) -> Tensor:
    return matrices.tsv_merge(taus_MOI)


def _iso_c(taus_MOI: Tensor, settings: MergeSettings) -> Tensor:
    return matrices.iso_c_merge(taus_MOI)


def _iso_cts(taus_MOI: Tensor, settings: MergeSettings) -> Tensor:
    return matrices.iso_cts_merge(taus_MOI, settings.common_share)


def _wudi(taus_MOI: Tensor, settings: MergeSettings) -> Tensor:
    if settings.steps:
        return matrices.wudi_steps(taus_MOI, settings.steps, settings.lr)
    return matrices.wudi_closed_form(taus_MOI.double()).to(taus_MOI.dtype)


_SIGNS: Mapping[str, Callable[[TensorReader, MergeSettings, Write], None]] = {
    "ties": _ties,
    "dare": _dare,
    "dare_ties": _dare_ties,
    "emr": _emr,
}
_MATRICES: Mapping[str, Callable[..., Tensor]] = {
    "tsv": _tsv,
    "iso_c": _iso_c,
    "iso_cts": _iso_cts,
    "wudi": _wudi,
}
