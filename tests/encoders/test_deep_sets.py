import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.deep_sets import DeepSets
from weightzoo.zoos.networks.layer_table import LayerTable


def equal_layers() -> tuple[LayerTable, Tensor]:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    weights = torch.randn(2, table.width, generator=torch.Generator().manual_seed(0))
    return table, weights.double()


@pytest.mark.parametrize(("codes", "sees"), [("none", 0), ("layer", 1), ("element", 2)])
def test_codes_tell_layers_and_places_apart(codes: str, sees: int) -> None:
    torch.manual_seed(0)
    table, weights = equal_layers()
    encoder = DeepSets(width=8, codes=codes).double().eval()
    layers = weights.roll(table.width // 2, dims=1)  # the two layers change places
    values = torch.cat([weights[:, :16].flip(1), weights[:, 16:]], dim=1)
    changed = [
        not torch.allclose(encoder.embed(other, table), encoder.embed(weights, table), atol=1e-9)
        for other in (layers, values)
    ]
    assert changed == [sees >= 1, sees >= 2]


def test_deep_sets_embed_the_mean_over_values() -> None:
    torch.manual_seed(0)
    table, weights = equal_layers()
    encoder = DeepSets(width=8).double().eval()
    want = torch.stack([encoder.encoder(encoder.value(row[:, None])).mean(0) for row in weights])
    torch.testing.assert_close(encoder.embed(weights, table), want)


def test_deep_sets_reject_unknown_codes() -> None:
    with pytest.raises(ValueError, match="codes must be one of.*got 'depth'"):
        DeepSets(codes="depth")
