"""Measures of generated networks: accuracy, fine-tuning, ensembles, novelty, diversity.

Sources: arXiv 2209.14733 (accuracy before and after fine-tuning, compared with training from
scratch, with zoo models and with densities of weights); arXiv 2506.07998 (novelty of generated
models, compared with the nearest training model and with noised training models).

Shape letters: M models, D length of the flat weight vector, K epochs, Q images, O classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...builders.children.inheritance import inherited_weights
from ...builders.training.cohort import train_cohort
from ...builders.training.initialization import initial_weights
from ...loaders import HiddenPermutations, align
from ...zoos.images.catalog import Images, ImageSet
from ...zoos.networks.architectures import Architecture
from ...zoos.recipe import HyperParameters, Model, Recipe
from ..autoencoding.behaviour import MODELS_AT_ONCE, accuracies, logits
from ..autoencoding.canonical import Canonical

EPOCHS = (0, 1, 5, 25)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSet:
    """Measures of a set of models of one method.

    Attributes:
        accuracy: test accuracy at the epochs of fine-tuning, (M, K); NaN where not finite.
        epochs: K epochs.
        ensemble: accuracy of the mean logits before fine-tuning.
        disagreement: share of test images on which two models predict different classes, mean
            over pairs.
        nearest_distance: distance to the nearest training model, divided by the mean distance
            between nearest training models; mean over models; NaN for another architecture.
        nearest_agreement: share of the zoo's own test images on which a model and its nearest
            training model predict the same class; NaN for another architecture.
        broken: number of models that are not finite, left out of the four numbers above.
    """

    accuracy: Tensor
    epochs: tuple[int, ...]
    ensemble: float
    disagreement: float
    nearest_distance: float
    nearest_agreement: float
    broken: int


@dataclass(frozen=True)
class TrainingModels:
    """The models that a generator was trained on, for comparison.

    Attributes:
        canonical: alignment and standardisation of weights.
        weights: standardised weights, (M, D), the last checkpoint of every model.
        images: Q images for the comparison of predictions.
        predictions: predicted classes of the models, (M, Q).
        spacing: mean distance of a training model to the nearest other one.
    """

    canonical: Canonical
    weights: Tensor
    images: Images
    predictions: Tensor
    spacing: float

    @classmethod
    def of(
        cls, canonical: Canonical, weights: Tensor, activations: Sequence[str], images: Images
    ) -> "TrainingModels":
        """Compute predictions and spacing.

        Args:
            canonical: alignment and standardisation of weights.
            weights: canonical weights, one row per model, (M, D).
            activations: activation of each model, M names.
            images: Q images for the comparison of predictions.
        """
        standardised = canonical.standardization.apply(weights)
        distances = torch.cdist(standardised, standardised)
        distances.fill_diagonal_(torch.inf)
        predictions = logits(canonical.architecture, weights, activations, images).argmax(1)
        return cls(canonical, standardised, images, predictions, float(distances.amin(1).mean()))


def measure(
    weights: Tensor,
    training: TrainingModels,
    hyper_parameters: HyperParameters,
    images: ImageSet,
    epochs: Sequence[int] = EPOCHS,
    seed: int = 0,
    other: Architecture | None = None,
) -> MeasuredSet:
    """Measure a set of models and fine-tune it.

    Args:
        weights: flat weights in their own units, (M, D); M at least 2.
        training: training models for comparison.
        hyper_parameters: hyper-parameters of fine-tuning, and the activation.
        images: train and test images.
        epochs: epochs whose test accuracy is measured, rising from 0.
        seed: seed of the order of the images.
        other: architecture of the models, if it differs from that of the training models.
    """
    architecture = other or training.canonical.architecture
    accuracy = fine_tune(architecture, weights, hyper_parameters, images, epochs, seed)
    finite = weights[weights.isfinite().all(1)]
    names = [hyper_parameters.activation] * len(finite)
    outputs = logits(architecture, finite, names, images.test)
    distance = agreement = torch.tensor(torch.nan)
    if other is None:
        compared = logits(architecture, finite, names, training.images).argmax(1)
        distance, agreement = nearest(finite, compared, training)
    return MeasuredSet(
        accuracy=accuracy,
        epochs=tuple(epochs),
        ensemble=ensemble_accuracy(outputs, images.test.labels),
        disagreement=disagreement(outputs.argmax(1)),
        nearest_distance=float(distance.mean()),
        nearest_agreement=float(agreement.mean()),
        broken=len(weights) - len(finite),
    )


def fine_tune(
    architecture: Architecture,
    weights: Tensor,
    hyper_parameters: HyperParameters,
    images: ImageSet,
    epochs: Sequence[int],
    seed: int = 0,
) -> Tensor:
    """Fine-tune many models at once, each with its own order of the data.

    Args:
        architecture: architecture of the models.
        weights: flat weights, (M, D), which are not changed.
        hyper_parameters: hyper-parameters of all models.
        images: train and test images.
        epochs: epochs whose test accuracy is measured, rising; 0 is before any step.
        seed: seed of the order of the images.

    Returns:
        Test accuracy, (M, K); NaN where a model is not finite.

    Raises:
        RecipeError: if the epochs do not rise from 0 or more.
    """
    recipe = Recipe(
        name="fine-tuning",
        description="",
        architecture=architecture,
        images=images.name,
        factors=asdict(hyper_parameters),
        seeds=len(weights),
        seed_kind="random",
        epochs=max(1, *epochs),
        checkpoints=tuple(epochs),
        split={"train": 1.0},
        seed=seed,
    )
    models, step = recipe.models(), MODELS_AT_ONCE[weights.device.type]
    parts = [
        _tuned(recipe, models[start : start + step], images, part)
        for start, part in zip(range(0, len(weights), step), weights.split(step), strict=True)
    ]
    return torch.cat(parts)


def scratch(
    architecture: Architecture, hyper_parameters: HyperParameters, models: int, seed: int
) -> Tensor:
    """Initial weights (M, D) of models to train from scratch.

    Args:
        architecture: architecture of the models.
        hyper_parameters: hyper-parameters of all models.
        models: number of models, M.
        seed: seed of the first model; others have the next numbers.
    """
    return initial_weights(architecture, _fresh_models(hyper_parameters, models, seed))


def moved(
    weights: Tensor,
    source: Architecture,
    target: Architecture,
    hyper_parameters: HyperParameters,
    seed: int,
) -> Tensor:
    """Weights moved to a related architecture, whose added tensors are initialised as in `scratch`.

    Args:
        weights: flat weights of the source architecture, (M, D).
        source: architecture of the weights.
        target: related architecture.
        hyper_parameters: hyper-parameters of all models.
        seed: seed of the first model; others have the next numbers.

    Raises:
        BuildError: if the two architectures share no tensor.
    """
    models = _fresh_models(hyper_parameters, len(weights), seed)
    return inherited_weights(target, models, source, weights)


def noised(
    weights: Tensor, canonical: Canonical, sigma: float, generator: torch.Generator
) -> Tensor:
    """Weights (M, D) with gaussian noise.

    Args:
        weights: flat weights, (M, D).
        canonical: alignment and standardisation of weights.
        sigma: deviation of the noise, in units of the layer's deviation.
        generator: random generator of the noise.
    """
    standardised = canonical.standardization.apply(weights)
    noise = torch.randn(weights.shape, generator=generator)
    return canonical.standardization.inverse(standardised + sigma * noise)


def nearest(
    weights: Tensor, predictions: Tensor, training: TrainingModels
) -> tuple[Tensor, Tensor]:
    """Distance to, and agreement with, the nearest training model.

    Args:
        weights: flat weights in their own units, (M, D); they are first aligned to the reference,
            if there is one.
        predictions: predicted classes of the models, (M, Q).
        training: training models.

    Returns:
        The distance divided by the training models' spacing, and the share of equal predictions,
        (M,) each.
    """
    canonical = training.canonical
    if canonical.reference is not None:
        permutations = HiddenPermutations.of(canonical.architecture)
        weights, _ = align(weights, canonical.reference, permutations)
    distances = torch.cdist(canonical.standardization.apply(weights), training.weights)
    distance, index = distances.min(1)
    agreement = (predictions == training.predictions[index]).float().mean(1)
    return distance / training.spacing, agreement


def ensemble_accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Accuracy of the mean logits of several models.

    Args:
        outputs: logits, (M, O, Q).
        labels: true classes, (Q,).
    """
    return float((outputs.mean(0).argmax(0) == labels).float().mean())


def disagreement(predictions: Tensor) -> float:
    """Share of images with different predictions (M, Q), mean over pairs of models."""
    votes = F.one_hot(predictions).sum(0).double()  # (Q, O)
    models = len(predictions)
    equal_pairs = (votes * (votes - 1)).sum(1) / (models * (models - 1))
    return float(1 - equal_pairs.mean())


def _fresh_models(hyper_parameters: HyperParameters, count: int, seed: int) -> list[Model]:
    return [
        Model(model_id=index, seed=seed + index, split="train", hyper_parameters=hyper_parameters)
        for index in range(count)
    ]


def _tuned(recipe: Recipe, models: Sequence[Model], images: ImageSet, weights: Tensor) -> Tensor:
    """Fine-tune one cohort and return its test accuracy, (M, K)."""
    if max(recipe.checkpoints) == 0:
        names = [model.hyper_parameters.activation for model in models]
        return accuracies(recipe.architecture, weights, names, images.test)[1][:, None]
    result = train_cohort(recipe, models, images, weights.device, initial=weights)
    return result.metrics["test_accuracy"]
