"""How many models are trained in step."""

from collections.abc import Sequence

import pytest
import torch

from weightzoo.builders.training.cohort import CohortResult
from weightzoo.builders.training.cohort_size import cohort_size, model_bytes, train_within_memory
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.networks.presets import preset


@pytest.mark.parametrize(
    ("name", "batch_size", "models", "expected"),
    [("cnn-s", 10, 1000, 32), ("cnn-s", 32, 12, 8), ("resnet18", 256, 1000, 1)],
)
def test_cohort_size_on_cpu_is_smaller_for_large_nets_and_few_models(
    name: str, batch_size: int, models: int, expected: int
) -> None:
    assert cohort_size(preset(name), batch_size, models, "cpu") == expected


def test_model_bytes_counts_layers_inside_residuals() -> None:
    """ResNet-18 has 21 layers of (64, 32, 32) and half as many values in each next stage."""
    values = (model_bytes(preset("resnet18"), 1) - model_bytes(preset("resnet18"), 0)) / 12
    assert 30 * 64 * 1024 < values < 60 * 64 * 1024


def test_cohort_that_does_not_fit_is_trained_in_halves() -> None:
    tried: list[int] = []

    def train(positions: Sequence[int]) -> CohortResult:
        tried.append(len(positions))
        if len(positions) > 2:
            raise torch.OutOfMemoryError("no room")
        weights = torch.tensor(positions, dtype=torch.float32)[:, None, None]
        return CohortResult(weights, {"train_loss": weights[:, 0]})

    result = train_within_memory(train, [4, 5, 6, 7, 8])
    assert tried == [5, 2, 3, 1, 2]
    assert result.weights.flatten().tolist() == [4, 5, 6, 7, 8]
    assert result.metrics["train_loss"].flatten().tolist() == [4, 5, 6, 7, 8]


def test_one_model_that_does_not_fit_is_an_error() -> None:
    def train(positions: Sequence[int]) -> CohortResult:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(BuildError, match="batch_size"):
        train_within_memory(train, [1, 2])
