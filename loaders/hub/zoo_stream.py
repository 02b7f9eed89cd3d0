"""`ZooStream`: the stock stream of `datasets`, with format "layer_sets", for trainers and loaders.

Shape letters: n rows of a batch, D length of the flat weight vector.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.format import WEIGHTS
from ...zoos.tokens.chunks import LayerSets
from ..dataset.row_protocol import WeightTokenizer
from ..dataset.zoo_dataset import ZooDataset

LAYER_SETS = "layer_sets"
_STEPS = (  # methods that return another stream
    "add_column batch cast cast_column decode filter map remove_columns rename_column "
    "rename_columns repeat reshard select_columns shard shuffle skip take"
).split()


@cache
def stream_class() -> Any:
    """The class `ZooStream`, made when it is first needed, because `datasets` is slow to import."""
    from datasets import IterableDataset

    steps = [name for name in _STEPS if hasattr(IterableDataset, name)]  # older ones lack some
    carried = {name: _carried(getattr(IterableDataset, name)) for name in steps}
    own = carried | {"__module__": __name__, "__doc__": StreamOfZoo.__doc__}
    return type("ZooStream", (StreamOfZoo, IterableDataset), own)


def __getattr__(name: str) -> Any:
    """Return the class by its name, for pickle."""
    if name == "ZooStream":
        return stream_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class StreamOfZoo:
    """Rows of one split in the order of the files; made by `load_zoo(..., streaming=True)`.

    `ZooStream` is this class and a stock `datasets.IterableDataset`. Trainers, predictors and
    `DeviceLoader` take it for a `ZooDataset` and read its rows by number, in their own order.
    """

    _open: Callable[[], ZooDataset] | None = None
    _tokenizer: WeightTokenizer | None = None

    @classmethod
    def of(cls, stream: Any, opener: Callable[[], ZooDataset] | None) -> Any:
        """Turn a stock stream into one of a zoo.

        Args:
            stream: stock stream, which is changed.
            opener: function that opens the rows of the stream by number; None if there are none.
        """
        stream.__class__ = cls
        stream._open = opener
        return stream

    def as_zoo(self) -> ZooDataset:
        """The same rows by number, opened now; weights are fetched when they are read.

        Raises:
            TypeError: if rows were filtered or changed since the stream was opened.
        """
        if self._open is None:
            raise TypeError(
                "a stream that was filtered, shuffled or changed has no rows by number: pass the "
                "stream as load_zoo returns it, or load the zoo with streaming=False and filter it"
            )
        return self._open()

    def with_format(
        self,
        type: str | None = None,
        tokenizer: WeightTokenizer | None = None,
        *,
        chunk_size: int = 32,
    ) -> Any:
        """Set the format of the rows.

        Args:
            type: a format of `datasets`, or "layer_sets", in which the entries of a tokenizer
                replace `weights`, and columns of numbers are tensors.
            tokenizer: tokenizer for "layer_sets", as in `ZooDataset.with_format`; None takes
                `LayerSets`.
            chunk_size: number of values per chunk; default tokenizer only.

        Raises:
            ValueError: if there is no such format.
        """
        if type != LAYER_SETS:
            return self.of(super().with_format(type), self._open)  # type: ignore[misc]
        stream = self.of(super().with_format("numpy"), self._open)  # type: ignore[misc]
        if tokenizer is None:
            tokenizer = LayerSets(self.as_zoo().layer_table, chunk_size)
        stream._tokenizer = tokenizer
        return stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows."""
        for row in super().__iter__():  # type: ignore[misc]
            yield row if self._tokenizer is None else self._cut(row)

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[dict[str, Any]]:
        """Iterate over batches of rows.

        Args:
            batch_size: n, rows per batch.
            drop_last_batch: whether to drop a last batch that is not full.
        """
        for batch in super().iter(batch_size, drop_last_batch):  # type: ignore[misc]
            yield batch if self._tokenizer is None else self._cut(batch)

    def _cut(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Cut the weights (n, D) of a batch, or (D,) of a row."""
        assert self._tokenizer is not None
        weights = torch.from_numpy(np.array(batch[WEIGHTS], np.float32))
        tokens = self._tokenizer(weights if weights.ndim == 2 else weights[None])
        shared = getattr(self._tokenizer, "shared", ())
        if weights.ndim == 1:
            tokens = {name: one if name in shared else one[0] for name, one in tokens.items()}
        rest = {name: _tensor(value) for name, value in batch.items() if name != WEIGHTS}
        return rest | dict(tokens)


def _tensor(value: Any) -> Any:
    """Numbers as a tensor; text as it is."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS":
        return value.tolist()
    if isinstance(value, np.ndarray | np.number):
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, str | Tensor) else torch.tensor(value)


def _carried(stock: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the stock stream whose result keeps the tokenizer; its rows have no number."""

    @wraps(stock)
    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        stream = self.of(stock(self, *arguments, **options), None)
        stream._tokenizer = self._tokenizer
        return stream

    return method
