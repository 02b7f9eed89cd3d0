"""Compiled copies: they make the copies that numpy makes, and read rows where they lie."""

import numpy as np
import pytest
import torch
from torch import nn

from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens import copy_runs
from weightzoo.zoos.tokens.chunks import Chunks
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer

TABLE = LayerTable.from_module(
    nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))
)
TOKENIZERS = [Chunks(TABLE, 5), Chunks(TABLE, 9, "row"), Neurons(TABLE), RowChunks(TABLE, 4)]
IDS = ["flat", "row", "neurons", "row-chunks"]
WEIGHTS = torch.arange(1.0, 9 * TABLE.width + 1).view(9, -1)

if copy_runs.library() is None:
    pytest.skip("no C compiler", allow_module_level=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_compiled_and_numpy_copies_are_equal(
    tokenizer: Tokenizer, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = WEIGHTS.to(dtype)
    values = tokenizer(weights)["values"].clone()
    back = tokenizer.inverse(values).clone()
    monkeypatch.setattr("weightzoo.zoos.tokens.copy_plan.library", lambda: None)
    assert torch.equal(tokenizer(weights)["values"], values)
    assert torch.equal(tokenizer.inverse(values), back)
    assert torch.equal(back, weights)


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_rows_of_tables_are_cut_like_a_batch(tokenizer: Tokenizer) -> None:
    wide = np.zeros((9, TABLE.width + 3), np.float32)
    wide[:, 2:-1] = WEIGHTS
    wide.flags.writeable = False  # as a window of a mapped file
    parts = [
        (wide[:, 2:-1], np.array([8, 0, 8]), np.array([3, 1, 2])),
        (WEIGHTS.numpy()[2:], np.array([4]), np.array([0])),
    ]
    values = tokenizer.cut_rows(parts, 4)["values"]
    assert torch.equal(values, tokenizer(WEIGHTS[[6, 0, 8, 8]])["values"])


def test_rows_that_compiled_loops_cannot_cut_are_refused() -> None:
    table, tokenizer = WEIGHTS.numpy(), TOKENIZERS[0]
    for numbers, indices in (([9], [0]), ([-1], [0]), ([0], [2]), ([0], [-1])):
        with pytest.raises(IndexError, match="row numbers must be from 0"):
            tokenizer.cut_rows([(table, np.array(numbers), np.array(indices))], 2)
    for wrong in (table.astype(float), table[:, 1:], table[0], np.asfortranarray(table)):
        with pytest.raises(ValueError, match="tables must have shape"):
            tokenizer.cut_rows([(wrong, np.array([0]), np.array([0]))], 1)
    for indices in (np.array([], int), None):
        with pytest.raises(ValueError, match="1 rows are given and [02] indices"):
            tokenizer.cut_rows([(table, np.array([0]), indices)], 2)
    with pytest.raises(ValueError, match="parts must have 2 rows in all, got 1"):
        tokenizer.cut_rows([(table, np.array([0]), np.array([1]))], 2)


@pytest.mark.parametrize("window", [slice(None), slice(1, 4), slice(2000, 2001)])
def test_rows_are_gathered_like_plain_indexing(window: slice) -> None:
    table = np.arange(7 * 3000, dtype=np.float32).reshape(7, 3000)[:, window]
    rows = np.array([6, 0, 0, 3])
    target = np.empty((4, table.shape[1]), np.float32)
    copy_runs.gather_rows(table, rows, target)
    np.testing.assert_array_equal(target, table[rows])


@pytest.mark.parametrize("wrong", [-1, 7, 2**40])
def test_rows_out_of_range_are_not_gathered(wrong: int) -> None:
    target = np.zeros((2, 5), np.float32)
    with pytest.raises(IndexError, match=f"row {wrong} is out of range: there are 7 rows"):
        copy_runs.gather_rows(np.ones((7, 5), np.float32), np.array([1, wrong]), target)
    assert not target.any()
