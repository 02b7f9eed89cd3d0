import json

import numpy as np
import pytest
import torch

from weightzoo.tasks.scoring.targets import TargetMapping

SHARES = np.array([0.0, 0.5, 1.0])


def test_link_takes_cross_entropy_for_accuracies_alone() -> None:
    assert TargetMapping.of("auto", "test_accuracy", SHARES).loss_name == "bce"
    assert TargetMapping.of("auto", "lr", SHARES).loss_name == "mse"
    assert TargetMapping.of("auto", "test_accuracy", SHARES * 100).loss_name == "mse"
    assert (
        TargetMapping.of("auto", "init", np.array(["a", "b"], object)).loss_name == "cross_entropy"
    )


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_link_gives_back_what_its_labels_stand_for(loss: str) -> None:
    mapping = TargetMapping.of(loss, "loss", SHARES * 100)
    labels = mapping.labels(SHARES * 100)
    outputs = torch.eye(3)[labels] if loss == "cross_entropy" else labels[:, None]
    np.testing.assert_allclose(mapping.predicted(outputs), SHARES * 100, atol=1e-5)


@pytest.mark.parametrize("loss", ["bce", "mse", "cross_entropy"])
def test_link_survives_json(loss: str) -> None:
    mapping = TargetMapping.of(loss, "share", SHARES)
    assert TargetMapping.from_json(json.loads(json.dumps(mapping.to_json()))) == mapping


def test_link_refuses_too_many_categories_and_constants() -> None:
    with pytest.raises(ValueError, match="100 different values.*needs 2 to 64"):
        TargetMapping.of("cross_entropy", "seed", np.arange(100))
    with pytest.raises(ValueError, match="1 different values"):
        TargetMapping.of("auto", "init", np.array(["a", "a"], object))
    with pytest.raises(ValueError, match="'lr' is 0.5 in every train row"):
        TargetMapping.of("auto", "lr", np.full(3, 0.5))


@pytest.mark.parametrize(
    ("loss", "target", "true"),
    [
        ("auto", "test_accuracy", np.array([0.1, 0.7, 0.4], np.float32)),
        ("mse", "lr", np.array([0.1, 0.7, 0.4])),
        ("auto", "dropout", np.array([0.1, 0.0, 0.1], np.float32)),
        ("auto", "label", np.array([7, 2, 2])),
    ],
)
def test_labels_on_a_device_are_those_of_the_cpu(loss: str, target: str, true: np.ndarray) -> None:
    mapping = TargetMapping.of(loss, target, true)
    found, expected = mapping.device_labels(torch.from_numpy(true)), mapping.labels(true)
    assert torch.equal(found, expected) and found.dtype == expected.dtype
