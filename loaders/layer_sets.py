"""Layer sets: flat weights as sets of equally long chunks, tensor by tensor, and back.

Source: pad-and-chunk of SNE, Andreis et al. 2024, arXiv 2305.16625, equation 1. Every tensor is
flattened, padded with zeros and cut into chunks, the tokens of an encoder.

Where the paper is silent, this is chosen:
- A tensor is flattened row-major, so with torch's (out, in) a chunk of `in` values is what one
  neuron reads; other chunk sizes mix neurons.
- A convolution's kernels stay whole: with k values per kernel a chunk holds max(1, c // k)
  kernels of the (out * in) kernels, in order, where c is the chunk size.
- Chunks of all tensors lie in one array, so S, its last dimension, is the longest chunk of the
  table: c, or a kernel that is longer. Shorter chunks end in padding.
- Biases are chunked apart from their weights; buffers (batch-norm statistics) are kept as
  tokens too, told apart by `role`, so that `inverse` is exact.

Shape letters: B models in the batch, D length of the flat vector, N chunks of the table, S values
per chunk.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..zoos.layer_table import KINDS, ROLES, LayerTable, TensorSpec

SHARED_KEYS = ("mask", "kind", "role", "level", "tensor")


@dataclass(frozen=True)
class _Run:
    """Where one tensor lies in the flat vector and among the chunks.

    Attributes:
        offset: index of its first value in the flat vector.
        size: number of its values.
        first: index of its first chunk.
        chunks: number of its chunks.
        width: values per full chunk.
    """

    offset: int
    size: int
    first: int
    chunks: int
    width: int

    @property
    def whole(self) -> int:
        """Values in full chunks; the rest lies in the last one."""
        return self.size // self.width * self.width


class LayerSets:
    """Cuts flat weights of one architecture into chunks; the plan is made once.

    Attributes:
        layer_table: of the architecture.
        chunk_size: c, values per chunk asked for.
        shape: (N, S).
        shared: what holds for every model alike: `mask` (N, S) bool, true on real values;
            `kind`, `role` (N,), indices into `KINDS` and `ROLES`; `level` (N,), depth of the
            owning layer; `tensor` (N,), index of the tensor in the layer table; int64.
    """

    def __init__(self, layer_table: LayerTable, chunk_size: int = 32) -> None:
        """Make the plan.

        Raises:
            ValueError: if the chunk size is no whole number from 1.
        """
        if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
            raise ValueError(f"chunk_size must be a whole number from 1, got {chunk_size!r}")
        self.layer_table = layer_table
        self.chunk_size = chunk_size
        self._runs = _plan(layer_table, chunk_size)
        self.shape = (
            self._runs[-1].first + self._runs[-1].chunks,
            max(r.width for r in self._runs),
        )
        self.shared = self._describe()

    def __call__(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut flat weights into chunks.

        Args:
            weights: (B, D), on any device.

        Returns:
            `values` (B, N, S), zero where `mask` is false, beside `shared` (the same tensors in
            every call: copy one before writing into it).

        Raises:
            ValueError: if the weights have another shape.
        """
        self._check("weights", weights, (self.layer_table.width,))
        values = weights.new_zeros(len(weights), *self.shape)
        for run in self._runs:
            source = weights[:, run.offset : run.offset + run.size]
            tokens = values[:, run.first : run.first + run.chunks]
            if run.width == self.shape[1]:  # the chunks lie side by side: one copy does it
                tokens.flatten(1)[:, : run.size] = source
                continue
            full = run.whole // run.width
            tokens[:, :full, : run.width] = source[:, : run.whole].unflatten(1, (full, run.width))
            if run.whole < run.size:
                tokens[:, full, : run.size - run.whole] = source[:, run.whole :]
        return {"values": values} | {
            key: tensor.to(weights.device) for key, tensor in self.shared.items()
        }

    def inverse(self, values: Tensor) -> Tensor:
        """Put chunks together again; padding is ignored.

        Args:
            values: (B, N, S).

        Returns:
            (B, D), exactly the weights that were cut.

        Raises:
            ValueError: if the values have another shape.
        """
        self._check("values", values, self.shape)
        parts = [
            values[:, run.first : run.first + run.chunks, : run.width].flatten(1)[:, : run.size]
            for run in self._runs
        ]
        return torch.cat(parts, dim=1)

    def _describe(self) -> dict[str, Tensor]:
        """The tensors that hold for every model alike."""
        counts = torch.tensor([run.chunks for run in self._runs])
        per_tensor = {
            "kind": [KINDS.index(tensor.kind) for tensor in self.layer_table],
            "role": [ROLES.index(tensor.role) for tensor in self.layer_table],
            "level": [tensor.depth for tensor in self.layer_table],
            "tensor": range(len(self.layer_table)),
        }
        mask = torch.zeros(self.shape, dtype=torch.bool)
        for run in self._runs:
            for chunk in range(run.chunks):
                mask[run.first + chunk, : min(run.width, run.size - chunk * run.width)] = True
        return {"mask": mask} | {
            key: torch.tensor(numbers).repeat_interleave(counts)
            for key, numbers in per_tensor.items()
        }

    def _check(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape[1:]) != shape:
            wanted = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"{what} must have shape ({wanted}), got {tuple(tensor.shape)}")


def _plan(layer_table: LayerTable, chunk_size: int) -> list[_Run]:
    """One run per tensor, chunks in the order of the table."""
    runs, first = [], 0
    for tensor in layer_table:
        kernel = _kernel_size(tensor)
        width = max(1, chunk_size // kernel) * kernel
        chunks = math.ceil(tensor.size / width)
        runs.append(_Run(tensor.offset, tensor.size, first, chunks, width))
        first += chunks
    return runs


def _kernel_size(tensor: TensorSpec) -> int:
    """Values that stay together: a convolution's kernel, else one."""
    whole = tensor.kind == "conv" and tensor.role == "weight"
    return math.prod(tensor.shape[2:]) if whole else 1
