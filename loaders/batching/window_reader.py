"""`WindowReader`: windows of tokens read from the files, without the rest of each row.

SANE (sequential autoencoder for neural embeddings, arXiv:2406.09997) trains on windows of a
hundredth of a ResNet. The published code reads whole models, in 201 permuted copies, to use one
window of one copy. Here a window is read as runs of values: one run per tensor in the window, and
one for the biases among its tokens.

Shape letters: B windows in the batch, W tokens per window, S values per token.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...zoos.format import changed_file
from ...zoos.networks.layer_table import LayerTable
from ...zoos.tokens.neurons import RowChunks, row_matrices
from ...zoos.tokens.tokenizers import Matrix, checked_size
from ..dataset.zoo_dataset import ZooDataset

VALUE_BYTES, PAGE_BYTES = 4, 4096


@dataclass
class ReadCounts:
    """Amount of data that a reader has read.

    Attributes:
        windows: number of windows read.
        value_bytes: bytes of the values in the windows, without padding.
        read_bytes: bytes requested from the operating system.
        page_bytes: bytes of the pages that hold them, which a cold disk has to deliver.
    """

    windows: int = 0
    value_bytes: int = 0
    read_bytes: int = 0
    page_bytes: int = 0


@dataclass(frozen=True)
class _MatrixTokens:
    """The tokens of one matrix, in the order of the table."""

    matrix: Matrix
    first: int  # index of its first token

    @property
    def tokens(self) -> int:
        return self.matrix.rows * self.matrix.tokens_per_row


class WindowReader:
    """Reader of windows; call `close` when done, or use it in a `with` block.

    Attributes:
        dataset: dataset to read.
        tokenizer: tokenizer that defines the tokens.
        length: W, tokens per window.
        counts: amount of data read so far.

    Example:
        >>> from weightzoo import load_zoo
        >>> from weightzoo.loaders import WindowReader
        >>> with WindowReader(load_zoo(ZOO, split="train"), token_size=8, length=3) as reader:
        ...     windows = reader.read(rows=[0, 5], starts=[2, 4])
        >>> windows["values"].shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self, dataset: ZooDataset, token_size: int, length: int, positions: str = "running"
    ) -> None:
        """Open the files.

        Args:
            dataset: dataset to read, with whole rows.
            token_size: S, values per token.
            length: W, tokens per window; a window of a smaller model holds all of its tokens.
            positions: kind of position, one of `tokenizers.POSITIONS`.

        Raises:
            ValueError: if a size is no whole number from 1, `positions` is unknown, or the dataset
                is a stream or a `layer` or `window` of another.
            ZooFormatError: if a file changed since it was opened.
        """
        if dataset.layer_table != dataset.header.layer_table:
            raise ValueError(
                "WindowReader reads whole rows: pass the whole dataset, not its `layer` or `window`"
            )
        if dataset.source.is_remote:
            raise ValueError(
                "WindowReader reads files: load the zoo with streaming=False in place of a stream"
            )
        self.dataset = dataset
        self.tokenizer = RowChunks(dataset.layer_table, token_size, positions)
        self.length = min(checked_size("length", length), self.tokenizer.shape[0])
        self.counts = ReadCounts()
        self._matrix_tokens = _matrix_tokens(dataset.layer_table, token_size)
        self._starts = np.concatenate([[0], np.cumsum(dataset.source.files.counts)])
        self._files: dict[int, tuple[int, int]] = {}  # descriptor and offset by index of the file

    def __enter__(self) -> "WindowReader":
        """Return the reader."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        self._files = {}

    def random_starts(self, windows: int, generator: torch.Generator) -> Tensor:
        """Draw the first token of each window, such that the window lies within the model.

        Args:
            windows: B, number of windows.
            generator: random generator, on the CPU.

        Returns:
            Token indices, (B,), int64.
        """
        last = self.tokenizer.shape[0] - self.length
        return torch.randint(last + 1, (windows,), generator=generator)

    def read(
        self, rows: Sequence[int] | Tensor, starts: Sequence[int] | Tensor
    ) -> dict[str, Tensor]:
        """Read one window of each row.

        Args:
            rows: row numbers of the dataset, (B,).
            starts: index of the first token of each window, (B,).

        Returns:
            Tensors of the tokenizer, with dimensions (B, W, ...), on the CPU.

        Raises:
            IndexError: if a row or window does not exist.
            ZooFormatError: if a file changed since it was opened, or while it was read.
        """
        rows, starts = torch.as_tensor(rows), torch.as_tensor(starts)
        last = self.tokenizer.shape[0] - self.length
        if len(starts) and not 0 <= int(starts.min()) <= int(starts.max()) <= last:
            raise IndexError(f"windows must start at token 0 to {last}, got {starts.tolist()}")
        values = np.zeros((len(rows), self.length, self.tokenizer.shape[1]), np.float32)
        for window, row, start in zip(values, rows.tolist(), starts.tolist(), strict=True):
            self._read(int(self.dataset.rows[row]), start, window)
        for file_index in self._files:
            self.dataset.source.files[file_index].check_unchanged()
        index = starts[:, None] + torch.arange(self.length)
        shared = {key: tensor[index] for key, tensor in self.tokenizer.shared.items()}
        self.counts.windows += len(rows)
        self.counts.value_bytes += VALUE_BYTES * int(shared["mask"].sum())
        return {"values": torch.from_numpy(values)} | shared

    def _read(self, row: int, start: int, window: np.ndarray) -> None:
        """Fill a window (W, S) from one row of the files."""
        stop = start + len(window)
        for run in self._matrix_tokens:
            low, high = max(start, run.first), min(stop, run.first + run.tokens)
            if low < high:
                width = run.matrix.width
                window[low - start : high - start, :width] = self._tokens(
                    row, run.matrix, low - run.first, high - run.first
                )

    def _tokens(self, row: int, matrix: Matrix, low: int, high: int) -> np.ndarray:
        """Tokens low to high of a matrix, (tokens, width)."""
        pieces, size, width = matrix.tokens_per_row, matrix.row_size, matrix.width
        first, last = low // pieces, (high - 1) // pieces  # rows of the matrix
        begin = first * size + min(low % pieces * width, size)
        end = last * size + min(((high - 1) % pieces + 1) * width, size)
        flat = np.zeros((last - first + 1) * size, np.float32)
        flat[begin - first * size : end - first * size] = self._values(
            row, matrix.spec.offset + begin, end - begin
        )
        padded = np.zeros((last - first + 1, pieces * width), np.float32)
        padded[:, :size] = flat.reshape(-1, size)
        if matrix.bias is not None:
            piece = size // width  # index of the piece that holds the bias
            from_ = first + (low % pieces > piece)
            to = last + ((high - 1) % pieces >= piece)
            padded[from_ - first : to - first, size] = self._values(
                row, matrix.bias.offset + from_, to - from_
            )
        tokens = padded.reshape(-1, width)
        return tokens[low - first * pieces : high - first * pieces]

    def _values(self, row: int, start: int, count: int) -> np.ndarray:
        """Consecutive values of one row, read from its file."""
        if count <= 0:
            return np.empty(0, np.float32)
        file_index = int(np.searchsorted(self._starts, row, side="right")) - 1
        descriptor, offset = self._file(file_index)
        width = self.dataset.source.files[file_index].width
        offset += VALUE_BYTES * ((row - int(self._starts[file_index])) * width + start)
        size = VALUE_BYTES * count
        data = os.pread(descriptor, size, offset)
        if len(data) < size:
            raise changed_file(self.dataset.source.files[file_index].path)
        self.counts.read_bytes += len(data)
        pages = (offset + size - 1) // PAGE_BYTES - offset // PAGE_BYTES + 1
        self.counts.page_bytes += PAGE_BYTES * pages
        return np.frombuffer(data, "<f4")

    def _file(self, file_index: int) -> tuple[int, int]:
        """Descriptor of a file, and the byte at which its rows start."""
        if file_index not in self._files:
            file = self.dataset.source.files[file_index]
            file.check_unchanged()
            self._files[file_index] = (os.open(file.path, os.O_RDONLY), file.weights_offset)
        return self._files[file_index]


def _matrix_tokens(layer_table: LayerTable, token_size: int) -> list[_MatrixTokens]:
    parts, first = list[_MatrixTokens](), 0
    for matrix in row_matrices(layer_table, token_size):
        parts.append(_MatrixTokens(matrix, first))
        first += parts[-1].tokens
    return parts
