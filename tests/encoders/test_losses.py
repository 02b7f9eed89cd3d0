from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from weightzoo.encoders.losses import (
    ProjectionHead,
    contrast_loss,
    half_squared_distance,
    layer_errors,
    reconstruction_loss,
)
from weightzoo.encoders.sne import SNE
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable

Reorder = Callable[[LayerTable, Tensor, bool], Tensor]
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
LAYER = torch.tensor([0, 0, 1])


def views(models: int, seed: int) -> Tensor:
    return torch.randn(models, 12, generator=torch.Generator().manual_seed(seed))


def test_nt_xent_of_any_batch_matches_the_definition() -> None:
    one, other = views(3, 1), views(3, 2)
    both = torch.nn.functional.normalize(torch.cat([one, other]), dim=1).double()
    similarity = (both @ both.T / 0.5).exp()
    wanted = 0.0
    for i in range(6):
        positive = similarity[i, (i + 3) % 6]
        wanted += -float((positive / (similarity[i].sum() - similarity[i, i])).log()) / 6
    assert float(contrast_loss(one, other, "nt_xent", 0.5)) == pytest.approx(wanted, rel=1e-5)


def test_positive_contrast_is_zero_for_equal_directions() -> None:
    one = views(4, 1)
    assert float(contrast_loss(one, 3 * one, "positive")) == pytest.approx(0, abs=1e-10)
    assert float(contrast_loss(one, -one, "positive")) == pytest.approx(4, rel=1e-5)
    with pytest.raises(ValueError, match="contrast must be one of"):
        contrast_loss(one, one, "negative")


def test_reconstruction_counts_real_values_only() -> None:
    errors = torch.ones(2, 3, 4) * torch.tensor([1.0, 1.0, 3.0])[:, None]
    errors = errors + 100 * ~MASK
    assert float(reconstruction_loss(errors, MASK, LAYER)) == pytest.approx((6 * 1 + 4 * 9) / 10)
    by_layer = reconstruction_loss(errors, MASK, LAYER, "layer_mean")
    assert float(by_layer) == pytest.approx((1 + 9) / 2)
    sums, counts = layer_errors(errors, MASK, LAYER)
    assert sums.tolist() == [12.0, 72.0] and counts.tolist() == [12.0, 8.0]
    with pytest.raises(ValueError, match="reduction must be one of"):
        reconstruction_loss(errors, MASK, LAYER, "sum")


def test_projection_head_takes_a_batch_of_one() -> None:
    assert ProjectionHead(3, 8, 2).train()(torch.randn(1, 3)).shape == (1, 2)


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
    sne = SNE.paper(width=8, blocks=1, head=None)
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
        sne = (
            SNE.paper(width=8, blocks=1, head=None, positions=positions, align="row")
            .double()
            .eval()
        )
        for coupled in (True, False):
            moved = error(sne, weights, reorder(table, weights, coupled), table)
            assert (moved < 1e-20) == blind
