from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows

from weightzoo.encoders.sne import SNE
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.encoder_training import (
    EncoderRegressor,
    Link,
    TrainingSettings,
    WeightScaler,
)
from weightzoo.tasks.metrics import kendall_tau
from weightzoo.zoos.format import write_zoo_file

TINY = partial(SNE, width=8, heads=1, chunk_size=16, blocks=1)


@pytest.fixture
def zoo(tmp_path: Path) -> dict[str, ZooDataset]:
    """100 models of random weights; accuracy is set by the size of the first kernels."""
    torch.manual_seed(0)  # of the tiny zoo's weights
    architecture = tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    scale = np.random.default_rng(0).uniform(0.2, 2, len(weights)).astype(np.float32)
    weights[:, :18] *= scale[:, None]
    columns["test_accuracy"][:] = 0.1 + 0.4 * scale
    write_zoo_file(tmp_path / "zoo.h5", tiny_header(architecture), columns, weights)
    datasets = load_zoo(tmp_path / "zoo.h5")
    assert isinstance(datasets, dict)
    return datasets


def settings(**options: object) -> TrainingSettings:
    quick = {"epochs": 2, "batch_size": 16, "progress": False, **options}
    return TrainingSettings(**quick)  # type: ignore[arg-type]


def fitted(
    zoo: dict[str, ZooDataset], seed: int = 0, target: str = "test_accuracy", **options: object
) -> EncoderRegressor:
    regressor = EncoderRegressor(encoder=TINY, settings=settings(**options))
    regressor.fit(zoo["train"], zoo["val"], target, seed)
    return regressor


def test_sne_learns_a_property_of_the_weights(zoo: dict[str, ZooDataset]) -> None:
    predicted = fitted(zoo, epochs=12).predict(zoo["test"])
    assert kendall_tau(zoo["test"].columns["test_accuracy"], predicted) > 0.6
    assert predicted.min() >= 0 and predicted.max() <= 1


def test_equal_seeds_give_equal_predictions_and_leave_the_global_generator(
    zoo: dict[str, ZooDataset],
) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = fitted(zoo, seed=1).predict(zoo["test"])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(fitted(zoo, seed=1).predict(zoo["test"]), first)
    assert not np.allclose(fitted(zoo, seed=2).predict(zoo["test"]), first)


def test_best_epoch_on_val_is_kept_and_patience_ends_training(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    taus, states = iter([0.1, 0.5, 0.2, 0.3, 0.9]), []

    def val_tau(self: EncoderRegressor, *_: object) -> float:
        states.append(self._module.module.head[1].weight.detach().clone())
        return next(taus)

    monkeypatch.setattr(EncoderRegressor, "_val_tau", val_tau)
    regressor = fitted(zoo, epochs=5, patience=2)
    assert len(states) == 4  # two epochs without a better tau than the second's
    assert torch.equal(regressor._module.module.head[1].weight, states[1])
    assert not torch.equal(states[1], states[3])


def test_targets_outside_the_unit_interval_are_predicted_in_their_unit(
    zoo: dict[str, ZooDataset],
) -> None:
    predicted = fitted(zoo, target="epoch").predict(zoo["test"])
    assert abs(predicted.mean() - 1) < 0.5
    with pytest.raises(ValueError, match="'epoch' goes from 0.0 to 2.0"):
        fitted(zoo, target="epoch", loss="bce")


def test_training_leaves_the_number_of_threads(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, used = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    fitted(zoo, epochs=1, threads=3)
    assert used[0] == 3 and used[-1] == before


def test_link_takes_cross_entropy_for_accuracies_alone() -> None:
    shares = np.array([0.0, 0.5, 1.0])
    assert Link.of("auto", "test_accuracy", shares).loss_name == "bce"
    assert Link.of("auto", "lr", shares).loss_name == "mse"
    assert Link.of("auto", "test_accuracy", shares * 100).loss_name == "mse"
    link = Link.of("mse", "loss", shares * 100)
    torch.testing.assert_close(
        link.predicted(link.labels(shares * 100)), torch.tensor([0.0, 50, 100])
    )


def test_scaler_brings_every_tensor_to_a_usual_size_of_one(zoo: dict[str, ZooDataset]) -> None:
    train = zoo["train"]
    scaled = WeightScaler(train)(train.weights()).sinh() / 2
    for spec in train.layer_table:
        values = scaled[:, spec.offset : spec.offset + spec.size]
        assert values.square().mean(dim=1).sqrt().log().mean().abs() < 1e-4


def test_scaler_leaves_a_tensor_of_zeros_alone(zoo: dict[str, ZooDataset]) -> None:
    class Zeros:
        layer_table = zoo["train"].layer_table

        def __len__(self) -> int:
            return 4

        def weights(self, rows: object) -> torch.Tensor:
            return torch.zeros(4, self.layer_table.width)

    scaled = WeightScaler(Zeros())(torch.ones(1, Zeros.layer_table.width))  # type: ignore[arg-type]
    assert torch.equal(scaled, torch.full_like(scaled, 2.0).asinh())


def test_diverged_training_says_so(zoo: dict[str, ZooDataset]) -> None:
    class Broken(SNE):
        def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
            return super().forward(weights, layer_table) * float("nan")  # type: ignore[arg-type]

    regressor = EncoderRegressor("broken", partial(Broken, width=8), settings())
    with pytest.raises(RuntimeError, match="'broken' diverged: use a smaller lr"):
        regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)


@pytest.mark.parametrize(
    "bad", [{"loss": "l1"}, {"epochs": 0}, {"batch_size": 1}, {"threads": 0}, {"lr": 0.0}]
)
def test_settings_reject_bad_values(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="loss must be|at least 1"):
        settings(**bad)
