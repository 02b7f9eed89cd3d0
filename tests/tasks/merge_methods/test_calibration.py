"""RegMean++ and REPAIR on small networks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weightzoo.tasks.merge_methods.calibration import input_grams, regmean_plus, repair
from weightzoo.tasks.merge_methods.matrix_methods import regmean_merge
from weightzoo.zoos.errors import MergeError
from weightzoo.zoos.images.image_set import Images


def network(seed: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 16, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    ).eval()


def images(seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(80, 1, 6, 6, generator=generator) + seed
    return Images(pixels, torch.zeros(80, dtype=torch.int64))


def mean_network(*members: nn.Module) -> nn.Module:
    merged, states = network(0), [member.state_dict() for member in members]
    merged.load_state_dict(
        {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    )
    return merged


def hidden_units(module: nn.Sequential, pixels: Tensor) -> list[Tensor]:
    """(units, values) of both hidden layers before the ReLU."""
    with torch.no_grad():
        first = module[0](pixels)
        second = module[3](first.relu().flatten(1))
    return [first.transpose(0, 1).flatten(1), second.T]


def test_regmean_plus_leaves_identical_members_as_they_are() -> None:
    state = regmean_plus([network(1), network(1)], [images(0), images(1)])
    for name, value in network(1).state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-4), name


def test_regmean_plus_measures_inputs_behind_the_merged_layers() -> None:
    members, data = [network(1), network(2)], [images(0), images(1)]
    state = regmean_plus(members, data)
    grams = [input_grams(one, own) for one, own in zip(members, data, strict=True)]
    first = torch.stack([one["0.weight"] for one in grams]).double()
    kernels = torch.stack([one[0].weight.detach().flatten(1) for one in members]).double()
    assert torch.allclose(state["0.weight"].flatten(1).double(), regmean_merge(kernels, first))
    behind = []
    for own in data:
        hidden = F.conv2d(own.pixels, state["0.weight"], state["0.bias"]).relu().flatten(1)
        behind.append((hidden.T @ hidden).double())
    weights = torch.stack([one[3].weight.detach() for one in members]).double()
    wanted = regmean_merge(weights, torch.stack(behind))
    assert torch.allclose(state["3.weight"].double(), wanted, atol=1e-4)
    plain = regmean_merge(weights, torch.stack([one["3.weight"] for one in grams]).double())
    assert not torch.allclose(state["3.weight"].double(), plain, atol=1e-2)


def test_regmean_plus_of_members_with_the_same_images_is_their_mean() -> None:
    members = [network(1), network(2)]
    state = regmean_plus(members, [images(0), images(0)])
    for name, value in mean_network(*members).state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-3), name


def test_repair_gives_hidden_units_the_statistics_of_the_members() -> None:
    members, data = [network(1), network(2)], images(0)
    merged = mean_network(*members)
    before = hidden_units(merged, data.pixels)
    merged.load_state_dict(repair(merged, members, data))
    after, wanted = (
        hidden_units(merged, data.pixels),
        [hidden_units(m, data.pixels) for m in members],
    )
    for layer in range(2):
        mean = torch.stack([one[layer].mean(1) for one in wanted]).mean(0)
        deviation = torch.stack([one[layer].std(1) for one in wanted]).mean(0)
        assert torch.allclose(after[layer].mean(1), mean, atol=1e-4)
        assert torch.allclose(after[layer].std(1), deviation, rtol=1e-3)
        assert not torch.allclose(before[layer].std(1), deviation, rtol=1e-2)


def test_repair_changes_nothing_where_the_merge_is_each_member() -> None:
    state = repair(network(1), [network(1), network(1)], images(0))
    for name, value in network(1).state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-5), name


def test_repair_refuses_layers_without_bias() -> None:
    module = network(1, bias=False)
    with pytest.raises(MergeError, match="layer '0' has none"):
        repair(module, [module], images(0))
