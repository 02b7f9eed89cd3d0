"""What an item of a dataset holds in place of its weights, by format.

Shape letters: n rows, D length of the flat weight vector.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...zoos.errors import ZooFormatError
from ...zoos.format import WEIGHTS
from ..storage.rows import LARGE_ROW_BYTES
from ..tokens.tokenizers import Tokenizer
from .row_protocol import WeightTokenizer, ZooRows

FORMATS = ("torch", "numpy", "state_dict", "module", "layer_sets")


def item_contents(dataset: ZooRows, rows: np.ndarray) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read weights as what the dataset's format says.

    Args:
        dataset: whose format it is.
        rows: (n,) rows of the dataset's table.

    Returns:
        What there is per row, and what holds for every row alike.

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
    """Our tokenizers cut rows where they lie in the file, or block by block: see `cut_blocks`."""
    source = dataset.source
    if not isinstance(tokenizer, Tokenizer):
        tokens: Mapping[str, Tensor] = tokenizer(torch.from_numpy(source.take(rows)))
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
        dataset: of the rows.
        rows: (n,) rows of the dataset's table.
        weights: (n, D), of these rows.

    Raises:
        ZooFormatError: if the file holds a layer table only, and no architecture.
        ValueError: if the columns it needs were not loaded, or the weights are only a part.
    """
    architecture, columns = dataset.header.architecture, dataset.table
    if architecture is None:
        raise ZooFormatError(
            f"zoo {dataset.name!r} holds no architecture to rebuild a module from: "
            "use state_dict(i) with a module of your own"
        )
    needed = set(dataset.header.hyper_parameters) & {"dropout"}  # else none is known of: rate 0
    needed |= {"activation"} if "activation" in architecture.kinds() else set()
    if missing := sorted(needed - set(columns.names)):
        raise ValueError(f"module needs the columns {missing}: load the zoo with them")
    if dataset.layer_table != dataset.header.layer_table:
        raise ValueError("a part of the weights makes no module: take it from the whole dataset")
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
