from collections.abc import Callable

import torch
from torch import Tensor

from weightzoo.encoders.invariance import half_squared_distance
from weightzoo.encoders.sne import SNE
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable

Reorder = Callable[[LayerTable, Tensor, bool], Tensor]


def test_half_squared_distance_of_known_outputs() -> None:
    outputs, others = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert half_squared_distance(outputs, others) == (4 + 25) / 4


def error(sne: SNE, weights: Tensor, permuted: Tensor, table: LayerTable) -> Tensor:
    return half_squared_distance(*sne(torch.cat([weights, permuted]), table).chunk(2))


def test_descending_the_distance_makes_the_encoder_more_invariant(
    mlp: Architecture, reorder: Reorder
) -> None:
    torch.manual_seed(0)
    table = mlp.layer_table()
    sne = SNE(width=8, blocks=1)
    weights = torch.randn(16, table.width)
    permuted = reorder(table, weights, True)
    optimizer = torch.optim.Adam(sne.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = error(sne, weights, permuted, table)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_layer_positions_are_invariant_but_to_wrong_reorderings_as_well(
    mlp: Architecture, reorder: Reorder
) -> None:
    torch.manual_seed(0)
    table = mlp.layer_table()
    weights = torch.randn(4, table.width).double()
    for positions, blind in (("layer", True), ("element", False)):
        sne = SNE(width=8, blocks=1, positions=positions, align="row").double().eval()
        for coupled in (True, False):
            moved = error(sne, weights, reorder(table, weights, coupled), table)
            assert (moved < 1e-20) == blind
