"""Mixtures of a zoo's networks: gates that can be right are right, and the rows bound them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from weightzoo.loaders import load_zoo
from weightzoo.tasks.generation.generated_zoo import zoo_images
from weightzoo.tasks.merging.mixture import (
    Experts,
    best_experts,
    fitted_gates,
    mixture_accuracies,
    penultimate_features,
    prototype_gate,
    random_gate,
    trained_gate,
)
from weightzoo.tasks.merging.zoo_rows import last_checkpoints


def features(separation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of images that belong to three experts."""
    generator = torch.Generator().manual_seed(0)
    belongs = torch.arange(300) % 3
    centres = separation * torch.eye(3, 8)
    return centres[belongs] + torch.randn(300, 8, generator=generator) + 5, belongs


@pytest.mark.parametrize("make", [prototype_gate, trained_gate])
def test_gates_from_data_find_the_expert(make: object) -> None:
    inputs, belongs = features(separation=6)
    gate = make(inputs[:150], belongs[:150], 3)  # type: ignore[operator]
    assert (gate.choose(inputs[150:]) == belongs[150:]).double().mean() > 0.95


def test_gates_find_nothing_where_there_is_nothing() -> None:
    inputs, belongs = features(separation=0)
    for gate in (
        prototype_gate(inputs[:150], belongs[:150], 3),
        trained_gate(inputs[:150], belongs[:150], 3),
        random_gate(8, 3, seed=1),
    ):
        right = (gate.choose(inputs[150:]) == belongs[150:]).double().mean()
        assert float(right) == pytest.approx(1 / 3, abs=0.15)


def test_expert_that_an_image_belongs_to_has_the_lowest_loss() -> None:
    probabilities = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.2, 0.8]]])
    assert best_experts(probabilities.log(), torch.tensor([0, 1])).tolist() == [0, 1]


def test_penultimate_features_enter_the_last_linear_layer() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    pixels = torch.randn(5, 1, 2, 2)
    assert torch.equal(penultimate_features(network, pixels), network[:3](pixels))


def test_rows_of_a_mixture_are_bounded_by_experts_and_oracle(trained_zoo: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train")).select([0, 1, 2])
    activations = tuple(zoo.columns["activation"].tolist())
    assert zoo.header.architecture is not None
    experts = Experts(zoo.header.architecture, zoo.weights(), activations)
    images = zoo_images(zoo)
    rows = mixture_accuracies(experts, fitted_gates(experts, images.val), images.test)
    singles = [rows[f"expert {index}"] for index in range(3)]
    assert singles == pytest.approx(zoo.columns["test_accuracy"].tolist(), abs=1e-6)
    assert all(value <= rows["oracle"] for value in rows.values())
    scores = experts.log_probabilities(images.test)
    all_right = (scores.argmax(2) == images.test.labels).all(0).double().mean()
    for name in ("prototype gate", "trained gate", "random gate", "most confident expert"):
        assert rows[name] >= float(all_right) > 0


def test_mixture_of_one_network_with_itself_is_that_network(trained_zoo: Path) -> None:
    zoo = last_checkpoints(load_zoo(trained_zoo, split="train")).select([1])
    assert zoo.header.architecture is not None
    name = zoo.columns["activation"][0]
    experts = Experts(zoo.header.architecture, zoo.weights().repeat(2, 1), (name, name))
    images = zoo_images(zoo)
    rows = mixture_accuracies(experts, fitted_gates(experts, images.val), images.test)
    assert len(set(rows.values())) == 1
