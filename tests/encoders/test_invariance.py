from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from weightzoo.encoders.invariance import half_squared_distance, logit_invariance
from weightzoo.encoders.sne import SNE
from weightzoo.zoos.architectures import Architecture
from weightzoo.zoos.layer_table import LayerTable

Reorder = Callable[[LayerTable, Tensor, bool], Tensor]


def test_half_squared_distance_of_known_outputs() -> None:
    outputs, others = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert half_squared_distance(outputs, others) == (4 + 25) / 4


@pytest.mark.parametrize("on", ["prediction", "embedding"])
def test_logit_invariance_is_the_distance_of_both_outputs(
    on: str, mlp: Architecture, reorder: Reorder
) -> None:
    torch.manual_seed(0)
    table = mlp.layer_table()
    sne = SNE(width=8, blocks=1, outputs=3).double().eval()
    weights = torch.randn(4, table.width).double()
    permuted = reorder(table, weights, True)
    encode = sne if on == "prediction" else sne.embed
    want = half_squared_distance(encode(weights, table), encode(permuted, table))
    torch.testing.assert_close(logit_invariance(sne, weights, permuted, table, on), want)
    assert want > 0


def test_descending_logit_invariance_makes_the_encoder_more_invariant(
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
        loss = logit_invariance(sne, weights, permuted, table)
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
            error = logit_invariance(sne, weights, reorder(table, weights, coupled), table)
            assert (error < 1e-20) == blind


def test_logit_invariance_rejects_what_does_not_fit(mlp: Architecture) -> None:
    table = mlp.layer_table()
    sne, weights = SNE(width=8, blocks=1), torch.zeros(4, table.width)
    with pytest.raises(ValueError, match="shape of weights"):
        logit_invariance(sne, weights, weights[:2], table)
    with pytest.raises(ValueError, match="on must be one of"):
        logit_invariance(sne, weights, weights, table, on="logit")
    with pytest.raises(ValueError, match="no embedding"):
        logit_invariance(torch.nn.Identity(), weights, weights, table, on="embedding")
