"""The permutations of the logit-invariance penalty."""

from pathlib import Path

import pytest
import torch

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.training.invariance import RandomPermutations


@pytest.fixture
def train(trained_zoo: Path) -> ZooDataset:
    rows = load_zoo(trained_zoo, split="train")
    assert isinstance(rows, ZooDataset)
    return rows


def outputs(train: ZooDataset, weights: torch.Tensor) -> torch.Tensor:
    architecture = train.header.architecture
    assert architecture is not None
    module = architecture.module(str(train.columns["activation"][0])).eval()
    images = torch.randn(5, *architecture.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        module.load_state_dict(train.layer_table.state_dict(weights))
        return module(images)


@pytest.mark.parametrize("group", ["hidden", "uncoupled"])
def test_right_permutations_alone_keep_the_function(train: ZooDataset, group: str) -> None:
    weights = train.weights([0])
    permuted = RandomPermutations([train], group, seed=0)(weights, train.layer_table)
    assert torch.equal(permuted.sort().values, weights.sort().values)
    assert not torch.equal(permuted, weights)
    kept = torch.allclose(outputs(train, permuted[0]), outputs(train, weights[0]), atol=1e-5)
    assert kept == (group == "hidden")


def test_every_model_and_step_gets_a_permutation_of_its_own(train: ZooDataset) -> None:
    permutations = RandomPermutations([train], "hidden", seed=0)
    copies = train.weights([0, 0])
    steps = [permutations(copies, train.layer_table) for _ in range(2)]
    assert len({tuple(row.tolist()) for step in steps for row in step}) == 4
