from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from weightzoo.encoders.dwsnet import DWSNet
from weightzoo.encoders.nfn import NFN
from weightzoo.encoders.nft import NFT
from weightzoo.encoders.parts.equivariant import EquivariantLinear, Slot
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset

CHAIN = (Slot((1, 0), 2), Slot((1,), 1), Slot((2, 1), 3))  # two weights and a bias


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 3, 2), (2, 4, 1), (2, 5, 4, 3))
    return [torch.randn(shape, generator=generator).double() for shape in shapes]


def test_equivariant_layer_moves_with_its_units_and_not_otherwise() -> None:
    layer, (first, bias, second) = EquivariantLinear(CHAIN, (2, 3, 4)).double(), tensors()
    order = torch.tensor([2, 0, 3, 1])
    want = layer([first, bias, second])
    got = layer([first[:, order], bias[:, order], second[:, :, order]])
    torch.testing.assert_close(got[0], want[0][:, order])
    torch.testing.assert_close(got[1], want[1][:, order])
    torch.testing.assert_close(got[2], want[2][:, :, order])
    alone = layer([first[:, order], bias, second])
    assert not torch.allclose(alone[1], want[1]) and not torch.allclose(alone[1], want[1][:, order])


def test_equivariant_layer_is_the_formula_of_the_paper() -> None:
    """For the bias: averages of all, rows of its weight, columns of the next, and itself."""
    layer, (first, bias, second) = EquivariantLinear(CHAIN, (2, 3, 4)).double(), tensors()
    mixers = layer.mixers[1]
    rows = torch.cat([first.mean(2), bias, second.mean(1)], dim=-1)
    everything = torch.cat([first.mean((1, 2)), bias.mean(1), second.mean((1, 2))], dim=-1)
    want = mixers["axes_1"](rows) + mixers["mean"](everything)[:, None]
    torch.testing.assert_close(layer([first, bias, second])[1], want)


def test_equivariant_layer_spans_all_equivariant_maps() -> None:
    """Between n x m matrices there are four, the orbits of pairs of places."""
    layer = EquivariantLinear((Slot((1, 0), 1),), (1,))
    assert sum(mixer.weight.numel() for mixer in layer.mixers[0].values()) == 4


@pytest.mark.parametrize("symmetry", ["hnp", "np"])
def test_nfn_takes_convolutions_that_flatten_or_pool(symmetry: str) -> None:
    for name in ("cnn-s", "cnn-l", "small-cnn", "inr"):
        table = preset(name).layer_table()
        nfn = NFN(table, symmetry, channels=(4, 3), head=(8,), outputs=2)
        assert nfn(torch.randn(3, table.width), table).shape == (3, 2)
        assert nfn.encoder.width == 3 * len(table)


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (partial(NFN, channels=(16, 16), head=(32,)), 300),
        pytest.param(partial(NFT, width=16), 300, marks=pytest.mark.slow),
    ],
)
def test_equivariant_encoder_learns_the_product_of_two_layers(
    make: Callable[[LayerTable], nn.Module], steps: int
) -> None:
    """A function of the pairs of weights that meet: invariant, and no statistic of tensors."""
    torch.manual_seed(0)
    table = LayerTable.from_module(
        nn.Sequential(nn.Linear(1, 8, bias=False), nn.Linear(8, 1, bias=False))
    )
    weights = torch.randn(2048, table.width)
    target = (weights[:, :8] * weights[:, 8:]).sum(1) / 8**0.5
    encoder = make(table)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for step in range(steps):
        rows = torch.arange(step * 128, (step + 1) * 128) % 1536
        loss = (encoder(weights[rows], table)[:, 0] - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    with torch.no_grad():
        error = (encoder(weights[1536:], table)[:, 0] - target[1536:]).square().mean()
    assert error < 0.2 * target[1536:].var()


def test_nfn_and_dwsnet_say_what_they_cannot_take(mlp: Architecture) -> None:
    normed = LayerTable.from_module(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)))
    for encoder in (NFN, DWSNet):
        with pytest.raises(ValueError, match="'1' of kind 'norm'.*SNE, DeepSets and NeuralGraph"):
            encoder(normed)
    with pytest.raises(ValueError, match="'conv1.weight' has 25 values.*NFN"):
        DWSNet(preset("cnn-s").layer_table())
    wide = LayerTable.from_module(nn.Linear(784, 10))
    with pytest.raises(ValueError, match="more than 4096: reduce width, or use NFN"):
        DWSNet(wide)
    with pytest.raises(ValueError, match="symmetry must be one of"):
        NFN(mlp.layer_table(), symmetry="all")
