import math

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.nft import NFT, CrossAttention, SelfAttention
from weightzoo.encoders.parts.feed_forward import chain_layers
from weightzoo.encoders.parts.weight_space import WeightSpace
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset

WIDTH = 4


def attention(mlp: Architecture) -> tuple[SelfAttention, Tensor]:
    """The layer with one head for 5-7-6-3, and tokens of two models."""
    torch.manual_seed(0)
    space = WeightSpace(chain_layers(mlp.layer_table(), "NFT", "others"), "np")
    return SelfAttention(space, WIDTH, 1).double(), torch.randn(2, 111, WIDTH).double()


def look(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One query (U, C) at T keys and values (T, U, C)."""
    weights = ((query * keys).sum((1, 2)) / math.sqrt(query.numel())).softmax(0)
    return (weights[:, None, None] * values).sum(0)


def test_self_attention_is_the_three_heads_of_the_paper(mlp: Architecture) -> None:
    """For weight 2, 4 of the middle layer, from the tokens of one model."""
    layer, x = attention(mlp)
    tensors = layer.projection(x[0]).split([35, 7, 42, 6, 18, 3])
    first, first_bias, middle, bias, last, _ = tensors
    first, middle, last = first.view(7, 5, -1), middle.view(6, 7, -1), last.view(3, 6, -1)
    along_inputs = torch.cat([first.transpose(0, 1), first_bias[None], middle])
    along_outputs = torch.cat([middle.transpose(0, 1), bias[None], last])
    averages = torch.stack([one.mean(0) for one in tensors])[:, None]
    want = torch.zeros(WIDTH).double()
    for query, seen, unit in (
        (middle[2], along_inputs, 4),
        (middle[:, 4], along_outputs, 2),
        (averages[2], averages, 0),
    ):
        keys, values = seen[..., WIDTH : 2 * WIDTH], seen[..., 2 * WIDTH :]
        want += look(query[:, :WIDTH], keys, values)[unit]
    torch.testing.assert_close(layer(x)[0, 42 + 2 * 7 + 4], want)


def test_self_attention_moves_with_its_units_and_not_otherwise(mlp: Architecture) -> None:
    layer, x = attention(mlp)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    places = torch.arange(111)
    rows, bias = places[:35].view(7, 5)[order].flatten(), places[35:42][order]
    columns = places[42:84].view(6, 7)[:, order].flatten()
    coupled = torch.cat([rows, bias, columns, places[84:]])
    torch.testing.assert_close(layer(x[:, coupled]), layer(x)[:, coupled])
    alone = torch.cat([rows, places[35:]])
    assert not torch.allclose(layer(x[:, alone]), layer(x)[:, alone])


def test_cross_attention_ignores_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    pool, x = CrossAttention(8, 2, 3).double(), torch.randn(2, 11, 8).double()
    assert pool(x).shape == (2, 24)
    torch.testing.assert_close(pool(x[:, torch.randperm(11)]), pool(x))
    assert not torch.allclose(pool(x[:, :10]), pool(x))


def test_nft_takes_convolutions_and_tensors_without_bias() -> None:
    tables = [preset(name).layer_table() for name in ("cnn-s", "cnn-l", "small-cnn", "inr")]
    tables.append(LayerTable.from_module(nn.Linear(3, 2, bias=False)))
    for table in tables:
        nft = NFT(table, width=8, heads=2, queries=3, outputs=2)
        weights = torch.randn(3, table.width, requires_grad=True)
        outputs = nft(weights, table)
        assert outputs.shape == (3, 2) and nft.embed(weights, table).shape == (3, 24)
        outputs.square().sum().backward()
        gradients = [parameter.grad for parameter in nft.parameters()]
        assert all(one is not None and one.isfinite().all() for one in gradients)
        assert weights.grad is not None and weights.grad.isfinite().all()
        assert weights.grad.any(dim=0).all()  # every weight is looked at


@pytest.mark.parametrize(
    ("name", "sizes", "odd"),
    [("resnet18", {"width": 2}, "of kind 'norm'"), ("vit", {"blocks": 1}, "no link of one")],
)
def test_nft_refuses_what_is_no_chain(name: str, sizes: dict[str, int], odd: str) -> None:
    table = preset(name, **sizes).layer_table()
    with pytest.raises(ValueError, match=f"NFT takes chains.*{odd}.*SNE, DeepSets and NeuralGraph"):
        NFT(table)


def test_nft_refuses_heads_that_do_not_divide_the_width(mlp: Architecture) -> None:
    with pytest.raises(ValueError, match="heads divide width, got 32, 5"):
        NFT(mlp.layer_table(), heads=5)
