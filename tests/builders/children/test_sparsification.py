"""Sparse twins: weights are pruned more and more, and what is stored is the pruned network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from weightzoo.builders.build import Engine
from weightzoo.builders.children.parents import choose_parents
from weightzoo.builders.children.pruning import MagnitudePruning, prunable_columns
from weightzoo.builders.children.sparsification import METHODS, sparsify_zoo
from weightzoo.builders.children.variational_dropout import VariationalDropout
from weightzoo.builders.training.initialization import initial_weights
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.images.catalog import load_images
from weightzoo.zoos.index import ZooIndex
from weightzoo.zoos.recipe import Recipe, load_recipe

EPOCHS = 3


def _sparsify(source: Path, out: Path, **options: Any) -> Path:
    engine = Engine(workers=1, progress=False)
    sparsify_zoo(source, out, engine=engine, epochs=EPOCHS, **options)
    return out


def _columns(folder: Path) -> dict[str, np.ndarray]:
    """All columns of a zoo, with the weights."""
    files = ZooIndex.read(folder).open(folder)
    parts = [file.read_columns() | {"weights": np.array(file.map_weights())} for file in files]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _recipe() -> Recipe:
    recipe = load_recipe("digits-cnn")
    factors = {"activation": "relu", "lr": 1e-3, "train_fraction": 0.1}
    return replace(recipe, factors=factors, seeds=8, epochs=2, checkpoints=(1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_sparse_twins_are_pruned_networks_that_still_work(
    parent_zoo: Path, tmp_path: Path, method: str
) -> None:
    """Accuracy stays near the parents' (about 0.9) and far from chance (0.1)."""
    folder = _sparsify(parent_zoo, tmp_path / "twins", method=method)
    rows, parents = _columns(folder), _columns(parent_zoo)
    weights = ZooIndex.read(folder).open(folder)[0].header.layer_table
    prunable = prunable_columns(weights).numpy()
    zeros = (rows["weights"][:, prunable] == 0).mean(1)
    np.testing.assert_allclose(zeros, rows["sparsity"], atol=1e-6)
    by_epoch = [rows["sparsity"][rows["epoch"] == epoch].mean() for epoch in (1, 2, 3)]
    assert 0.02 < by_epoch[0] < by_epoch[1] < by_epoch[2]
    accuracy = rows["test_accuracy"][rows["epoch"] == EPOCHS].mean()
    assert accuracy > parents["test_accuracy"][parents["epoch"] == 4].mean() - 0.1 > 0.6
    others = np.setdiff1d(np.arange(weights.width), prunable)
    assert (rows["weights"][:, others] != 0).all()
    assert all(check.passed for check in verify_zoo(folder))


def test_sparse_twins_tell_their_lineage(parent_zoo: Path, tmp_path: Path) -> None:
    folder = _sparsify(parent_zoo, tmp_path / "twins", method="magnitude", sparsity=0.5)
    rows = _columns(folder)
    assert set(rows["relation"]) == {"pruned"} and set(rows["parent_zoo"]) == {"readers"}
    np.testing.assert_array_equal(rows["parent_model_id"], rows["model_id"])
    assert set(rows["parent_epoch"]) == {4}
    last = rows["sparsity"][rows["epoch"] == EPOCHS]
    np.testing.assert_allclose(last, 0.5, atol=1e-3)
    details = ZooIndex.read(folder).open(folder)[0].header.recipe["sparsification"]
    assert details == {"method": "magnitude", "left_out": 0, "sparsity": 0.5}


def test_magnitude_pruning_takes_each_models_smallest_weights(parent_zoo: Path) -> None:
    parents, recipe = choose_parents(parent_zoo), _recipe()
    start = parents.weights([0, 1])
    models, data = parents.models[:2], load_images("digits")
    cohort = MagnitudePruning(recipe, models, data, "cpu", start, sparsity=0.6)
    next(cohort.epoch())
    columns = prunable_columns(recipe.architecture.layer_table())
    for before, now in zip(start[:, columns], cohort.population.flat[:, columns], strict=True):
        pruned = now == 0
        assert int(pruned.sum()) == round(0.6 * (1 - 0.5**3) * len(columns))
        assert before[pruned].abs().max() <= before[~pruned].abs().min()


@pytest.fixture
def noisy(parent_zoo: Path) -> VariationalDropout:
    parents = choose_parents(parent_zoo, overrides={"train_fraction": 0.1})
    models = parents.models[:2]
    start = parents.weights([0, 1])
    return VariationalDropout(_recipe(), models, load_images("digits"), "cpu", start)


def test_divergence_is_that_of_the_log_uniform_prior(noisy: VariationalDropout) -> None:
    """Against the integral it approximates, E log|e| - log(alpha) / 2, e from N(1, alpha)."""
    normal = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def exact(log_alpha: float) -> float:
        deviation = np.exp(log_alpha / 2)
        return float((1 + deviation * normal).abs().log().mean() - log_alpha / 2)

    def ours(log_alpha: float) -> float:
        for name, log_variance in noisy._log_variances.items():
            square = noisy.population.tensor(name).detach().square() + 1e-8
            log_variance.data.copy_(square.log() + log_alpha)
        count = len(prunable_columns(_recipe().architecture.layer_table()))
        return float(noisy.divergence()[0].detach()) / count

    for log_alpha in (-4.0, -1.0, 0.0, 2.0):
        expected = exact(log_alpha) - exact(7.5)  # the integral is known up to a constant
        assert ours(log_alpha) - ours(7.5) == pytest.approx(expected, abs=0.03)


def test_noise_of_outputs_is_that_of_drawn_weights(noisy: VariationalDropout) -> None:
    """Local reparametrisation: the same mean and deviation as weights drawn one by one."""
    from weightzoo.builders.children.variational_dropout import _NoisyPass

    noisy._log_variances["conv1.weight"].data.fill_(-2.0)
    images = load_images("digits").train.pixels[:1]
    x = images.permute(2, 1, 3, 0)[None].expand(2, -1, -1, -1, -1).contiguous()
    layers = noisy._layers[:1]
    forward = _NoisyPass(noisy.population, None, noisy._log_variances, noisy._noise)
    with torch.no_grad():
        ours = torch.stack([forward.run(layers, "", x)[0, 5, 0, :, 0] for _ in range(1500)])
        weight, bias = (noisy.population.tensor(f"conv1.{part}")[0] for part in ("weight", "bias"))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1500, *weight.shape, generator=generator)
        drawn = weight + np.exp(-1.0) * noise
        theirs = torch.stack([F.conv2d(images, w, bias)[0, 0, 5] for w in drawn])
    scale = theirs.std(0)
    assert scale.min() > 0.1
    torch.testing.assert_close(ours.std(0), scale, rtol=0.12, atol=0.01)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 0.15 * scale).all()


def test_variational_dropout_trains_on_with_what_it_would_prune(
    noisy: VariationalDropout,
) -> None:
    means = noisy.population.flat.clone()
    noisy._log_variances["linear1.weight"].data.fill_(9.0)
    with noisy.as_saved() as measures:
        assert (noisy.population.tensor("linear1.weight") == 0).all()
        assert (measures["sparsity"] > 0).all()
    assert torch.equal(noisy.population.flat, means)


def test_variational_dropout_trains_a_model_alike_in_any_cohort(parent_zoo: Path) -> None:
    parents = choose_parents(parent_zoo, overrides={"train_fraction": 0.1})
    data, ends = load_images("digits"), []
    for positions in ([0, 1], [1]):
        models, start = [parents.models[p] for p in positions], parents.weights(positions)
        cohort = VariationalDropout(_recipe(), models, data, "cpu", start)
        losses = [float(loss[-1]) for loss in cohort.epoch()]
        ends.append(cohort.population.flat[-1].clone())
    assert losses[-1] < losses[0] and not torch.equal(ends[1], start[0])
    torch.testing.assert_close(ends[0], ends[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lottery"}, "method must be one of"),
        ({"method": "variational-dropout", "sparsity": 0.5}, "finds the sparsity itself"),
        ({"method": "magnitude", "sparsity": 1.0}, "fraction between 0 and 1, got 1.0"),
    ],
)
def test_sparsification_refuses(
    parent_zoo: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        _sparsify(parent_zoo, tmp_path / "twins", **options)
    assert not list(tmp_path.iterdir())


def test_sparsification_needs_to_know_the_images(tiny_zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not name its image set: give an image set"):
        _sparsify(tiny_zoo, tmp_path / "twins", method="magnitude")


def test_noise_reaches_layers_inside_residuals() -> None:
    """Convolution and linear layers anywhere; attention and norm layers have none."""
    from weightzoo.builders.children.variational_dropout import _NoisyPass

    recipe = replace(load_recipe("digits-vit"), epochs=1, checkpoints=(1,))
    models, data = recipe.models(16)[:2], load_images("digits")
    start = initial_weights(recipe.architecture, models)
    cohort = VariationalDropout(recipe, models, data, "cpu", start)
    names = [name.removesuffix(".weight") for name in cohort._log_variances]
    assert "conv1" in names and "residual2.body.linear1" in names
    assert not any("attention" in name or "norm" in name for name in names)
    x = data.train.pixels[:2].permute(2, 1, 3, 0)[None].contiguous()
    forward = _NoisyPass(cohort.population, None, cohort._log_variances, cohort._noise)
    for name in names:
        for other, log_variance in cohort._log_variances.items():
            log_variance.data.fill_(0.0 if other == f"{name}.weight" else -80.0)
        with torch.no_grad():
            first, second = (forward.run(cohort._layers, "", x) for _ in range(2))
        assert not torch.allclose(first, second, atol=1e-3), name
