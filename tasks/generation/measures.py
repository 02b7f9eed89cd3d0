"""What generated networks are worth: accuracy, further training, ensembles, novelty, diversity.

Sources: arXiv 2209.14733 (accuracy before and after fine-tuning, against training from scratch,
zoo models and densities of weights); arXiv 2506.07998 (nearest training model and noised training
models, against which generated ones have to show that they are new).

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
    """A set of models of one method, measured.

    Attributes:
        accuracy: (M, K), test accuracy at the epochs of fine-tuning; NaN where not finite.
        epochs: K epochs.
        ensemble: accuracy of the mean logits at the first epoch.
        disagreement: share of test images on which two models of the set differ, mean over pairs.
        nearest_distance: distance to the nearest training model over the usual distance from a
            training model to the nearest other one; mean over models; NaN of models of another
            architecture.
        nearest_agreement: share of the zoo's own test images on which a model agrees with that
            nearest one; NaN like the distance.
        broken: models that are not finite, left out of the four numbers above.
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
    """The models that a generator has seen, to compare with.

    Attributes:
        canonical: how weights are aligned and standardised.
        weights: (M, D), standardised, the last checkpoint of every model.
        images: Q images on which behaviour is compared.
        predictions: (M, Q), their classes of these.
        spacing: mean distance from one of them to the nearest other one.
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
        """Look at canonical weights (M, D), one row per model."""
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
        weights: (M, D), in plain units; M at least 2.
        training: what they are compared with.
        hyper_parameters: how they are fine-tuned, and their activation.
        images: to fine-tune on and be tested on.
        epochs: at which the test accuracy is measured, rising from 0.
        seed: of the order of the images.
        other: architecture of the models, if it is not that of the training models.
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
    """Train models further, many at once, each with a data order of its own.

    Args:
        architecture: of the models.
        weights: (M, D), left as they are.
        hyper_parameters: of all of them.
        images: train and test images.
        epochs: at which the test accuracy is measured, rising; 0 is before any step.
        seed: of the order of the images.

    Returns:
        (M, K), test accuracy; NaN where a model is not finite.

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
    """Initial weights (M, D) of models to train from scratch."""
    return initial_weights(architecture, _fresh_models(hyper_parameters, models, seed))


def moved(
    weights: Tensor,
    source: Architecture,
    target: Architecture,
    hyper_parameters: HyperParameters,
    seed: int,
) -> Tensor:
    """Weights (M, D) of `source` in a related architecture; what it adds is as of `scratch`.

    Raises:
        BuildError: if the two share no tensor.
    """
    models = _fresh_models(hyper_parameters, len(weights), seed)
    return inherited_weights(target, models, source, weights)


def noised(
    weights: Tensor, canonical: Canonical, sigma: float, generator: torch.Generator
) -> Tensor:
    """Weights (M, D) with gaussian noise of `sigma` of their layer's deviation."""
    standardised = canonical.standardization.apply(weights)
    noise = torch.randn(weights.shape, generator=generator)
    return canonical.standardization.inverse(standardised + sigma * noise)


def nearest(
    weights: Tensor, predictions: Tensor, training: TrainingModels
) -> tuple[Tensor, Tensor]:
    """Distance to, and agreement with, the nearest training model.

    Args:
        weights: (M, D), in plain units; they are aligned to the reference first, if there is one.
        predictions: (M, Q), their classes.
        training: the training models.

    Returns:
        (M,) each: distance in units of the training models' spacing, share of equal classes.
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
    """Accuracy of the mean of logits (M, O, Q)."""
    return float((outputs.mean(0).argmax(0) == labels).float().mean())


def disagreement(predictions: Tensor) -> float:
    """Mean over pairs of models of the share of images with other classes, of (M, Q)."""
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
    """A cohort's test accuracy (M, K)."""
    if max(recipe.checkpoints) == 0:
        names = [model.hyper_parameters.activation for model in models]
        return accuracies(recipe.architecture, weights, names, images.test)[1][:, None]
    result = train_cohort(recipe, models, images, weights.device, initial=weights)
    return result.metrics["test_accuracy"]
