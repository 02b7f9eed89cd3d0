"""Write the rows of a dataset as a zoo file.

Shape letters: N rows of the dataset.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...zoos.format import IDENTITY, create_zoo_file, finish_zoo_file, open_zoo_file
from .row_protocol import ZooRows

BLOCK_BYTES = 2**26  # size of the weights copied at once


def save_rows(
    dataset: ZooRows, path: str | Path, weights_of: Callable[[slice], np.ndarray] | None = None
) -> Path:
    """Write the rows of a dataset, with all loaded columns and its window of the weights.

    The file is written under a temporary name and renamed when it is complete.

    Args:
        dataset: dataset to save, N rows.
        path: path of the new file; an existing file is replaced.
        weights_of: function that gives (n, D) weights of a slice of rows, which are written in the
            place of the dataset's own.

    Returns:
        Path of the file, which `load_zoo` and stock `datasets` can read.

    Raises:
        ValueError: if there is no row, or a column that every zoo file has was not loaded.
    """
    path, header, table = Path(path), dataset.header, dataset.table
    header = replace(
        header, hyper_parameters=kept_hyper_parameters(dataset), split=dict(dataset.splitting)
    )
    if missing := [n for n in (*IDENTITY, *header.hyper_parameters) if n not in table.names]:
        raise ValueError(f"a zoo file needs the columns {missing}: load the zoo with them")
    if len(dataset) == 0:
        raise ValueError("the dataset has no rows to save: check its filter")
    if dataset.layer_table != header.layer_table:
        header = replace(header, architecture=None, layer_table=dataset.layer_table)
    partial = path.with_name(f"{path.name}.tmp")
    create_zoo_file(
        partial, header, {name: table.column(name, dataset.rows) for name in table.names}
    )
    weights = open_zoo_file(partial).map_weights("r+")
    step = max(1, BLOCK_BYTES // (4 * dataset.source.width))
    for start in range(0, len(dataset), step):
        rows = dataset.rows[start : start + step]
        if weights_of is None:
            dataset.source.take(rows, out=weights[start : start + step])
        else:
            weights[start : start + step] = weights_of(slice(start, start + step))
    weights.flush()
    del weights
    finish_zoo_file(partial, header, {})
    os.replace(partial, path)
    return path


def kept_hyper_parameters(dataset: ZooRows) -> tuple[str, ...]:
    """The hyper-parameters of the files by their present names, without those that were removed."""
    present = (dataset.table.aliases.get(name, name) for name in dataset.header.hyper_parameters)
    return tuple(name for name in present if name is not None)
