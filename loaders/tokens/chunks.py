"""Chunks: every tensor flattened, padded and cut, the tokens of SNE.

Source: pad-and-chunk of SNE, Andreis et al. 2024, arXiv 2305.16625, equation 1.

Where the paper is silent, this is chosen:
- A tensor is flattened row-major, so with torch's (out, in) a chunk of `in` values is what one
  neuron reads; other chunk sizes mix neurons, unless each row is padded by itself.
- A convolution's kernels stay whole: with k values per kernel a chunk holds max(1, c // k)
  kernels of the (out * in) kernels, in order, where c is the chunk size. The paper, which cuts
  only the input and output dimensions, has c kernels in a chunk: `conv_chunk="kernels"`.
- Chunks of all tensors lie in one array, so S, its last dimension, is the longest chunk of the
  table: c, or a kernel that is longer. Shorter chunks end in padding.
- Biases are chunked apart from their weights; buffers (batch-norm statistics) are kept as
  tokens too, told apart by `role`, so that `inverse` is exact.
"""

import math

from ...zoos.networks.layer_table import LayerTable, TensorSpec
from .tokenizers import Matrix, Tokenizer, checked_size

ALIGNMENTS = ("flat", "row")
CONV_CHUNKS = ("values", "kernels")


class Chunks(Tokenizer):
    """Cuts tensors into chunks.

    Attributes:
        size: c, values per chunk asked for.
        align: "flat" cuts a whole tensor, as the paper does; "row" cuts each output neuron's
            weights by themselves, so that no chunk mixes two neurons.
        conv_chunk: what c counts in a convolution, "values" or "kernels".
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
            layer_table: of the architecture.
            size: c.
            align: one of `ALIGNMENTS`.
            conv_chunk: one of `CONV_CHUNKS`.

        Raises:
            ValueError: if the size is no whole number from 1, or a word is unknown.
        """
        self.size = checked_size("chunk_size", size)
        if align not in ALIGNMENTS:
            raise ValueError(f"align must be one of {ALIGNMENTS}, got {align!r}")
        if conv_chunk not in CONV_CHUNKS:
            raise ValueError(f"conv_chunk must be one of {CONV_CHUNKS}, got {conv_chunk!r}")
        self.align, self.conv_chunk = align, conv_chunk
        matrices = [_matrix(spec, size, align, conv_chunk) for spec in layer_table]
        super().__init__(layer_table, matrices)

    def __reduce__(self) -> tuple[type["Chunks"], tuple[LayerTable, int, str, str]]:
        """Pickle what the plan is made of, not the plan and its memory."""
        return type(self), (self.layer_table, self.size, self.align, self.conv_chunk)


LayerSets = Chunks  # the tokenizer of a dataset in format "layer_sets"


def _matrix(spec: TensorSpec, size: int, align: str, conv_chunk: str) -> Matrix:
    kernel = _kernel_size(spec)
    rows = spec.shape[0] if align == "row" and len(spec.shape) > 1 else 1
    kernels = size if conv_chunk == "kernels" else max(1, size // kernel)
    return Matrix(spec, rows, kernels * kernel)


def _kernel_size(spec: TensorSpec) -> int:
    """Values that stay together: a convolution's kernel, else one."""
    whole = spec.kind == "conv" and spec.role == "weight"
    return math.prod(spec.shape[2:]) if whole else 1
