"""Tests of compiled encoders: plans are made outside of what is compiled."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders import SNE
from weightzoo.encoders.parts import chunk_plan, planning
from weightzoo.encoders.registry import ENCODERS
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.layer_table import LayerTable

PLANNED = ("sne", "deepsets", "neural-graph", "dng", "scale-gmn", "statistics-mlp")
OPTIONS: dict[str, dict[str, Any]] = {
    "sne": {"width": 8, "heads": 1},
    "deepsets": {"width": 8, "codes": "layer"},
    "statistics-mlp": {"width": 8},
}


@pytest.fixture(autouse=True)
def forget_graphs() -> Iterator[None]:
    """Forget what was compiled: recompilations are counted by place in the code."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def encoder_and_input(name: str, mlp: Architecture) -> tuple[nn.Module, Any, LayerTable]:
    """An encoder in eval mode, four networks as it reads them, and their layer table."""
    torch.manual_seed(0)
    table = mlp.layer_table()
    encoder = ENCODERS[name].make(table, **OPTIONS.get(name, {"width": 8})).eval()
    weights = 0.1 * torch.randn(4, table.width)
    given = NetworkBatch(mlp, ("relu", "tanh") * 2, weights) if name == "scale-gmn" else weights
    return encoder, given, table


def test_compiled_encoder_computes_the_same_and_makes_its_plan_once(
    mlp: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[int]()
    plain = chunk_plan.parameter_tensors
    monkeypatch.setattr(chunk_plan, "parameter_tensors", lambda t: made.append(1) or plain(t))
    encoder, given, table = encoder_and_input("sne", mlp)
    predict = planning.compiled(encoder, backend="eager")
    chunk_plan.chunk_plan.cache_clear()
    found = [predict(given, table) for _ in range(3)]
    assert len(made) == 1
    assert all(torch.equal(one, encoder(given, table)) for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNED[1:])
def test_compiled_encoder_computes_what_the_encoder_computes(name: str, mlp: Architecture) -> None:
    encoder, given, table = encoder_and_input(name, mlp)
    found = planning.compiled(encoder, backend="eager")(given, table)
    assert torch.equal(found, encoder(given, table))


@pytest.mark.parametrize("name", PLANNED)
def test_second_call_makes_no_tensor_from_numbers(
    name: str, mlp: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such tensor would be a copy to a GPU that waits for it."""
    made = list[Any]()
    plain, zeros = torch.tensor, torch.zeros
    encoder, given, table = encoder_and_input(name, mlp)
    encoder(given, table)
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: made.append(a) or plain(*a, **k))
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: made.append(a) or zeros(*a, **k))
    encoder(given, table)
    assert len(made) == (name == "scale-gmn")  # rows by activation function, new in every batch


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNED)
def test_compiled_encoder_is_one_graph(name: str, mlp: Architecture) -> None:
    graphs = list[int]()

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(1)
        return graph.forward

    encoder, given, table = encoder_and_input(name, mlp)
    predict = planning.compiled(encoder, backend=count)
    for _ in range(2):
        predict(given, table)
    assert len(graphs) == 1


def test_subclass_with_its_own_forward_is_compiled_whole() -> None:
    class Halved(SNE):
        def forward(self, weights: Any, layer_table: LayerTable) -> Tensor:
            return super().forward(weights, layer_table) / 2

    assert planning.has_plans(SNE(width=8, heads=1))
    assert not planning.has_plans(Halved(width=8, heads=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.parametrize("name", PLANNED)
def test_compiled_gradients_are_those_of_the_encoder(name: str, mlp: Architecture) -> None:
    encoder, given, table = encoder_and_input(name, mlp)
    gradients = []
    for predict in (encoder, planning.compiled(encoder)):
        encoder.zero_grad()
        predict(given, table).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for eager, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, eager, rtol=1e-3, atol=1e-5)
