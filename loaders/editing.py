"""`save_zoo`: a dataset, or a dict of splits, becomes a zoo folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..zoos.index import ZooIndex
from .concatenation import concatenate_zoos
from .dataset.checks import check_dataset
from .dataset.table_edits import with_columns
from .dataset.zoo_dataset import ZooDataset
from .dataset.zoo_saving import split_of, write_dataset


def save_zoo(
    zoo: ZooDataset | Mapping[str, ZooDataset],
    folder: str | Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    description: str | None = None,
    overwrite: bool = False,
) -> ZooIndex:
    """Write a dataset, or a dict of splits, as a whole zoo folder: files, `zoo.json` and card.

    Rows are read and written file by file. Rows of one model are written one after the other,
    models in the order of their first rows.

    Args:
        zoo: a dataset, whose column `split` says which split each row is in; or datasets by split,
            as `load_zoo` returns, whose keys say it.
        folder: the zoo folder to make.
        name: the zoo's name; None takes the folder's.
        licence: the Hub's word for its licence; None keeps that of the zoo it is made from.
        description: a line for the card; None keeps that of the zoo it is made from.
        overwrite: replace a zoo at `folder`.

    Returns:
        The index of the new zoo.

    Raises:
        TypeError: if it is no dataset.
        ValueError: if there is no row, a column that every zoo has was not loaded, a row is there
            twice, or a model is in two splits.
        BuildError: if the folder is taken.

    Example:
        >>> import tempfile
        >>> from weightzoo import load_zoo, save_zoo
        >>> good = {split: part.filter("epoch == 2") for split, part in load_zoo(ZOO).items()}
        >>> [shard.rows for shard in save_zoo(good, tempfile.mkdtemp() + "/last").shards]
        [2, 1, 1]
    """
    return write_dataset(
        _one_dataset(zoo),
        folder,
        name=name,
        licence=licence,
        description=description,
        overwrite=overwrite,
    )


def _one_dataset(zoo: ZooDataset | Mapping[str, ZooDataset]) -> ZooDataset:
    """All rows as one dataset, whose column `split` is right."""
    if not isinstance(zoo, Mapping):
        return check_dataset(zoo, "save_zoo")
    parts = []
    for key, part in zoo.items():
        split = split_of(str(key))
        dataset = check_dataset(part, "save_zoo")
        if len(dataset):
            parts.append(_in_split(dataset, split))
    if not parts:
        raise ValueError("there is no row to save: does the filter leave any?")
    return concatenate_zoos(parts)


def _in_split(dataset: ZooDataset, split: str) -> ZooDataset:
    """The dataset with that split in all rows."""
    from dataclasses import replace

    own = dataset.table.column("split", dataset.rows)
    if np.all(own == split):
        return dataset
    column = np.full(len(dataset), split, object)
    return replace(dataset, table=with_columns(dataset, {"split": column}))
