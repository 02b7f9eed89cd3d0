"""DNG reads every weight once, at its place, in the direction of the forward pass."""

import pytest
import torch

from weightzoo.encoders.dng import DNG
from weightzoo.encoders.parts.weight_graph import value_places, weight_graph
from weightzoo.zoos.networks.presets import preset


@pytest.mark.parametrize("name", ["cnn-s", "vit", "resnet18"])
def test_places_are_where_padding_puts_the_values(name: str) -> None:
    table = preset(name, width=4).layer_table() if name != "cnn-s" else preset(name).layer_table()
    weights = torch.randn(2, table.width)
    for one in weight_graph(table).edges:
        places = value_places(one, 64)
        assert len(places) == one.shape[2]
        padded = one.values(weights, 64)
        assert torch.equal(padded[..., places], one.values(weights, one.shape[2]))
        assert padded.count_nonzero() == 2 * one.spec.size


@pytest.mark.parametrize("name", ["cnn-s", "vit", "resnet18"])
def test_every_weight_changes_the_embedding(name: str) -> None:
    torch.manual_seed(0)
    table = preset(name, width=4).layer_table() if name != "cnn-s" else preset(name).layer_table()
    weights = torch.randn(2, table.width, dtype=torch.float64).requires_grad_()
    DNG(width=8).double().eval().embed(weights, table).square().sum().backward()
    assert weights.grad is not None
    for spec in (one for one in table if one.role != "buffer"):
        assert weights.grad[:, spec.offset : spec.offset + spec.size].abs().max() > 0, spec.name


def test_dng_rejects_sizes_below_one() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 8, 0 and 8"):
        DNG(width=8, frequencies=0)
