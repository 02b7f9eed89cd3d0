"""Neurons: the weights of an output neuron with its bias, whole or in chunks of a fixed length.

Sources: `Neurons` are the tokens of hyper-representations, Schürholt et al. 2021, arXiv:2110.15288.
`RowChunks` are those of SANE (sequential autoencoder for neural embeddings), Schürholt et al. 2024,
arXiv:2406.09997.

A weight is a matrix of its first dimension by the rest. The bias of the same layer and length is
its last column. Norm layers are matrices of two columns, scale and shift. Buffers (batch-norm
statistics) are matrices of one column, marked by `role`. Unlike the published code this includes
the batch counter, one more token per layer, so that `inverse` is exact. A transposed convolution
has its inputs first, so its tokens are input neurons.
"""

from collections.abc import Iterator

from ..networks.layer_table import LayerTable, TensorSpec
from .tokenizers import Matrix, Tokenizer, checked_size


class Neurons(Tokenizer):
    """Tokenizer with one token per neuron, padded to the longest of the table.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import Neurons
        >>> train = load_zoo(ZOO, split="train")
        >>> Neurons(train.layer_table)(train.weights([0]))["values"].shape[:2]
        torch.Size([1, 9])
    """

    def __init__(self, layer_table: LayerTable) -> None:
        """Make the plan for a layer table."""
        longest = max((matrix.columns for matrix in row_matrices(layer_table, 1)), default=1)
        super().__init__(layer_table, list(row_matrices(layer_table, longest)))

    def __reduce__(self) -> tuple[type["Neurons"], tuple[LayerTable]]:
        """Pickle the arguments, not the plan and its memory."""
        return type(self), (self.layer_table,)


class RowChunks(Tokenizer):
    """Tokenizer that cuts every neuron into tokens of `size` values and pads the last one.

    Attributes:
        size: S, values per token.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import RowChunks
        >>> train = load_zoo(ZOO, split="train")
        >>> RowChunks(train.layer_table, 8)(train.weights([0, 1]))["values"].shape
        torch.Size([2, 15, 8])
    """

    def __init__(self, layer_table: LayerTable, size: int, positions: str = "running") -> None:
        """Make the plan.

        Args:
            layer_table: layer table of the architecture.
            size: S, values per token.
            positions: kind of position, one of `tokenizers.POSITIONS`.

        Raises:
            ValueError: if the size is no whole number from 1, or `positions` is unknown.
        """
        self.size = checked_size("size", size)
        super().__init__(layer_table, list(row_matrices(layer_table, size)), positions)

    def __reduce__(self) -> tuple[type["RowChunks"], tuple[LayerTable, int, str]]:
        """Pickle the arguments, not the plan and its memory."""
        return type(self), (self.layer_table, self.size, self.positions)


def row_matrices(layer_table: LayerTable, width: int) -> Iterator[Matrix]:
    """Lay out every tensor once, biases with their weights.

    Args:
        layer_table: layer table of the architecture.
        width: largest number of values per token.

    Yields:
        Matrices in the order of the table.
    """
    bias_of = _biases(layer_table)
    joined = {bias.name for bias in bias_of.values()}
    for spec in layer_table:
        if spec.size and spec.name not in joined:
            rows = spec.shape[0] if spec.shape else 1
            yield Matrix(spec, rows, width, bias_of.get(spec.name))


def _biases(layer_table: LayerTable) -> dict[str, TensorSpec]:
    """The bias of each weight, by the name of the weight."""
    specs = {spec.name: spec for spec in layer_table}
    pairs = {}
    for spec in layer_table:
        bias = specs.get(spec.name.removesuffix("weight") + "bias")
        if spec.name.endswith("weight") and bias is not None and bias.shape == spec.shape[:1]:
            pairs[spec.name] = bias
    return pairs
