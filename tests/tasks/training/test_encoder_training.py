from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_tiny_zoo import tiny_architecture, tiny_header, tiny_rows
from torch import Tensor

from weightzoo.encoders.sne import SNE
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.scoring.metrics import accuracy, kendall_tau
from weightzoo.tasks.training import encoder_training
from weightzoo.tasks.training.encoder_making import EncoderSpec
from weightzoo.tasks.training.encoder_regressor import EncoderRegressor, train_encoder
from weightzoo.tasks.training.encoder_training import EncoderTraining
from weightzoo.tasks.training.invariance import RandomPermutations, invariance_errors
from weightzoo.tasks.training.property_predictor import PropertyPredictor
from weightzoo.tasks.training.settings import TrainingSettings
from weightzoo.zoos.errors import DivergedError, UnsuitableError
from weightzoo.zoos.format import write_zoo_file
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.layer_table import LayerTable

Change = Callable[[dict[str, np.ndarray], np.ndarray], None]
TINY = partial(SNE, width=8, heads=1, chunk_size=16, blocks=1)
LAYERED = EncoderSpec("deepsets", {"width": 16, "codes": "layer"})


def leave(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
    """Change nothing more."""


def make_zoo(
    folder: Path, architecture: Architecture | None = None, change: Change = leave
) -> dict[str, ZooDataset]:
    """100 models of random weights; the size of the first kernels sets accuracy and activation."""
    torch.manual_seed(0)  # of the tiny zoo's weights
    architecture = architecture or tiny_architecture()
    columns, weights = tiny_rows(architecture, ["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    scale = np.random.default_rng(0).uniform(0.2, 2, len(weights)).astype(np.float32)
    weights[:, :18] *= scale[:, None]
    columns["test_accuracy"][:] = 0.1 + 0.4 * scale
    columns["activation"][:] = np.where(scale > 1, "relu", "tanh")
    change(columns, weights)
    write_zoo_file(folder / "zoo.h5", tiny_header(architecture), columns, weights)
    datasets = load_zoo(folder / "zoo.h5")
    assert isinstance(datasets, dict)
    return datasets


@pytest.fixture
def zoo(tmp_path: Path) -> dict[str, ZooDataset]:
    return make_zoo(tmp_path)


@pytest.fixture
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ZooDataset]:
    """Another architecture with the same law."""
    spec = tiny_architecture().to_json()
    spec["layers"].insert(6, {"kind": "linear", "out": 7})
    return make_zoo(tmp_path_factory.mktemp("deep"), Architecture.from_json(spec))


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
    regressor = EncoderRegressor(settings=settings(epochs=16))  # elements of eight values
    regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
    predicted = regressor.predict(zoo["test"])
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
    scores, states = iter([0.1, 0.5, 0.2, 0.3, 0.9]), []

    def val_score(self: EncoderTraining) -> float:
        states.append(self.averaged.module.head[1].weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(EncoderTraining, "_val_score", val_score)
    trained = fitted(zoo, epochs=5, patience=2).trained
    assert len(states) == 4  # two epochs without a better score than the second's
    assert torch.equal(trained.module.head[1].weight, states[1])
    assert not torch.equal(states[1], states[3])
    assert trained.training["best_epoch"] == 1


def trained(
    zoo: dict[str, ZooDataset], folder: Path | None = None, **options: object
) -> PropertyPredictor:
    return train_encoder(
        TINY, zoo["train"], zoo["val"], "test_accuracy", settings(**options), 3, folder
    )


def test_encoder_tied_to_an_architecture_refuses_several_and_others(
    zoo: dict[str, ZooDataset], deep: dict[str, ZooDataset]
) -> None:
    flat, fan_in = EncoderSpec("flat-mlp", {"widths": [4]}), settings(epochs=1, scaling="fan_in")
    regressor = EncoderRegressor("flat", flat, fan_in)
    with pytest.raises(ValueError, match="tied to one architecture, the zoos have 2: .*'sne'"):
        regressor.fit([zoo["train"], deep["train"]], [zoo["val"]], "test_accuracy", 0)
    with pytest.raises(ValueError, match="cannot take zoo .* made for one architecture"):
        regressor.fit(zoo["train"], deep["val"], "test_accuracy", 0)
    dwsnet = EncoderRegressor("DWSNet", EncoderSpec("dwsnet"), settings(epochs=1))
    with pytest.raises(ValueError, match="conv|linear"):
        dwsnet.fit(zoo["train"], zoo["val"], "test_accuracy", 0)


@pytest.mark.parametrize("options", [{}, {"invariance": 0.1}, {"augment": True}])
def test_killed_training_goes_on_to_the_same_result(
    zoo: dict[str, ZooDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    whole = trained(zoo, epochs=4, **options)
    epoch, calls = EncoderTraining._epoch, []

    def killed(self: EncoderTraining, *arguments: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(epoch(self, *arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EncoderTraining, "_epoch", killed)
        trained(zoo, tmp_path / "run", epochs=4, **options)
    resumed = trained(zoo, tmp_path / "run", epochs=4, **options)
    assert [epoch["train_loss"] for epoch in resumed.training["history"]] == [
        epoch["train_loss"] for epoch in whole.training["history"]
    ]
    assert np.array_equal(resumed.predict(zoo["test"]), whole.predict(zoo["test"]))


class Dropping(torch.nn.Module):
    """An encoder of one's own with dropout before a batch norm."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.LazyLinear(8), torch.nn.Dropout(), torch.nn.BatchNorm1d(8)
        )
        self.net(torch.zeros(2, tiny_architecture().layer_table().width))
        self.head = torch.nn.Linear(8, outputs)

    def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
        return self.head(self.net(weights))


def test_batch_norms_are_measured_without_dropout(zoo: dict[str, ZooDataset]) -> None:
    training = EncoderTraining(
        Dropping, [zoo["train"]], [zoo["val"]], "test_accuracy", settings(), seed=0
    )
    means = []
    for _ in range(2):
        training.averaged.train()  # as it is made, and so after a resume
        training._refresh_batch_norms()
        means.append(training.averaged.module.net[2].running_mean.clone())
    assert torch.equal(*means) and means[0].abs().sum() > 0


def test_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    def halved(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        weights *= 0.5

    trained(make_zoo(tmp_path), tmp_path / "run", epochs=1)
    rebuilt = make_zoo(tmp_path, change=halved)  # same models, same accuracies
    with pytest.raises(ValueError, match=r"other \['zoos'\]"):
        trained(rebuilt, tmp_path / "run", epochs=1)


def test_checkpoint_of_another_version_is_refused_and_the_code_is_kept(
    zoo: dict[str, ZooDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_training, "package_version", lambda: "1.0")
    assert trained(zoo, tmp_path, epochs=1).training["code"]["weightzoo"] == "1.0"
    monkeypatch.setattr(encoder_training, "package_version", lambda: "2.0")
    with pytest.raises(ValueError, match=r"other \['weightzoo'\]"):
        trained(zoo, tmp_path, epochs=1)


def test_finished_training_is_not_repeated(
    zoo: dict[str, ZooDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(zoo, tmp_path / "run").predict(zoo["test"])
    monkeypatch.setattr(EncoderTraining, "_epoch", None)
    assert np.array_equal(trained(zoo, tmp_path / "run").predict(zoo["test"]), first)


def test_checkpoint_of_another_training_or_format_is_refused(
    zoo: dict[str, ZooDataset], tmp_path: Path
) -> None:
    trained(zoo, tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"other \['settings'\]: choose another folder"):
        trained(zoo, tmp_path, epochs=2)
    (tmp_path / "checkpoint.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not a file of torch"):
        trained(zoo, tmp_path, epochs=1)
    torch.save({"model": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="does not have format 'weightzoo-training-1'"):
        trained(zoo, tmp_path, epochs=1)


def test_categories_are_learned_and_predicted_as_text(zoo: dict[str, ZooDataset]) -> None:
    regressor = EncoderRegressor("DeepSets", LAYERED, settings(epochs=12, lr=1e-2))
    regressor.fit(zoo["train"], zoo["val"], "activation", 0)
    predicted = regressor.predict(zoo["test"])
    assert set(predicted) <= {"relu", "tanh"}
    assert accuracy(zoo["test"].columns["activation"], predicted) > 0.75


def test_numbers_can_be_categories(zoo: dict[str, ZooDataset]) -> None:
    predicted = fitted(zoo, target="epoch", loss="cross_entropy").predict(zoo["test"])
    assert predicted.dtype.kind == "i" and set(predicted.tolist()) <= {0, 1, 2}


def test_several_architectures_train_one_encoder(
    zoo: dict[str, ZooDataset], deep: dict[str, ZooDataset]
) -> None:
    both = [zoo["train"], deep["train"]], [zoo["val"], deep["val"]]
    options = settings(epochs=12, lr=1e-2, scaling="fan_in")
    regressor = EncoderRegressor("DeepSets", LAYERED, options)
    regressor.fit(*both, "test_accuracy", 0)
    for one in (zoo, deep):
        predicted = regressor.predict(one["test"])
        assert kendall_tau(one["test"].columns["test_accuracy"], predicted) > 0.5
    with pytest.raises(ValueError, match="use scaling='fan_in'"):
        EncoderRegressor(encoder=TINY, settings=settings()).fit(*both, "test_accuracy", 0)


def test_wrong_architecture_for_the_scaling_is_named(
    zoo: dict[str, ZooDataset], deep: dict[str, ZooDataset]
) -> None:
    regressor = fitted(zoo, epochs=1)
    with pytest.raises(ValueError, match="scaling='tensor'.*train with scaling='fan_in'"):
        regressor.predict(deep["test"])


def test_invariance_penalty_lowers_the_distance_between_reordered_models(
    zoo: dict[str, ZooDataset],
) -> None:
    errors = []
    for invariance in (0.0, 1000.0):
        trained = fitted(zoo, epochs=6, invariance=invariance).trained
        test = zoo["test"]
        weights = trained.scaler(test.weights(), test.layer_table)
        permutations = RandomPermutations([test], "hidden", seed=1)
        outputs_of = partial(trained.module, layer_table=test.layer_table)
        errors.append(invariance_errors(outputs_of, weights, test.layer_table, permutations, 3))
    assert errors[1][0] < 0.5 * errors[0][0]


@pytest.mark.parametrize("invariance", [0.0, 0.1])
def test_augmented_batches_hold_reordered_models(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch, invariance: float
) -> None:
    seen = list[Tensor]()
    read = EncoderTraining._permuted

    def permuted(self: EncoderTraining, weights: Tensor, table: LayerTable) -> Tensor:
        made = read(self, weights, table)
        assert made.shape[0] == len(weights) * (2 if invariance else 1)
        for copy in made.split(len(weights)):
            assert torch.equal(copy.sort().values, weights.sort().values)
        seen.append(made[: len(weights)] != weights)
        return made

    monkeypatch.setattr(EncoderTraining, "_permuted", permuted)
    fitted(zoo, epochs=2, augment=True, invariance=invariance)
    moved = torch.cat(seen).any(dim=1)
    assert len(moved) >= 2 * 60 and moved.float().mean() > 0.9


def test_models_of_unknown_architecture_are_not_reordered(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise UnsuitableError("the hidden units of zoo 'x' are unknown")

    monkeypatch.setattr(encoder_training, "RandomPermutations", unknown)
    said = "trained without reordered models: the hidden units of zoo 'x' are unknown"
    assert fitted(zoo, epochs=1, augment=True).trained.training["note"] == said
    with pytest.raises(UnsuitableError, match="are unknown: train with invariance=0"):
        fitted(zoo, epochs=1, augment=True, invariance=0.1)


def test_augmentation_changes_nothing_for_an_invariant_encoder(
    zoo: dict[str, ZooDataset],
) -> None:
    losses = []
    for augment in (False, True):
        regressor = EncoderRegressor(encoder=LAYERED, settings=settings(augment=augment))
        regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
        losses.append([epoch["train_loss"] for epoch in regressor.trained.training["history"]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("split", ["train", "val"])
def test_weights_that_are_not_finite_are_refused_before_training(
    tmp_path: Path, split: str
) -> None:
    def spoil(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        weights[np.flatnonzero(columns["split"] == split)[4], 3] = np.nan

    zoo = make_zoo(tmp_path, change=spoil)
    with pytest.raises(ValueError, match="weights of row 4 of zoo .* are not finite"):
        fitted(zoo)


def test_bad_targets_are_refused_before_training(tmp_path: Path) -> None:
    def spoil(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        columns["test_loss"][5] = np.nan

    zoo = make_zoo(tmp_path, change=spoil)
    for target, message in {
        "accuracy": "has no column 'accuracy' to predict, it has .*'test_accuracy'",
        "test_loss": "'test_loss' is not finite in 1 of 180 rows",
        "bias_init": "'bias_init' is 0.01.* in every train row",
    }.items():
        with pytest.raises(ValueError, match=message):
            fitted(zoo, target=target)
    with pytest.raises(ValueError, match="'activation' is text and needs loss 'cross_entropy'"):
        fitted(zoo, target="activation", loss="mse")


def test_targets_that_are_constant_on_val_are_refused_before_training(tmp_path: Path) -> None:
    def flatten(columns: dict[str, np.ndarray], weights: np.ndarray) -> None:
        columns["test_accuracy"][columns["split"] == "val"] = 0.25

    zoo = make_zoo(tmp_path, change=flatten)
    with pytest.raises(UnsuitableError, match=r"is 0.25 in all 60 val rows of zoo .*'mse'"):
        fitted(zoo)
    assert fitted(zoo, select="mse", epochs=1).trained.training["val_score"] <= 0


class Constant(torch.nn.Module):
    """An encoder that says the same of every model."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
        return weights[:, :1] * 0 + self.bias


def test_encoder_with_constant_predictions_keeps_the_last_epoch_and_says_so(
    zoo: dict[str, ZooDataset],
) -> None:
    given = settings(epochs=3, patience=2)
    made = train_encoder(Constant, zoo["train"], zoo["val"], "test_accuracy", given, 0)
    assert made.training["val_score"] is None and made.training["best_epoch"] == 2
    assert [epoch["val_score"] for epoch in made.training["history"]] == [None] * 3
    assert "predictions on the val split are equal in all rows" in made.training["note"]
    assert made.module.bias.abs().sum() > 0  # trained


@pytest.mark.parametrize("good_epochs", [0, 2])
def test_training_that_diverges_keeps_the_best_epoch_before(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch, good_epochs: int
) -> None:
    epoch = EncoderTraining._epoch

    def spoiled(self: EncoderTraining, *arguments: Any) -> None:
        if len(self.history) == good_epochs:
            with torch.no_grad():
                next(self.module.parameters()).fill_(torch.nan)
        epoch(self, *arguments)

    monkeypatch.setattr(EncoderTraining, "_epoch", spoiled)
    if not good_epochs:
        with pytest.raises(DivergedError, match="diverged: use a smaller lr"):
            trained(zoo, epochs=4)
        return
    made = trained(zoo, epochs=4)
    kept = made.training["best_epoch"]
    assert f"the weights of epoch {kept} are kept" in made.training["note"]
    assert len(made.training["history"]) == 2 and np.isfinite(made.predict(zoo["test"])).all()


def test_too_few_rows_are_refused_before_training(zoo: dict[str, ZooDataset]) -> None:
    said = "split 'train' has 9 rows of zoo .* with finite weights and 'test_accuracy'; at least 10"
    with pytest.raises(ValueError, match=said):
        fitted(zoo | {"train": zoo["train"].select(range(9))})


def test_encoder_that_cannot_take_an_architecture_says_why(zoo: dict[str, ZooDataset]) -> None:
    class Picky(SNE):
        def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
            raise ValueError("only linear layers")

    with pytest.raises(ValueError, match="Picky .* zoo 'tiny': only linear layers .*'sne'"):
        EncoderRegressor("picky", partial(Picky, width=8), settings()).fit(
            zoo["train"], zoo["val"], "test_accuracy", 0
        )


def test_invariance_of_an_embedding_needs_one(zoo: dict[str, ZooDataset]) -> None:
    class Predicting(torch.nn.Module):
        def __init__(self, outputs: int) -> None:
            super().__init__()
            self.head = torch.nn.Linear(71, outputs)

        def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
            return self.head(weights)

    for output, refused in (("prediction", False), ("embedding", True)):
        given = settings(epochs=1, invariance=1.0, invariance_on=output)
        expected = pytest.raises(ValueError, match="Predicting has no embedding: use invariance_on")
        with expected if refused else nullcontext():
            train_encoder(Predicting, zoo["train"], zoo["val"], "test_accuracy", given, 0)


def test_targets_outside_the_unit_interval_are_predicted_in_their_unit(
    zoo: dict[str, ZooDataset],
) -> None:
    predicted = fitted(zoo, target="epoch").predict(zoo["test"])
    assert abs(predicted.mean() - 1) < 0.5
    with pytest.raises(ValueError, match="'epoch' ranges from 0.0 to 2.0"):
        fitted(zoo, target="epoch", loss="bce")


def test_training_leaves_the_number_of_threads(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, used = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    fitted(zoo, epochs=1, threads=3)
    assert used[0] == 3 and used[-1] == before


def test_diverged_training_says_so(zoo: dict[str, ZooDataset]) -> None:
    class Broken(SNE):
        def forward(self, weights: torch.Tensor, layer_table: object) -> torch.Tensor:
            return super().forward(weights, layer_table) * float("nan")  # type: ignore[arg-type]

    regressor = EncoderRegressor("broken", partial(Broken, width=8), settings())
    with pytest.raises(RuntimeError, match="Broken diverged: use a smaller lr"):
        regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)


@pytest.mark.parametrize(
    "bad", [{"loss": "l1"}, {"epochs": 0}, {"batch_size": 1}, {"threads": 0}, {"lr": 0.0}]
)
def test_settings_reject_bad_values(bad: dict[str, object]) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {value!r}$"):
        settings(**bad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_learns_in_mixed_precision(zoo: dict[str, ZooDataset]) -> None:
    options = settings(epochs=12, lr=1e-2, device="cuda", mixed_precision=True)
    regressor = EncoderRegressor("DeepSets", LAYERED, options)
    regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
    predicted = regressor.predict(zoo["test"])
    assert kendall_tau(zoo["test"].columns["test_accuracy"], predicted) > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compiled_encoder_trains_to_about_the_same(zoo: dict[str, ZooDataset]) -> None:
    """Slow because it compiles: the same steps with and without `torch.compile`.

    It warns of torch's own calls, and of no cache: plans are made outside of what is compiled.
    """
    predicted = []
    for compiled in (False, True):
        regressor = EncoderRegressor("DeepSets", LAYERED, settings(epochs=1, compile=compiled))
        regressor.fit(zoo["train"], zoo["val"], "test_accuracy", 0)
        predicted.append(regressor.predict(zoo["test"]))
    np.testing.assert_allclose(*predicted, atol=1e-3)
