"""Protocol of the rows of a dataset, which `ZooDataset` implements.

Modules that read rows (formats, trajectories, the Arrow table, the saved file) use this protocol in
place of `ZooDataset`, because `ZooDataset` imports each of them.

Shape letters: N rows of the dataset, n rows asked for, D length of the flat weight vector.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ...zoos.format import ZooHeader
from ...zoos.networks.layer_table import LayerTable
from ..storage.column_batches import Columns
from ..storage.columns import ColumnTable
from ..storage.rows import WeightRows
from .batch import Batch

WeightTokenizer = Callable[[Tensor], Mapping[str, Tensor]]
"""Function of flat weights (n, D) that returns tensors by name."""


class ZooRows(Protocol):
    """N rows of one architecture, with the attributes of `ZooDataset`."""

    @property
    def name(self) -> str:
        """Name of the zoo."""

    @property
    def source(self) -> WeightRows:
        """Weights of the files."""

    @property
    def table(self) -> ColumnTable:
        """Scalar columns of the files."""

    @property
    def rows(self) -> np.ndarray:
        """Row numbers in `source` and `table`, (N,)."""

    @property
    def format(self) -> str:
        """Format of the items."""

    @property
    def tokenizer(self) -> WeightTokenizer | None:
        """Tokenizer of the weights, in format "layer_sets"."""

    @property
    def columns(self) -> Columns:
        """Scalar columns by name, each (N,)."""

    @property
    def header(self) -> ZooHeader:
        """Root attributes of the first file."""

    @property
    def splitting(self) -> Mapping[str, Any]:
        """How the splits were made, as plain data."""

    @property
    def layer_table(self) -> LayerTable:
        """Offset and shape of each tensor in the flat vector."""

    @property
    def features(self) -> dict[str, str]:
        """Type of every column and of the weights, in words."""

    def __len__(self) -> int:
        """N."""

    def __getitems__(self, indices: Any) -> Batch:
        """Rows read together."""
