"""`from_hf`: a stock `datasets.Dataset` with a column of flat weights becomes a zoo folder.

Shape letters: N rows, D length of the flat weight vector.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...zoos.column_values import table_columns
from ...zoos.format import WEIGHTS
from .own_models import write_zoo
from .zoo_writer import WrittenZoo

if TYPE_CHECKING:
    import datasets

BLOCK_BYTES = 2**26  # of weights taken from Arrow at once
_ONLY = "a datasets.Dataset or DatasetDict"


def from_hf(
    dataset: "datasets.Dataset | datasets.DatasetDict",
    folder: str | Path,
    *,
    name: str,
    licence: str,
    architecture: Any,
    splits: Any = None,
    parents: str | Path | None = None,
    description: str = "",
    overwrite: bool = False,
) -> WrittenZoo:
    """Write a stock dataset as a zoo folder; the inverse of `ZooDataset.to_hf`.

    Args:
        dataset: rows with a column "weights" of D numbers each, and columns of text and numbers;
            of a dict of datasets the keys are the splits, "validation" for val.
        folder: the zoo folder to make.
        name: the zoo's name.
        licence: the Hub's word for the licence of the weights, such as "cc-by-4.0" or "mit".
        architecture: an `Architecture` or its plain data, a `LayerTable`, an `nn.Module` or what
            `trace_architecture` returns; of a zoo that was loaded `header.architecture`.
        splits: see `write_zoo`.
        parents: zoo folder that the models descend from, see `ZooWriter`.
        description: a line for the card.
        overwrite: replace a zoo at `folder`, and discard other unfinished work.

    Returns:
        What was written.

    Raises:
        TypeError: if it is no such dataset.
        ValueError: if there is no column "weights", or a value is not allowed.
        BuildError: if the folder is taken.

    Example:
        >>> import tempfile
        >>> from weightzoo import from_hf, load_zoo
        >>> train = load_zoo(ZOO, split="train")
        >>> folder, architecture = tempfile.mkdtemp() + "/again", train.header.architecture
        >>> columns = ["model_id", "epoch", "activation", "test_accuracy"]
        >>> rows = train.select_columns(columns).to_hf()
        >>> written = from_hf(rows, folder, name="again", licence="mit", architecture=architecture)
        >>> written.rows, written.architecture
        (6, 'tiny-cnn')
    """
    parts = _parts(dataset)
    return write_zoo(
        folder,
        (row for part in parts.values() for row in _rows(part)),
        _columns(parts, isinstance(dataset, Mapping)),
        name=name,
        licence=licence,
        architecture=architecture,
        splits=splits,
        parents=parents,
        description=description,
        overwrite=overwrite,
    )


def _parts(dataset: Any) -> dict[str, Any]:
    """Datasets by split; one without a split has the key ""."""
    parts = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    for part in parts.values():
        if not hasattr(part, "column_names") or not hasattr(part, "with_format"):
            raise TypeError(
                f"from_hf takes {_ONLY}, got {type(part).__name__}: datasets of weightzoo are "
                "written by save_zoo, models by write_zoo"
            )
        if not hasattr(part, "__len__"):
            raise TypeError(f"from_hf takes {_ONLY}, not a streamed one: load it without streaming")
        if WEIGHTS not in part.column_names:
            raise ValueError(
                f"the dataset has no column {WEIGHTS!r} of flat weight vectors, its columns are "
                f"{part.column_names}: rename the column that holds them"
            )
    return parts


def _rows(part: Any) -> Iterator[np.ndarray]:
    """The weights row by row, some megabytes of them in memory."""
    weights = part.select_columns([WEIGHTS]).with_format("numpy")
    width = len(weights[0][WEIGHTS])
    rows = max(1, BLOCK_BYTES // (4 * width))
    for start in range(0, len(weights), rows):
        yield from np.asarray(weights[start : start + rows][WEIGHTS], np.float32)


def _columns(parts: Mapping[str, Any], are_splits: bool) -> dict[str, np.ndarray]:
    """All other columns of all parts; splits by the keys of a dict."""
    tables = []
    for key, part in parts.items():
        plain = part.remove_columns([WEIGHTS]).with_format("arrow")[:]
        columns = dict(zip(plain.column_names, plain.columns, strict=True))
        columns |= {"split": [key] * len(part)} if are_splits else {}
        tables.append(columns)
    names = list(dict.fromkeys(name for table in tables for name in table))
    lengths = [len(part) for part in parts.values()]
    whole: dict[str, list[Any]] = {name: [] for name in names}
    for table, count in zip(tables, lengths, strict=True):
        for name in names:
            values = table.get(name, [None] * count)
            whole[name] += values.to_pylist() if hasattr(values, "to_pylist") else values
    return table_columns(whole)
