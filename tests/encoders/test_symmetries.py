"""What reorderings of units each encoder sees, both ways."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.registry import ENCODERS
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.layer_table import LayerTable

Reorder = Callable[[LayerTable, Tensor, bool], Tensor]
INVARIANT = [
    *(
        (name, chain)
        for name in ("nfn-hnp", "nfn-np", "nft", "neural-graph", "dng")
        for chain in ("mlp", "cnn")
    ),
    ("nfn-hnp", "gap"),
    ("nft", "gap"),
    ("nft", "inr"),
    ("neural-graph", "gap"),
    ("dng", "gap"),
    *(
        (name, chain)
        for name in ("probegen", "hidden-probe", "probe-statistics", "scale-gmn")
        for chain in ("mlp", "cnn", "gap")
    ),
    ("probegen", "inr"),
    ("hidden-probe", "inr"),
    ("probe-statistics", "inr"),
    ("scale-gmn", "inr"),
    ("dwsnet", "mlp"),
    ("dwsnet", "inr"),
]


class Running(nn.Module):
    """An encoder that runs networks, called with their weights."""

    def __init__(self, encoder: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        self.encoder, self.architecture = encoder, architecture

    def embed(self, weights: Tensor, table: LayerTable) -> Tensor:
        networks = NetworkBatch(self.architecture, ("tanh",) * len(weights), weights)
        embedded: Tensor = self.encoder.embed(networks, table)  # type: ignore[operator]
        return embedded


def make(name: str, table: LayerTable, architecture: Architecture | None = None) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS[name].make(table).double().eval()
    runs = getattr(encoder, "reads", "flat") == "networks"
    return Running(encoder, architecture) if runs and architecture else encoder


def random_weights(table: LayerTable, models: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(models, table.width, generator=generator).double()


def same(
    encoder: nn.Module, weights: Tensor, others: Tensor, table: LayerTable, rounding: float = 1e-9
) -> bool:
    """Whether embeddings differ by rounding alone, measured by what differs between models."""
    with torch.no_grad():
        got, want = encoder.embed(others, table), encoder.embed(weights, table)
    return bool((got - want).norm() < rounding * (want[0] - want[1]).norm())


@pytest.mark.parametrize(("name", "chain"), INVARIANT)
def test_invariant_encoder_sees_uncoupled_reorderings_alone(
    name: str, chain: str, architectures: dict[str, Architecture], reorder: Reorder
) -> None:
    table = architectures[chain].layer_table()
    encoder, weights = make(name, table, architectures[chain]), random_weights(table)
    coupled = reorder(table, weights, True)
    assert not torch.equal(coupled, weights)
    assert same(encoder, weights, coupled, table)
    assert not same(encoder, weights, reorder(table, weights, False), table)


@pytest.mark.parametrize("name", ["flat-mlp", "sne"])
def test_encoder_of_places_sees_every_reordering(
    name: str, architectures: dict[str, Architecture], reorder: Reorder
) -> None:
    table = architectures["mlp"].layer_table()
    encoder, weights = make(name, table), random_weights(table)
    for coupled in (True, False):
        assert not same(encoder, weights, reorder(table, weights, coupled), table)


@pytest.mark.parametrize("name", ["deepsets", "statistics-mlp"])
def test_encoder_of_values_sees_no_reordering(
    name: str, architectures: dict[str, Architecture], reorder: Reorder
) -> None:
    table = architectures["mlp"].layer_table()
    encoder, weights = make(name, table), random_weights(table)
    for coupled in (True, False):
        assert same(encoder, weights, reorder(table, weights, coupled), table, rounding=1e-5)


@pytest.mark.parametrize(
    ("name", "blind"),
    [("nfn-np", True), ("nfn-hnp", False), ("nft", False), ("neural-graph", False)],
)
def test_np_alone_is_blind_to_the_order_of_inputs(
    name: str, blind: bool, architectures: dict[str, Architecture]
) -> None:
    table = architectures["mlp"].layer_table()
    encoder, weights = make(name, table), random_weights(table)
    moved = weights.clone()
    moved[:, :35] = weights[:, :35].unflatten(1, (7, 5)).flip(2).flatten(1)
    assert same(encoder, weights, moved, table) == blind
