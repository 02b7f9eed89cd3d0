"""Chunks: tensors flattened, padded and cut, the tokens of SNE.

Source: pad-and-chunk of SNE (the set-based neural network encoder), Andreis et al. 2024,
arXiv:2305.16625, equation 1.

Our choices where the paper is silent:
- Tensors are flattened row-major. With torch's (out, in) a chunk of `in` values therefore holds the
  inputs of one neuron; other chunk sizes mix neurons, unless each row is padded by itself.
- The kernels of a convolution stay whole. With k values per kernel and chunk size c a chunk holds
  max(1, c // k) of the (out * in) kernels, in order. The paper cuts only the input and output
  dimensions, so its chunks hold c kernels: `conv_chunk="kernels"`.
- The chunks of all tensors are in one array. Its last dimension S is therefore the longest chunk of
  the table: c, or a kernel that is longer. Shorter chunks end in padding.
- Biases are cut apart from their weights. Buffers (batch-norm statistics) are tokens too, marked by
  `role`, so that `inverse` is exact.
- The joint input projection of an attention, (3 H, H), counts as three tensors, so that queries,
  keys and values can be distinguished.
- A tensor of more than two dimensions that is no convolution, such as a position embedding
  (1, N, H), has rows along its last dimension.
"""

import math

from ..networks.layer_table import LayerTable, TensorSpec
from .tokenizers import Matrix, Tokenizer, checked_size

ALIGNMENTS = ("flat", "row")
CONV_CHUNKS = ("values", "kernels")
PROJECTIONS = 3  # queries, keys and values in one tensor


class Chunks(Tokenizer):
    """Tokenizer that cuts tensors into chunks.

    Attributes:
        size: c, requested number of values per chunk.
        align: unit that is cut by itself: "flat" cuts whole tensors, as the paper does; "row" cuts
            the weights of each output neuron, so that no chunk mixes two neurons.
        conv_chunk: unit that c counts in a convolution, "values" or "kernels".

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import Chunks
        >>> train = load_zoo(ZOO, split="train")
        >>> Chunks(train.layer_table, 16)(train.weights([0, 1]))["values"].shape
        torch.Size([2, 8, 16])
    """

    def __init__(
        self,
        layer_table: LayerTable,
        size: int = 32,
        align: str = "flat",
        conv_chunk: str = "values",
    ) -> None:
        """Make the plan.

        Args:
            layer_table: layer table of the architecture.
            size: c, values per chunk.
            align: unit that is cut by itself, one of `ALIGNMENTS`.
            conv_chunk: unit that c counts in a convolution, one of `CONV_CHUNKS`.

        Raises:
            ValueError: if the size is no whole number from 1, or an option is unknown.
        """
        self.size = checked_size("chunk_size", size)
        if align not in ALIGNMENTS:
            raise ValueError(f"align must be one of {ALIGNMENTS}, got {align!r}")
        if conv_chunk not in CONV_CHUNKS:
            raise ValueError(f"conv_chunk must be one of {CONV_CHUNKS}, got {conv_chunk!r}")
        self.align, self.conv_chunk = align, conv_chunk
        specs = [spec for spec in layer_table if spec.size]
        matrices = [_matrix(spec, size, align, conv_chunk) for spec in specs]
        super().__init__(layer_table, matrices)

    def __reduce__(self) -> tuple[type["Chunks"], tuple[LayerTable, int, str, str]]:
        """Pickle the arguments, not the plan and its memory."""
        return type(self), (self.layer_table, self.size, self.align, self.conv_chunk)


LayerSets = Chunks  # default tokenizer of a dataset in format "layer_sets"


def projections(spec: TensorSpec) -> int:
    """Count the tensors that a tensor joins: 3 for queries, keys and values, else 1."""
    joined = spec.kind == "attention" and "in_proj" in spec.name
    return PROJECTIONS if joined and spec.shape[0] % PROJECTIONS == 0 else 1


def _matrix(spec: TensorSpec, size: int, align: str, conv_chunk: str) -> Matrix:
    kernel = _kernel_size(spec)
    rows = _output_units(spec) if align == "row" else projections(spec)
    kernels = size if conv_chunk == "kernels" else max(1, size // kernel)
    return Matrix(spec, rows, kernels * kernel)


def _output_units(spec: TensorSpec) -> int:
    """Number of rows that hold the weights of one output unit each."""
    if len(spec.shape) < 2:
        return projections(spec)
    if len(spec.shape) == 2 or spec.kind == "conv":
        return spec.shape[0]
    return spec.size // spec.shape[-1]


def _kernel_size(spec: TensorSpec) -> int:
    """Number of values that stay together: the kernel of a convolution, else one value."""
    whole = spec.kind == "conv" and spec.role == "weight"
    return math.prod(spec.shape[2:]) if whole else 1
