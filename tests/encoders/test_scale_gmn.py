"""ScaleGMN: factors of units that keep the function do not move it, others do."""

import pytest
import torch
from torch import Tensor

from weightzoo.encoders.scale_gmn import ScaleGMN
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset


def rescaled(table: LayerTable, weights: Tensor, layer: str, factors: Tensor, out: bool) -> Tensor:
    """Weights (B, D) with the units of a layer times factors (U,), the next one compensating."""
    tensors = {name: one.clone() for name, one in table.split(weights).items()}
    names = [spec.layer for spec in table if spec.role == "weight"]
    tensors[f"{layer}.weight"] *= factors.view(-1, *[1] * (tensors[f"{layer}.weight"].dim() - 2))
    tensors[f"{layer}.bias"] *= factors
    if out:
        reader = f"{names[names.index(layer) + 1]}.weight"
        blocks = tensors[reader].unflatten(2, (len(factors), -1))
        tensors[reader] = (blocks / factors.view(-1, *[1] * (blocks.dim() - 3))).flatten(2, 3)
    return torch.cat([tensors[spec.name].flatten(1) for spec in table], 1)


def moved(
    architecture: Architecture, activation: str, layer: str, factors: Tensor, out: bool = True
) -> tuple[float, float]:
    """Relative change of outputs and of embeddings when units of a layer get factors."""
    torch.manual_seed(0)
    table = architecture.layer_table()
    weights = 0.3 * torch.randn(2, table.width, dtype=torch.float64)
    other = rescaled(table, weights, layer, factors.double(), out)
    encoder = ScaleGMN(width=8).double().eval()
    inputs = torch.randn(4, *architecture.input_shape, dtype=torch.float64)
    changes = []
    with torch.no_grad():
        for read in (lambda n: n.outputs(inputs), lambda n: encoder.embed(n, table)):
            old, new = (
                read(NetworkBatch(architecture, (activation,) * 2, w)) for w in (weights, other)
            )
            changes.append(float((old - new).norm() / (old[0] - old[1]).norm()))
    return changes[0], changes[1]


def factors_of(architecture: Architecture, layer: str, kind: str) -> Tensor:
    units = next(s.shape[0] for s in architecture.layer_table() if s.name == f"{layer}.weight")
    if kind == "positive":
        return torch.linspace(-1, 1.5, units).exp()
    return 1.0 - 2 * (torch.arange(units) % 2)


VALID = [
    ("mlp", "relu", "linear1", "positive"),
    ("mlp", "leaky_relu", "linear2", "positive"),
    ("mlp", "tanh", "linear1", "signs"),
    ("cnn", "relu", "conv1", "positive"),
    ("cnn", "relu", "conv3", "positive"),  # read by a linear layer after flattening
    ("cnn", "tanh", "conv3", "signs"),
    ("cnn", "tanh", "linear1", "signs"),
    ("gap", "relu", "conv2", "positive"),
    ("inr", "relu", "linear1", "signs"),
    ("inr", "relu", "linear2", "signs"),
]
INVALID = [
    ("mlp", "relu", "linear1", "signs"),
    ("mlp", "tanh", "linear1", "positive"),
    ("mlp", "sigmoid", "linear1", "signs"),
    ("mlp", "gelu", "linear1", "positive"),
    ("cnn", "tanh", "conv1", "signs"),  # the maximum over positions sees signs
    ("cnn", "relu", "conv3", "signs"),
    ("inr", "relu", "linear1", "positive"),
]


@pytest.mark.parametrize(("name", "activation", "layer", "kind"), VALID)
def test_factors_that_keep_the_function_do_not_move_the_embedding(
    name: str, activation: str, layer: str, kind: str, architectures: dict[str, Architecture]
) -> None:
    factors = factors_of(architectures[name], layer, kind)
    outputs, embedding = moved(architectures[name], activation, layer, factors)
    assert outputs < 1e-9
    assert embedding < 1e-9
    uncompensated = moved(architectures[name], activation, layer, factors, out=False)
    assert min(uncompensated) > 1e-4


@pytest.mark.parametrize(("name", "activation", "layer", "kind"), INVALID)
def test_factors_that_change_the_function_move_the_embedding(
    name: str, activation: str, layer: str, kind: str, architectures: dict[str, Architecture]
) -> None:
    factors = factors_of(architectures[name], layer, kind)
    assert min(moved(architectures[name], activation, layer, factors)) > 1e-4


def test_half_turns_of_sine_phases_do_not_move_the_embedding() -> None:
    inr, encoder = preset("inr", inputs=2), ScaleGMN(width=8).double().eval()
    table = inr.layer_table()
    weights = 0.1 * torch.randn(2, table.width, dtype=torch.float64)
    other = weights.clone()
    table.split(other)["linear1.bias"][:, 3] += torch.pi / 30
    table.split(other)["linear2.weight"][:, :, 3] *= -1
    points = torch.rand(5, 2, dtype=torch.float64)
    networks = [NetworkBatch(inr, ("relu",) * 2, one) for one in (weights, other)]
    torch.testing.assert_close(networks[1].outputs(points), networks[0].outputs(points))
    found = [encoder.embed(one, table) for one in networks]
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("name", ["cnn-s", "vit", "resnet18"])
def test_every_weight_changes_the_embedding(name: str) -> None:
    torch.manual_seed(0)
    architecture = preset(name, **({"width": 4} if name != "cnn-s" else {}))
    table = architecture.layer_table()
    weights = torch.randn(2, table.width, dtype=torch.float64).requires_grad_()
    networks = NetworkBatch(architecture, ("relu", "tanh"), weights)
    ScaleGMN(width=8).double().eval().embed(networks, table).square().sum().backward()
    assert weights.grad is not None
    for spec in (one for one in table if one.role != "buffer"):
        part = weights.grad[:, spec.offset : spec.offset + spec.size]
        assert part.abs().amax(1).min() > 0, spec.name


def test_rows_keep_their_order_in_a_batch_of_several_activations() -> None:
    cnn, encoder = preset("cnn-s"), ScaleGMN(width=8).double().eval()
    weights = torch.randn(4, cnn.layer_table().width, dtype=torch.float64)
    names = ("tanh", "relu", "gelu", "relu")
    together = encoder(NetworkBatch(cnn, names, weights), cnn.layer_table())
    for row, name in enumerate(names):
        alone = encoder(NetworkBatch(cnn, (name,), weights[row : row + 1]), cnn.layer_table())
        torch.testing.assert_close(together[row : row + 1], alone)


def test_scale_gmn_rejects_sizes_below_one() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 8, 0 and 8"):
        ScaleGMN(width=8, rounds=0)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("size", [1e7, 1e30])
def test_weights_of_diverged_networks_give_finite_outputs_and_gradients(
    activation: str, size: float
) -> None:
    torch.manual_seed(0)
    cnn, encoder = preset("cnn-s"), ScaleGMN()
    weights = size * torch.randn(3, cnn.layer_table().width)
    outputs = encoder(NetworkBatch(cnn, (activation,) * 3, weights), cnn.layer_table())
    outputs.square().sum().backward()
    assert outputs.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
