"""Copy plans: numpy records and strided tensors make the same copies; gradients go both ways."""

import pytest
import torch
from torch import Tensor, nn

from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.tokens.chunks import Chunks
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer

TABLE = LayerTable.from_module(
    nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))
)
TOKENIZERS = [Chunks(TABLE, 5), Chunks(TABLE, 9, "row"), Neurons(TABLE), RowChunks(TABLE, 4)]
IDS = ["flat", "row", "neurons", "row-chunks"]


def weights(models: int) -> Tensor:
    """Whole numbers from 1, all different."""
    return torch.arange(1.0, models * TABLE.width + 1).view(models, -1)


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_views_of_tensors_and_records_copy_the_same(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tokenizer(weights(3))["values"].clone()
    with monkeypatch.context() as patch:
        patch.setattr("weightzoo.zoos.tokens.copy_plan._RECORD_DEVICE", "none")
        assert torch.equal(tokenizer(weights(3))["values"], values)
        assert torch.equal(tokenizer.inverse(values), weights(3))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_rows_of_any_memory_layout_are_cut(tokenizer: Tokenizer) -> None:
    wide = torch.cat([weights(4), weights(4)], dim=1)
    views = {1: wide[2:3], 2: wide[::3], 0: wide[:0]}
    for models, view in views.items():
        values = tokenizer(view[:, : TABLE.width])["values"]
        assert values.shape == (models, *tokenizer.shape)
        assert torch.equal(tokenizer.inverse(values), view[:, : TABLE.width])
    turned = tokenizer(weights(3)).pop("values").transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(tokenizer.inverse(turned), weights(3))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_rows_that_lie_apart_are_cut_like_a_batch(tokenizer: Tokenizer) -> None:
    table = weights(9).numpy()
    table.flags.writeable = False  # as a mapped file
    values = tokenizer.cut_blocks([table[7:8], table[:2], table[3:4]], 4)["values"]
    assert torch.equal(values, tokenizer(weights(9)[[7, 0, 1, 3]])["values"])
    for wrong in (table[:1].astype(float), table[:1, 1:], table[0], table[:2]):
        with pytest.raises(ValueError, match="blocks must have shape"):
            tokenizer.cut_blocks([wrong], 1)
    with pytest.raises(ValueError, match="blocks must have 3 rows in all, got 2"):
        tokenizer.cut_blocks([table[:2]], 3)


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=IDS)
def test_gradients_go_both_ways_and_leave_out_padding(tokenizer: Tokenizer) -> None:
    flat = weights(2).requires_grad_()
    factor = torch.randn(2, *tokenizer.shape)
    (tokenizer(flat)["values"] * factor).sum().backward()
    assert torch.equal(flat.grad, tokenizer.inverse(factor))
    values = torch.zeros(2, *tokenizer.shape, requires_grad=True)
    tokenizer.inverse(values).sum().backward()
    assert torch.equal(values.grad, tokenizer.shared["mask"].float().expand_as(values))
