from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from weightzoo.encoders.sne import SNE, ChunkPlan, Groups, chunk_plan
from weightzoo.zoos.layer_table import LayerTable
from weightzoo.zoos.recipe import load_recipe

CPU = torch.device("cpu")
RECIPES = ("digits-cnn", "digits-mlp")


def small_table() -> LayerTable:
    """Conv kernels larger and smaller than a chunk of 8, ragged ends, a norm with buffers."""
    return LayerTable.from_module(
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 2), nn.Flatten(), nn.Linear(5, 4)
        )
    )


def random_weights(table: LayerTable, models: int = 2) -> Tensor:
    return torch.randn(models, table.width, generator=torch.Generator().manual_seed(0))


def make_sne(seed: int = 0, **options: object) -> SNE:
    torch.manual_seed(seed)
    settings: dict[str, object] = {"width": 8, "heads": 2, "chunk_size": 8, **options}
    return SNE(**settings).double()  # type: ignore[arg-type]


def embed(sne: SNE, weights: Tensor, table: LayerTable) -> Tensor:
    with torch.no_grad():
        return sne.embed(weights.double(), table)


def pad_plan(plan: ChunkPlan, chunk_places: int, tensor_places: int) -> ChunkPlan:
    """The same plan with longer chunks and room for more chunks per tensor."""
    mask = torch.nn.functional.pad(plan.mask, (0, chunk_places))
    tensors = torch.nn.functional.pad(plan.tensors.mask, (0, tensor_places))
    slots = tensors.flatten().nonzero()[:, 0]
    return replace(plan, mask=mask, tensors=Groups(mask=tensors, slots=slots))


def encode(sne: SNE, chunks: Tensor, plan: ChunkPlan) -> Tensor:
    with torch.no_grad():
        return sne.network(sne.layers(sne.tensors(sne.chunks(chunks, plan), plan), plan), plan)


def shuffle(weights: Tensor, table: LayerTable, name: str, order: Tensor) -> Tensor:
    """Reorder the rows (R, rest) of one tensor, R the length of `order`."""
    [spec] = [spec for spec in table if spec.name == name]
    changed = weights.clone()
    part = changed[:, spec.offset : spec.offset + spec.size].unflatten(1, (len(order), -1))
    changed[:, spec.offset : spec.offset + spec.size] = part[:, order].flatten(1)
    return changed


def test_plan_chunks_hold_every_parameter_once_and_zeros() -> None:
    table = small_table()
    plan = chunk_plan(table, 8, CPU)
    weights = random_weights(table)
    chunks = plan.chunks(weights)
    specs = [spec for spec in table if spec.role != "buffer"]
    want = torch.cat([weights[:, s.offset : s.offset + s.size] for s in specs], dim=1)
    assert torch.equal(chunks[:, plan.mask], want)
    assert not chunks[:, ~plan.mask].any()


def test_plan_cuts_convolutions_into_whole_kernels() -> None:
    table = small_table()
    lengths = {cut.offset: (cut.length, cut.chunks) for cut in chunk_plan(table, 8, CPU).cuts}
    got = {spec.name: lengths[spec.offset] for spec in table if spec.offset in lengths}
    assert got["0.weight"] == (9, 6)  # one 3x3 kernel is more than a chunk
    assert got["2.weight"] == (8, 5)  # two 2x2 kernels fit, nine kernels are there
    assert got["4.weight"] == (8, 3) and got["4.bias"] == (8, 1)
    assert "1.running_mean" not in got and got["1.weight"] == (8, 1)


def test_one_instance_encodes_every_architecture() -> None:
    sne = SNE(width=8, heads=2, outputs=3)
    tables = [load_recipe(name).architecture.layer_table() for name in RECIPES]
    for table in [*tables, small_table()]:
        weights = random_weights(table)
        assert sne(weights, table).shape == (2, 3)
        assert sne.embed(weights, table).shape == (2, 8)


def test_sne_has_the_parameters_of_the_paper() -> None:
    sne = SNE(width=32)
    encoder = sum(p.numel() for name, p in sne.named_parameters() if not name.startswith("head"))
    # Five stacks of two set attention blocks and four poolings: per block four linear layers and
    # two layer norms; the first block reads scalars; a pooling adds its seed and rFF(X).
    linear, norms = 32 * 32 + 32, 4 * 32
    block = 4 * linear + norms
    assert encoder == 9 * block + (3 * 64 + linear + norms) + 4 * (block + 32 + linear)


@pytest.mark.parametrize("positions", ["element", "layer"])
def test_padding_never_changes_an_output(positions: str) -> None:
    table, sne = small_table(), make_sne(positions=positions)
    plan = chunk_plan(table, 8, CPU)
    weights = random_weights(table).double()
    longer = pad_plan(plan, chunk_places=5, tensor_places=3)
    chunks = longer.chunks(weights)
    want = embed(sne, weights, table)
    torch.testing.assert_close(encode(sne, chunks, longer), want)
    filled = chunks.masked_fill(~longer.mask, 1e3)
    torch.testing.assert_close(encode(sne, filled, longer), want)
    unmasked = replace(longer, mask=torch.ones_like(longer.mask))
    assert not torch.allclose(encode(sne, filled, unmasked), want, atol=1e-8)


def test_models_of_a_batch_do_not_see_each_other() -> None:
    table, sne = small_table(), make_sne()
    weights = random_weights(table, 3)
    together = embed(sne, weights, table)
    torch.testing.assert_close(embed(sne, weights[1:2], table), together[1:2])


@pytest.mark.parametrize("positions", ["element", "layer"])
def test_order_of_chunks_shows_only_with_element_positions(positions: str) -> None:
    table = LayerTable.from_module(nn.Linear(8, 4))  # one chunk of 8 per neuron
    sne, weights = make_sne(positions=positions), random_weights(table)
    chunks = shuffle(weights, table, "weight", torch.tensor([2, 0, 3, 1]))
    values = shuffle(weights, table, "weight", torch.tensor([1, 0, *range(2, 32)]))
    same = [
        torch.allclose(embed(sne, other, table), embed(sne, weights, table), atol=1e-9)
        for other in (chunks, values)
    ]
    assert same == [positions == "layer"] * 2


def test_values_moved_between_layers_show_with_layer_positions() -> None:
    table = LayerTable.from_module(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    sne, weights = make_sne(positions="layer"), random_weights(table)
    swapped = weights.roll(table.width // 2, dims=1)  # the two layers change places
    assert not torch.allclose(embed(sne, swapped, table), embed(sne, weights, table), atol=1e-8)


def test_sne_tells_weight_from_bias() -> None:
    table = LayerTable.from_module(nn.Linear(1, 4))
    sne, weights = make_sne(), random_weights(table)
    swapped = weights.roll(4, dims=1)
    assert not torch.allclose(embed(sne, swapped, table), embed(sne, weights, table), atol=1e-8)


def test_sne_ignores_buffers() -> None:
    table, sne = small_table(), make_sne()
    weights = random_weights(table)
    changed = weights.clone()
    [spec] = [spec for spec in table if spec.name == "1.running_mean"]
    changed[:, spec.offset : spec.offset + spec.size] = 9.0
    assert torch.equal(embed(sne, changed, table), embed(sne, weights, table))


def test_gradient_reaches_every_parameter_and_the_weights() -> None:
    table, sne = small_table(), make_sne()
    weights = random_weights(table).double().requires_grad_()
    sne(weights, table).square().sum().backward()
    for name, parameter in sne.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert weights.grad is not None
    for spec in table:
        reached = weights.grad[:, spec.offset : spec.offset + spec.size].abs().sum() > 0
        assert reached == (spec.role != "buffer"), spec.name


def test_sne_is_the_same_for_equal_seeds() -> None:
    table = small_table()
    weights = random_weights(table)
    first, again, other = (embed(make_sne(seed), weights, table) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_sne_trains_after_it_encoded_in_inference_mode() -> None:
    table, sne = LayerTable.from_module(nn.Linear(3, 7)), SNE(width=8)
    weights = random_weights(table)
    with torch.inference_mode():
        sne(weights, table)
    sne(weights, table).sum().backward()
    assert sne.head[1].weight.grad is not None


def test_sne_learns_the_mean_of_a_tensor() -> None:
    table = LayerTable.from_module(nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(192, table.width, generator=generator)
    weights[:, :18] += torch.randn(192, 1, generator=generator)
    target = weights[:, :18].mean(dim=1)
    torch.manual_seed(0)
    sne = SNE(width=16, heads=2, chunk_size=8, blocks=1)
    optimizer = torch.optim.Adam(sne.parameters(), lr=3e-3)
    for step in range(120):
        rows = torch.arange(step * 32, (step + 1) * 32) % 128
        loss = (sne(weights[rows], table)[:, 0] - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (sne(weights[128:], table)[:, 0] - target[128:]).square().mean()
    assert error < 0.2 * target[128:].var()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "none"}, "positions must be one of"),
        ({"width": 6, "heads": 4}, "heads must divide width"),
        ({"chunk_size": 0}, "at least 1"),
    ],
)
def test_sne_rejects_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sne(**options)


def test_sne_rejects_weights_of_another_table_and_buffers_alone() -> None:
    table = small_table()
    with pytest.raises(ValueError, match="of the layer table"):
        SNE(width=8)(torch.zeros(2, table.width + 1), table)
    [buffer] = LayerTable.from_module(nn.BatchNorm1d(2, affine=False)).tensors[:1]
    with pytest.raises(ValueError, match="no parameter"):
        SNE(width=8)(torch.zeros(2, 2), LayerTable((buffer,)))
