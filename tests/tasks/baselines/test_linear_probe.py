from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows
from sklearn.linear_model import Ridge

from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.baselines.linear_probe import LAMBDAS, LinearProbe, ridge
from weightzoo.tasks.baselines.regressors import needs_seeds
from weightzoo.tasks.scoring.metrics import accuracy, r2
from weightzoo.zoos.format import write_zoo_file


@pytest.fixture
def zoo(tmp_path: Path) -> dict[str, ZooDataset]:
    """A weight is the accuracy, and its sign the activation."""
    torch.manual_seed(0)
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    weights[:, 2] *= 10
    columns["test_accuracy"][:] = 0.5 + 0.1 * weights[:, 2]
    columns["activation"][:] = np.where(weights[:, 2] > 0, "relu", "tanh")
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(architecture), columns, weights)
    zoo = load_zoo(tmp_path / "zoo.h5")
    assert isinstance(zoo, dict)
    return zoo


def test_grid_is_the_papers() -> None:
    assert len(LAMBDAS) == 17 and LAMBDAS[:3] == (1e3, 3e2, 1e2)
    assert LAMBDAS[-1] == pytest.approx(1e-5) and list(LAMBDAS) == sorted(LAMBDAS, reverse=True)


@pytest.mark.parametrize("shape", [(30, 5), (5, 30)])
def test_ridge_agrees_with_sklearn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features, true = rng.standard_normal(shape), rng.standard_normal(shape[0])
    solution = ridge(features, true, 0.3)
    model = Ridge(0.3).fit(features, true)
    np.testing.assert_allclose(solution, [*model.coef_, model.intercept_], atol=1e-10)


@pytest.mark.parametrize("features", ["weights", "statistics"])
def test_probe_finds_what_is_linear_in_its_features(
    zoo: dict[str, ZooDataset], features: str
) -> None:
    probe = LinearProbe(features)
    probe.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
    score = r2(zoo["test"].columns["test_accuracy"], probe.predict(zoo["test"]))
    assert score > 0.9  # the weight is mostly the extreme one of its tensor


def test_probe_classifies(zoo: dict[str, ZooDataset]) -> None:
    def copies(rows: ZooDataset) -> np.ndarray:  # many, since the paper's steps are small
        return np.tile(10 * rows.weights().double().numpy()[:, 2:3], 400)

    probe = LinearProbe(copies, "copies")
    probe.fit(zoo["train"], zoo["val"], "activation", 0)
    assert accuracy(zoo["test"].columns["activation"], probe.predict(zoo["test"])) > 0.95


@pytest.mark.parametrize("target", ["test_accuracy", "activation"])
def test_probe_depends_on_the_seed_where_it_says_so(
    zoo: dict[str, ZooDataset], target: str
) -> None:
    predicted = []
    for seed in range(3):
        probe = LinearProbe("weights")
        probe.fit(zoo["train"], zoo["val"], target, seed)
        predicted.append(probe.predict(zoo["test"]).tolist())
    differ = predicted[0] != predicted[1] or predicted[0] != predicted[2]
    assert needs_seeds(probe, target, zoo["train"].columns[target]) == differ


def test_probe_refuses_unknown_features() -> None:
    with pytest.raises(ValueError, match="features must be one of"):
        LinearProbe("logits")
    with pytest.raises(ValueError, match="name is missing"):
        LinearProbe(lambda rows: np.zeros((1, 1)))
