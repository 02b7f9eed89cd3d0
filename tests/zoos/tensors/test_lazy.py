import pickle

import pytest
import torch

from weightzoo.zoos.errors import ZooFormatError
from weightzoo.zoos.tensors.lazy import ITEM_BYTES, LazyTensor, TensorType


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_sizes_and_kinds_of_types_are_those_of_torch(dtype: str) -> None:
    own, theirs = TensorType(dtype, (3, 2)), getattr(torch, dtype)
    assert own.torch_dtype == theirs
    assert own.size_bytes == 6 * theirs.itemsize
    assert own.is_float == (theirs.is_floating_point and theirs.itemsize > 1)


@pytest.mark.parametrize(
    ("shape", "stride", "span"),
    [
        ((2, 3), None, 6),
        ((2, 3), (3, 1), 6),
        ((2, 3), (5, 2), 10),
        ((4,), (0,), 1),
        ((0, 3), (3, 1), 0),
    ],
)
def test_span_counts_the_values_from_first_to_last(
    shape: tuple[int, ...], stride: tuple[int, ...] | None, span: int
) -> None:
    assert LazyTensor(TensorType("float32", shape), 0, stride=stride).span == span


def test_pickle_cannot_change_a_tensor() -> None:
    tensor = LazyTensor(TensorType("float32", (2,)), 8)
    with pytest.raises(ZooFormatError, match="tries to change a tensor"):
        pickle.loads(pickle.dumps(tensor))
