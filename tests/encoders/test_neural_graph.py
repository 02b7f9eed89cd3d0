from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.neural_graph import NeuralGraph
from weightzoo.encoders.parts.weight_graph import WeightGraph, weight_graph
from weightzoo.loaders.transforms.permutations import HiddenPermutations
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import preset


def joined(graph: WeightGraph) -> dict[str, tuple[int, int]]:
    return {edges.spec.name: (edges.source, edges.target) for edges in graph.edges}


def random_weights(table: LayerTable) -> Tensor:
    return torch.randn(2, table.width, generator=torch.Generator().manual_seed(0)).double()


def embed(encoder: NeuralGraph, weights: Tensor, table: LayerTable) -> Tensor:
    with torch.no_grad():
        return encoder.embed(weights, table)


def test_shortcut_joins_the_block_that_it_goes_around() -> None:
    table = preset("resnet18", width=2).layer_table()
    edges = joined(weight_graph(table))
    before, inner = edges["residual3.body.conv1.weight"]
    assert edges["residual3.body.conv2.weight"][0] == inner
    assert edges["residual3.shortcut.conv1.weight"] == (
        before,
        edges["residual3.body.conv2.weight"][1],
    )


def test_queries_and_keys_make_one_set_and_values_another() -> None:
    table = preset("vit", blocks=1).layer_table()
    edges = joined(weight_graph(table))
    name = "residual1.body.attention1."
    query, key, value = (edges[f"{name}{part}.weight"] for part in ("query", "key", "value"))
    assert query == key and value[0] == query[0] and value[1] != query[1]
    assert edges[f"{name}out.weight"][0] == value[1]
    position = edges["position_embedding1.position"]
    assert position[1] == edges["conv1.weight"][1]


def test_every_parameter_enters_the_graph() -> None:
    for table in (
        preset("resnet18", width=2).layer_table(),
        preset("vit", blocks=1).layer_table(),
        LayerTable.from_module(nn.TransformerEncoderLayer(8, 2, 16)),
    ):
        graph = weight_graph(table)
        held = [edges.spec for edges in graph.edges]
        held += [spec for units in graph.sets for spec in units.vectors]
        assert sorted(spec.name for spec in held) == sorted(
            spec.name for spec in table if spec.role != "buffer"
        )
        weights = random_weights(table).requires_grad_()
        NeuralGraph(width=8).double().eval()(weights, table).sum().backward()
        assert weights.grad is not None
        for spec in held:
            assert weights.grad[:, spec.offset : spec.offset + spec.size].any(), spec.name


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("resnet18", {"width": 2}),
        ("vit", {"blocks": 2}),
        ("transformer", {"tokens": 9, "vocabulary": 8, "width": 8}),
    ],
)
def test_neural_graph_sees_uncoupled_reorderings_of_a_residual_network_alone(
    name: str, sizes: dict[str, int]
) -> None:
    torch.manual_seed(0)
    architecture = preset(name, **sizes)
    table, coupled = architecture.layer_table(), HiddenPermutations.of(architecture)
    rows = [
        replace(group, axes=tuple(axis for axis in group.axes if axis.side == "out"))
        for group in coupled.groups
    ]
    encoder, weights = NeuralGraph(width=8).double().eval(), random_weights(table)
    orders = coupled.random_permutations(torch.Generator().manual_seed(1), 2)
    want = embed(encoder, weights, table)
    scale = (want[0] - want[1]).norm()
    for moves, same in ((coupled, True), (HiddenPermutations(table, rows), False)):
        moved = moves.apply(weights, orders)
        assert not torch.equal(moved, weights)
        assert ((embed(encoder, moved, table) - want).norm() < 1e-9 * scale) == same


def test_small_kernel_lies_in_the_middle_of_the_largest() -> None:
    table = LayerTable.from_module(nn.Conv2d(1, 1, 2, bias=False))
    [edges] = weight_graph(table).edges
    got = edges.values(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 16).view(4, 4)
    want = torch.zeros(4, 4)
    want[1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(got, want)


def test_neural_graph_rejects_what_it_cannot_read() -> None:
    large = LayerTable.from_module(nn.Conv2d(1, 1, 9))
    with pytest.raises(ValueError, match="at most 64 values.*'weight' has 81.*max_kernel"):
        NeuralGraph()(torch.zeros(2, large.width), large)
    grouped = LayerTable.from_module(
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2))
    )
    with pytest.raises(ValueError, match="'1.weight'.*reads 2 units.*SNE or DeepSets"):
        NeuralGraph()(torch.zeros(2, grouped.width), grouped)
    with pytest.raises(ValueError, match="must be at least 1"):
        NeuralGraph(rounds=0)
