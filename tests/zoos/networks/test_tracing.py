"""Tracing: what is rebuilt computes the same, and what cannot be rebuilt is refused in words."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.networks.tracing import trace_architecture
from weightzoo.zoos.recipe import load_recipe


class Functional(nn.Module):
    """A network as many write it: functions in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.norm(self.conv(x))), 2)
        x = F.dropout(x.view(x.size(0), -1), 0.3, training=self.training)
        return self.out(x)


def test_functional_network_is_rebuilt_with_the_same_outputs() -> None:
    module = Functional().eval()
    module.norm.running_mean.uniform_()
    traced = trace_architecture(module, (1, 8, 8))
    rebuilt = traced.architecture.module(traced.activation, traced.dropout).eval()
    state = module.state_dict()
    rebuilt.load_state_dict({ours: state[theirs] for ours, theirs in traced.names.items()})
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(rebuilt(images), module(images))
    assert (traced.activation, traced.dropout) == ("tanh", 0.3)
    assert traced.names["batch_norm1.running_mean"] == "norm.running_mean"


@pytest.mark.parametrize("recipe", ["digits-vit", "sine-inr", "digits-mlp", "packages-transformer"])
def test_own_architectures_are_traced_to_themselves(recipe: str) -> None:
    architecture = load_recipe(recipe).architecture
    module = architecture.module("tanh", 0.1)
    traced = trace_architecture(module, architecture.input_shape, architecture.name)
    assert traced.architecture == architecture
    assert all(ours == theirs for ours, theirs in traced.names.items())


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


class Unused(Sum):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Twice(Sum):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class Branching(Sum):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Sum(), "no chain of layers"),
        (Twice(), "used twice"),
        (Unused(), "no layer says how many features"),
        (Branching(), "torch.fx cannot trace"),
        (nn.Sequential(Halved(4, 4)), "no chain of layers"),
        (nn.Sequential(nn.Linear(4, 4, bias=False)), "without bias"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh()), "relu', 'tanh"),
        (nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2)), "LeakyReLU"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.ReLU()), "size of the images is open"),
    ],
)
def test_module_that_cannot_be_rebuilt_is_refused(module: nn.Module, reason: str) -> None:
    with pytest.raises(UnsuitableError, match=reason):
        trace_architecture(module)


def test_module_that_computes_something_else_is_refused() -> None:
    """A hook is invisible to the trace; the outputs tell."""
    module = nn.Sequential(nn.Linear(4, 4))

    def double(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * 2

    trace_architecture(module)
    module[0].register_forward_hook(double)
    with pytest.raises(UnsuitableError, match="computes something else"):
        trace_architecture(module)


def test_image_size_is_derived_where_one_fits() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 36, 5))
    assert trace_architecture(module).architecture.input_shape == (3, 8, 8)
