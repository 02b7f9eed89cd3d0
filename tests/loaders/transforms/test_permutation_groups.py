"""Permutation groups of residual, normalised and attentive networks, proven by their logits.

Each architecture both ways: coupled permutations of every group leave the logits as they are,
and leaving out any one axis of a group changes them.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from weightzoo.loaders import align
from weightzoo.loaders.transforms.permutation_groups import Axis, PermutationGroup, hidden_groups
from weightzoo.loaders.transforms.permutations import HiddenPermutations, inverse_permutations
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.presets import preset

MLP = {"kind": "linear", "out": 6}
NORMED = [
    {"kind": "conv", "out": 4, "kernel": 3},
    {"kind": "residual", "body": [{"kind": "conv", "out": 4, "kernel": 3, "padding": 1}]},
    {"kind": "activation"},
    {"kind": "flatten"},
    {"kind": "layer_norm"},
    MLP,
    {"kind": "residual", "body": [{"kind": "activation"}, MLP], "shortcut": [MLP]},
    {"kind": "linear", "out": 3},
]
ROWS = [
    {"kind": "conv", "out": 4, "kernel": 3},
    {"kind": "activation"},
    {"kind": "layer_norm"},  # over the 4 columns of the image, which are no units
    {"kind": "flatten"},
    {"kind": "linear", "out": 3},
]
ARCHITECTURES = {
    "resnet18": preset("resnet18", width=3, side=8, classes=4),
    "vit": preset("vit", side=8, patch=4, width=8, blocks=2, heads=2, classes=4),
    "transformer": preset("transformer", tokens=5, vocabulary=7, width=8, blocks=1, heads=2),
    "small-cnn": preset("small-cnn", width=5),
    "inr": preset("inr", width=6),
    "normed": Architecture.from_json(
        {"name": "normed", "input_shape": [2, 5, 5], "layers": NORMED},
    ),
}
UNSEEN = "key.bias"  # adds the same to all scores of a query, which softmax takes away


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_weights(architecture: Architecture, models: int) -> Tensor:
    """(models, D); variances of batch norms above zero."""
    table = TABLES[architecture]
    weights = 0.3 * torch.randn(models, table.width, generator=generator(0), dtype=torch.float64)
    for name, values in table.split(weights).items():
        if name.endswith("running_var"):
            values.abs_().add_(0.5)
    return weights


NORMED_ROWS = Architecture.from_json({"name": "rows", "input_shape": [2, 6, 6], "layers": ROWS})
TABLES = {one: one.layer_table() for one in (*ARCHITECTURES.values(), NORMED_ROWS)}
MODULES = {one: one.module("gelu").eval().double().requires_grad_(False) for one in TABLES}


def logits(architecture: Architecture, weights: Tensor) -> Tensor:
    """(models, images, classes), in float64."""
    shape = (2, *architecture.input_shape)
    images = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    if architecture.name == "transformer":
        images = torch.randint(7, shape, generator=generator(1))
    table, module = TABLES[architecture], MODULES[architecture]
    return torch.stack([functional_call(module, table.split(row), (images,)) for row in weights])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_coupled_permutations_leave_the_logits(name: str) -> None:
    architecture = ARCHITECTURES[name]
    permutations = HiddenPermutations.of(architecture)
    weights = random_weights(architecture, 3)
    before = logits(architecture, weights)
    orders = permutations.random_permutations(generator(2), 3)
    permuted = permutations.apply(weights, orders)
    assert ((permuted != weights).double().mean(1) > 0.5).all()
    torch.testing.assert_close(logits(architecture, permuted), before, rtol=0, atol=1e-10)
    back = permutations.apply(permuted, inverse_permutations(orders))
    assert torch.equal(back, weights)


def test_channels_move_through_a_norm_of_their_columns() -> None:
    weights = random_weights(NORMED_ROWS, 1)
    permutations = HiddenPermutations.of(NORMED_ROWS)
    permuted = permutations.apply(weights, [torch.tensor([[1, 2, 3, 0]])])
    before, after = (logits(NORMED_ROWS, each) for each in (weights, permuted))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_group_without_one_of_its_axes_changes_the_logits(name: str) -> None:
    architecture = ARCHITECTURES[name]
    weights = random_weights(architecture, 1)
    before = logits(architecture, weights)
    for group in hidden_groups(architecture):
        step = torch.arange(group.units).unflatten(0, (group.heads, -1)).roll(1, 1)
        for axis in group.axes:
            rest = replace(group, axes=tuple(one for one in group.axes if one != axis))
            lame = HiddenPermutations(TABLES[architecture], [rest])
            after = logits(architecture, lame.apply(weights, [step.flatten()[None]]))
            changed = (after - before).abs().max() > 1e-10  # rounding makes 1e-15
            assert changed != axis.tensor.endswith(UNSEEN), axis


def test_heads_move_whole_and_in_step() -> None:
    architecture = ARCHITECTURES["vit"]
    permutations = HiddenPermutations.of(architecture)
    orders = permutations.random_permutations(generator(3), 200)
    heads = [
        orders[group].unflatten(1, (2, 4)) // 4
        for group in range(len(orders))
        if permutations.groups[group].heads == 2
    ]
    assert len(heads) == 4  # two of each block
    assert all(torch.equal(h, h[..., :1].expand_as(h)) for h in heads)
    assert torch.equal(heads[0], heads[1]) and torch.equal(heads[2], heads[3])
    assert not torch.equal(heads[0], heads[2])
    assert 60 < heads[0][:, 0, 0].sum() < 140


def test_heads_moved_apart_change_the_logits() -> None:
    architecture = ARCHITECTURES["vit"]
    permutations = HiddenPermutations.of(architecture)
    weights, orders = random_weights(architecture, 1), permutations.identity(1)
    compared, averaged = permutations.families[1]
    before, swapped = logits(architecture, weights), orders[compared].roll(4, 1)
    orders[compared] = swapped
    apart = logits(architecture, permutations.apply(weights, orders))
    assert (apart - before).abs().max() > 1e-6
    orders[averaged] = swapped
    together = logits(architecture, permutations.apply(weights, orders))
    torch.testing.assert_close(together, before, rtol=0, atol=1e-10)


def test_residual_sums_are_one_group_and_buffers_follow() -> None:
    groups = {group.layer: group for group in hidden_groups(ARCHITECTURES["resnet18"])}
    stem, last = groups["conv1"], groups["residual8.body.conv1"]
    assert Axis("residual2.body.conv2.weight", "out") in stem.axes
    assert Axis("residual2.body.batch_norm2.running_var", "out") in stem.axes
    assert Axis("residual3.shortcut.conv1.weight", "in") in stem.axes
    assert Axis("linear1.weight", "in") in groups["residual7.shortcut.conv1"].axes
    assert (last.units, len(last.axes)) == (24, 6)
    assert len(groups) == 4 + 8  # a stream per stage, the inner channels of each block


@pytest.mark.parametrize(
    "layers",
    [
        [{"kind": "residual", "body": [{"kind": "linear", "out": 4}]}],
        [{"kind": "linear", "out": 5}],
    ],
)
def test_units_of_input_and_output_stay(layers: list[dict]) -> None:
    spec = {"name": "n", "input_shape": [4], "layers": layers}
    assert hidden_groups(Architecture.from_json(spec)) == ()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_align_undoes_permutations(name: str) -> None:
    architecture = ARCHITECTURES[name]
    permutations = HiddenPermutations.of(architecture)
    reference = random_weights(architecture, 1)
    drawn = permutations.random_permutations(generator(4), 4)
    copies = permutations.apply(reference.expand(4, -1), drawn)
    aligned, orders = align(copies, reference[0], permutations)
    assert torch.equal(aligned, permutations.apply(copies, orders))
    far, near = ((each - reference).norm(dim=1) for each in (copies, aligned))
    assert (near <= far).all() and (near < 1e-9).any()
    before = logits(architecture, reference)
    torch.testing.assert_close(
        logits(architecture, aligned), before.expand(4, *before.shape[1:]), rtol=0, atol=1e-10
    )


def test_groups_of_one_attention_must_agree_in_heads() -> None:
    table = TABLES[ARCHITECTURES["vit"]]
    one, other = (PermutationGroup("a", 8, (), heads) for heads in (2, 4))
    with pytest.raises(ValueError, match="groups of 'a' differ in their heads"):
        HiddenPermutations(table, [one, other])
    with pytest.raises(ValueError, match="3 heads do not divide the 8 units"):
        HiddenPermutations(table, [PermutationGroup("a", 8, (), 3)])
