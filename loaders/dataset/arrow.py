"""Rows as a stock `datasets.Dataset`, with the types that `load_dataset` gives for the same files.

Shape letters: N rows, D length of the flat weight vector.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...zoos.format import WEIGHTS
from .row_protocol import ZooRows

if TYPE_CHECKING:
    import datasets

BLOCK_BYTES = 2**28  # size of the weights in an Arrow chunk


def to_hf(dataset: ZooRows) -> "datasets.Dataset":
    """Copy a dataset's rows into a stock dataset in memory.

    Args:
        dataset: dataset to copy, N rows; its format is ignored.

    Returns:
        N rows with the shown columns and `weights`, a list of fixed length D.
    """
    import datasets
    import pyarrow as pa

    features: dict[str, Any] = {
        name: datasets.Value("string" if kind == "text" else kind)
        for name, kind in dataset.features.items()
        if name != WEIGHTS
    }
    features[WEIGHTS] = datasets.List(datasets.Value("float32"), length=dataset.source.width)
    names = list(features)
    columns = [pa.array(dataset.columns[name]) for name in names if name != WEIGHTS]
    weights = pa.chunked_array(list(_blocks(dataset)), _list_type(dataset.source.width))
    info = datasets.DatasetInfo(features=datasets.Features(features))
    return datasets.Dataset(pa.table([*columns, weights], names=names), info=info)


def _blocks(dataset: ZooRows) -> Iterator[Any]:
    """The weights block by block, as Arrow lists of fixed length."""
    import pyarrow as pa

    width = dataset.source.width
    rows = max(1, BLOCK_BYTES // (4 * width))
    for start in range(0, len(dataset), rows):
        part = dataset.rows[start : start + rows]
        block = dataset.source.take(part, out=np.empty((len(part), width), np.float32))
        flat = pa.array(block.reshape(-1))
        yield pa.FixedSizeListArray.from_arrays(flat, width)


def _list_type(width: int) -> Any:
    import pyarrow as pa

    return pa.list_(pa.float32(), width)
