"""`concatenate_zoos` joins datasets of one architecture."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from .dataset.checks import check_datasets
from .dataset.joining import ZOO, ZOO_MODEL_ID, joined_table
from .dataset.zoo_dataset import ZooDataset
from .storage.rows import WeightRows


def concatenate_zoos(zoos: Sequence[ZooDataset], *, same_ids: str = "refuse") -> ZooDataset:
    """Join datasets with equal layer tables, one after the other.

    The result takes name, format and tokenizer from the first dataset. Where a dataset lacks a
    column of another, its rows have missing values: NaN for numbers, which makes whole numbers
    float64, and "" for text; the lineage of such rows is "trained".

    Args:
        zoos: datasets of one architecture, such as a zoo and its children.
        same_ids: what is done where datasets of different zoos share a `model_id`. "refuse" is an
            error; "renumber" gives the later zoos new ids, and adds the columns `zoo` and
            `zoo_model_id`; "keep" leaves the ids, and adds the column `zoo`.

    Raises:
        TypeError: if `zoos` is no sequence of datasets.
        ValueError: if there is no dataset, two differ in layer table or window of the weights, ids
            are shared and that is refused, or a column holds text in one and numbers in another.

    Example:
        >>> from weightzoo import concatenate_zoos, load_zoo
        >>> zoo = load_zoo(ZOO)
        >>> len(concatenate_zoos([zoo["train"], zoo["val"]])) == len(zoo["train"]) + len(zoo["val"])
        True
    """
    zoos = check_datasets(zoos, "concatenate_zoos")
    if not zoos:
        raise ValueError("concatenate_zoos needs at least one dataset, got none")
    for zoo in zoos[1:]:
        _check_joinable(zoos[0], zoo)
    if all(zoo.source is zoos[0].source and zoo.table is zoos[0].table for zoo in zoos):
        return replace(zoos[0], rows=np.concatenate([zoo.rows for zoo in zoos]))
    sources = [zoo.source for zoo in zoos]
    starts = np.cumsum([0, *(len(source) for source in sources[:-1])])
    table = joined_table(zoos, same_ids)
    shown = dict.fromkeys(name for zoo in zoos for name in zoo.shown)
    added = [name for name in table.names if name in (ZOO, ZOO_MODEL_ID)]
    return replace(
        zoos[0],
        source=WeightRows.joined(sources),
        table=table,
        rows=np.concatenate(
            [zoo.rows + start for zoo, start in zip(zoos, starts.tolist(), strict=True)]
        ),
        shown=tuple(dict.fromkeys([*shown, *added])),
    )


def _check_joinable(one: ZooDataset, other: ZooDataset) -> None:
    if other.layer_table == one.layer_table and other.source.window == one.source.window:
        return
    odd = zip_longest(_tensors(one), _tensors(other), fillvalue="none")
    first, second = next(((a, b) for a, b in odd if a != b), ("a window", "another window"))
    raise ValueError(
        f"zoos {one.name!r} and {other.name!r} differ in their layer table or window, first in "
        f"{first} and {second}: use MixedLoader for different architectures; for other names of "
        "the same tensors give both zoos one architecture with `weightzoo attach`"
    )


def _tensors(zoo: ZooDataset) -> list[str]:
    return [f"{tensor.name} {list(tensor.shape)} {tensor.dtype}" for tensor in zoo.layer_table]
