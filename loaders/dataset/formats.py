"""Formats of a dataset: what an item holds in place of its flat weights.

Shape letters: n rows, D length of the flat weight vector.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...zoos.errors import ZooFormatError
from ...zoos.format import WEIGHTS
from ...zoos.tokens.tokenizers import Tokenizer, can_cut_rows
from ..storage.rows import LARGE_ROW_BYTES
from .row_protocol import WeightTokenizer, ZooRows

FORMATS = ("torch", "numpy", "state_dict", "module", "layer_sets")


def item_contents(dataset: ZooRows, rows: np.ndarray) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read weights in the format of a dataset.

    Args:
        dataset: dataset to read.
        rows: row numbers in the dataset's table, (n,).

    Returns:
        Entries with one value per row, and entries that are equal in every row.

    Raises:
        ZooFormatError: if a file changed since it was opened.
    """
    if dataset.tokenizer is not None:
        return _tokens(dataset, dataset.tokenizer, rows)
    weights = torch.from_numpy(dataset.source.take(rows))
    if dataset.format == "state_dict":
        return {"state_dict": dataset.layer_table.state_dict(weights)}, {}
    if dataset.format == "module":
        return {"module": networks(dataset, rows, weights)}, {}
    return {WEIGHTS: weights}, {}


def _tokens(
    dataset: ZooRows, tokenizer: WeightTokenizer, rows: np.ndarray
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Cut weights into tokens; a `Tokenizer` reads mapped rows where they lie, or in blocks."""
    source = dataset.source
    if not isinstance(tokenizer, Tokenizer):
        tokens: Mapping[str, Tensor] = tokenizer(torch.from_numpy(source.take(rows)))
    elif source.is_mapped and can_cut_rows():
        tokens = tokenizer.cut_rows(source.parts(rows), len(rows))
    elif 4 * source.width >= LARGE_ROW_BYTES:
        tokens = tokenizer.cut_blocks((row[None] for row in source.views(rows)), len(rows))
    else:
        tokens = tokenizer.cut_blocks(source.blocks(rows), len(rows))
    alike = getattr(tokenizer, "shared", ())
    return (
        {name: value for name, value in tokens.items() if name not in alike},
        {name: value for name, value in tokens.items() if name in alike},
    )


def networks(dataset: ZooRows, rows: np.ndarray, weights: Tensor) -> list[nn.Module]:
    """Rebuild the network of every row, in eval mode.

    Args:
        dataset: dataset of the rows.
        rows: row numbers in the dataset's table, (n,).
        weights: flat weights of these rows, (n, D).

    Returns:
        n networks.

    Raises:
        ZooFormatError: if the file holds a layer table but no architecture.
        ValueError: if a needed column was not loaded, or the dataset is a `layer` or `window`.
    """
    architecture, columns = dataset.header.architecture, dataset.table
    if architecture is None:
        raise ZooFormatError(
            f"zoo {dataset.name!r} holds no architecture to rebuild a module from: "
            "load state_dict(i) into a module of your own"
        )
    needed = set(dataset.header.hyper_parameters) & {"dropout"}  # without this column the rate is 0
    needed |= {"activation"} if "activation" in architecture.kinds() else set()
    if missing := sorted(needed - set(columns.names)):
        raise ValueError(f"module needs the columns {missing}: load the zoo with them")
    if dataset.layer_table != dataset.header.layer_table:
        raise ValueError(
            "a `layer` or `window` makes no module: take the module from the whole dataset"
        )
    given = [
        columns.column(name, rows) if name in columns.names else [default] * len(rows)
        for name, default in (("activation", "relu"), ("dropout", 0.0))
    ]
    modules: list[nn.Module] = []
    for vector, activation, rate in zip(weights, *given, strict=True):
        module = architecture.module(activation, float(rate))
        module.load_state_dict(dataset.layer_table.state_dict(vector))
        modules.append(module.eval())
    return modules
