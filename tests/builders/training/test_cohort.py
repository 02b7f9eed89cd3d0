"""Population training against one model at a time, and its bookkeeping."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weightzoo.builders.population.population import Population
from weightzoo.builders.training import cohort as training
from weightzoo.builders.training.cohort import DataOrder, cut_cohorts, train_cohort
from weightzoo.builders.training.objectives import evaluate
from weightzoo.builders.training.one_by_one import train_one
from weightzoo.zoos.images.catalog import Images, ImageSet, load_images
from weightzoo.zoos.recipe import HyperParameters, Model, Recipe, load_recipe


@pytest.fixture(scope="module")
def few_digits() -> ImageSet:
    digits = load_images("digits")
    parts = [Images(part.pixels[:70], part.labels[:70]) for part in (digits.train, digits.val)]
    return ImageSet("digits", 10, "cut", parts[0], parts[1], parts[1])


def _recipe(name: str = "digits-cnn") -> Recipe:
    return replace(load_recipe(name), epochs=2, checkpoints=(0, 1, 2))


def _model(index: int, **values: object) -> Model:
    hyper_parameters = HyperParameters(**{"lr": 0.01, "batch_size": 16} | values)  # type: ignore[arg-type]
    return Model(model_id=index, seed=100 + index, split="train", hyper_parameters=hyper_parameters)


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_train_cohort_equals_one_by_one(
    name: str, optimizer: str, activation: str, few_digits: ImageSet
) -> None:
    recipe = _recipe(name)
    models = [
        _model(i, optimizer=optimizer, activation=activation, weight_decay=decay, lr=lr)
        for i, (decay, lr) in enumerate([(0.0, 1e-2), (1e-2, 1e-3), (1e-3, 3e-3)])
    ]
    result = train_cohort(recipe, models, few_digits)
    table = recipe.architecture.layer_table()
    for weights, model in zip(result.weights[:, -1], models, strict=True):
        module, _ = train_one(recipe, model, few_digits)
        want = table.flatten(module.state_dict())
        torch.testing.assert_close(weights, want, atol=2e-4, rtol=2e-3)


def test_train_cohort_of_mixed_optimizers_equals_separate_ones(few_digits: ImageSet) -> None:
    models = [_model(0, optimizer="adam"), _model(1, optimizer="sgd", activation="tanh")]
    together = train_cohort(_recipe(), models, few_digits).weights
    alone = [train_cohort(_recipe(), [model], few_digits).weights[0] for model in models]
    assert torch.equal(together, torch.stack(alone))


def test_train_cohort_records_the_initial_state_and_metrics(few_digits: ImageSet) -> None:
    result = train_cohort(_recipe(), [_model(0), _model(1)], few_digits)
    assert result.weights.shape == (2, 3, 2464)
    assert result.metrics["train_loss"].shape == (2, 3)
    assert (result.metrics["train_loss"][:, 2] < result.metrics["train_loss"][:, 0]).all()
    assert torch.equal(result.metrics["val_accuracy"], result.metrics["test_accuracy"])


def test_train_cohort_keeps_large_checkpoints_in_a_file(
    few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = [_model(0), _model(1)]
    in_memory = train_cohort(_recipe(), models, few_digits).weights
    monkeypatch.setattr(training, "LARGEST_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert torch.equal(train_cohort(_recipe(), models, few_digits).weights, in_memory)
    assert not list(tmp_path.iterdir())


def test_train_cohort_keeps_a_diverging_model(few_digits: ImageSet) -> None:
    models = [_model(0, optimizer="sgd", lr=1e9), _model(1, optimizer="sgd", lr=1e-3)]
    result = train_cohort(_recipe(), models, few_digits)
    assert result.metrics["test_accuracy"][0, -1].isnan()
    assert result.weights[1].isfinite().all()


def test_train_cohort_evaluates_train_metrics_on_the_models_own_images(
    few_digits: ImageSet,
) -> None:
    recipe, model = _recipe(), _model(0, train_fraction=0.5)
    result = train_cohort(recipe, [model], few_digits)
    order = DataOrder([model.seed], len(few_digits.train), 35)
    population = Population(recipe.architecture, result.weights[:, -1].clone(), ["relu"])
    loss, accuracy = evaluate(population, few_digits.train, order.subsets)
    assert loss == result.metrics["train_loss"][:, -1]
    assert accuracy == result.metrics["train_accuracy"][:, -1]
    assert order.subsets is not None and order.subsets.shape == (1, 35)


def test_data_order_sees_each_image_of_the_subset_once_per_epoch() -> None:
    order = DataOrder([1, 2], 50, 20)
    epoch = torch.cat(list(order.batches(6)), dim=1)
    assert order.subsets is not None
    assert torch.equal(epoch.sort(dim=1).values, order.subsets.sort(dim=1).values)
    assert not torch.equal(epoch, torch.cat(list(order.batches(6)), dim=1))


def test_data_order_does_not_depend_on_the_other_models() -> None:
    together = next(DataOrder([1, 2, 3], 50, 50).batches(8))
    alone = next(DataOrder([2], 50, 50).batches(8))
    assert torch.equal(together[1:2], alone)


def test_cut_cohorts_takes_each_model_once_and_mixes_nothing_that_cannot_be() -> None:
    recipe = load_recipe("digits-cnn")
    models = recipe.models()
    cohorts = cut_cohorts(recipe, models, 1197, 8)
    assert sorted(sum(cohorts, [])) == list(range(len(models)))
    for cohort in cohorts:
        values = [models[position].hyper_parameters for position in cohort]
        assert len({value.train_fraction for value in values}) == 1
        assert len({value.dropout > 0 for value in values}) == 1
        assert [v.optimizer for v in values] == sorted(v.optimizer for v in values)


def test_evaluation_that_does_not_fit_goes_on_in_smaller_batches(
    few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size that fits is kept, and a cohort's training is not lost."""
    models, recipe = [_model(0), _model(1)], _recipe()
    expected = train_cohort(recipe, models, few_digits)
    outputs, tried = Population.outputs, []

    def limited(self: Population, x: torch.Tensor, **options: object) -> torch.Tensor:
        if not options:  # in evaluation
            tried.append(x.shape[-1])
            if x.shape[-1] > 20:
                raise torch.OutOfMemoryError("no room")
        return outputs(self, x, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Population, "outputs", limited)
    found = train_cohort(recipe, models, few_digits)
    assert tried[:2] == [64, 32] and max(tried[3:]) == 16
    assert torch.equal(found.weights, expected.weights)
    torch.testing.assert_close(found.metrics, expected.metrics)


def test_evaluation_of_one_image_that_does_not_fit_is_an_error(
    few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Population, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Population, "outputs", full)
    architecture = _recipe().architecture
    flat = torch.zeros(1, architecture.layer_table().width)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Population(architecture, flat, ["relu"]), few_digits.val, None)
