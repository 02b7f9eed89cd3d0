"""Rows of zoos as members of a merge, and the data that some methods need of their networks."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ...loaders import ZooDataset, concatenate_zoos, load_zoo
from ...loaders.collections import Member, ModelCollection, ZooMember
from ...zoos.errors import MergeError
from ...zoos.images.catalog import Images
from ...zoos.tensors.lazy import TensorType
from ..merge_methods.calibration import fisher_information, input_grams
from .recipe import ZooRows


class StateMember(Member):
    """A member whose tensors are in memory."""

    def __init__(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Hold the tensors.

        Args:
            name: name of the member.
            state: tensors by name.
        """
        self.name, self.state = name, state
        self.tensors = {
            key: TensorType(str(value.dtype).removeprefix("torch."), tuple(value.shape))
            for key, value in state.items()
        }

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        return self.state[name]


def open_zoo_rows(rows: ZooRows) -> tuple[ZooDataset, ZooMember | None]:
    """The rows of a zoo that a recipe names, and the base.

    Raises:
        MergeError: if no row fulfils a condition, or more than one that of the base.
    """
    zoo = load_zoo(rows.path, split=rows.split)
    chosen = zoo.filter(rows.where) if rows.where else last_checkpoints(zoo)
    if len(chosen) == 0:
        raise MergeError(f"no row of {rows.path} {rows.split!r} fulfils {rows.where!r}")
    return chosen, _base(rows) if rows.base else None


def last_checkpoints(zoo: ZooDataset) -> ZooDataset:
    """The last checkpoint of every model that did not diverge."""
    ids, epochs = zoo.hidden_column("model_id", "merging"), zoo.hidden_column("epoch", "merging")
    good = np.flatnonzero(zoo.hidden_column("status", "merging") == "ok")
    last: dict[int, int] = {}
    for row in good[np.argsort(epochs[good], kind="stable")].tolist():
        last[int(ids[row])] = row
    return zoo.select(sorted(last.values()))


def _base(rows: ZooRows) -> ZooMember:
    whole = concatenate_zoos(list(load_zoo(rows.path).values()))
    found = whole.filter(rows.base)
    if len(found) != 1:
        raise MergeError(f"the base must be one row, {len(found)} fulfil {rows.base!r}")
    return ZooMember(found, 0)


def zoo_companions(
    kind: str | None, zoo: ZooDataset, indices: Sequence[int], images: Images
) -> ModelCollection | None:
    """What a method needs beside each member, measured on images.

    Args:
        kind: "fisher", "gram", or None for nothing.
        zoo: rows of the members.
        indices: row numbers of the members.
        images: examples.
    """
    if kind is None:
        return None
    measure = fisher_information if kind == "fisher" else input_grams
    return ModelCollection(
        [StateMember(str(index), measure(zoo.module(index), images)) for index in indices]
    )
