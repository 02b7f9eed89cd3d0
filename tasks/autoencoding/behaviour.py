"""Behaviour of networks given as flat weights: logits on images, accuracy, and a loss on logits.

Source of the loss: arXiv 2503.17138, which compares the logits of a network with those of its
reconstruction on query images.

Shape letters: M models, D length of the flat weight vector, Q images, O classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...builders.population.population import Population
from ...builders.training.objectives import evaluate, evaluate_windows
from ...loaders import ZooDataset
from ...zoos.images.catalog import Images, load_images
from ...zoos.networks.architectures import Architecture
from ...zoos.texts.text_set import Windows
from .canonical import Canonical
from .settings import AutoencoderSettings

MODELS_AT_ONCE = {"cpu": 8, "cuda": 128}


def logits(
    architecture: Architecture, weights: Tensor, activations: Sequence[str], images: Images
) -> Tensor:
    """Logits of every model on every image, without dropout.

    Args:
        architecture: architecture of the models.
        weights: flat weights, (M, D).
        activations: activation of each model, M names.
        images: Q images.

    Returns:
        (M, O, Q).
    """
    x = _shared_input(images)
    step = MODELS_AT_ONCE[weights.device.type]
    with torch.no_grad():
        parts = [
            Population(architecture, part, activations[start : start + step]).outputs(x)
            for start, part in zip(range(0, len(weights), step), weights.split(step), strict=True)
        ]
    return torch.cat(parts)


def accuracies(
    architecture: Architecture,
    weights: Tensor,
    activations: Sequence[str],
    images: Images | Windows,
) -> Tensor:
    """Mean loss and accuracy of every model.

    Args:
        architecture: architecture of the models.
        weights: flat weights, (M, D).
        activations: activation of each model, M names.
        images: Q labelled images, or windows of text.

    Returns:
        (2, M), on the CPU; NaN where not finite.
    """
    step = MODELS_AT_ONCE[weights.device.type]
    parts = []
    for start, part in zip(range(0, len(weights), step), weights.split(step), strict=True):
        models = Population(architecture, part, activations[start : start + step])
        if isinstance(images, Windows):
            parts.append(evaluate_windows(models, images, None))
        else:
            parts.append(evaluate(models, images, None))
    return torch.cat(parts, 1).cpu()


def behaviour_loss(
    architecture: Architecture,
    reconstructed: Tensor,
    original: Tensor,
    activations: Sequence[str],
    images: Images,
) -> Tensor:
    """Mean squared distance of logits, divided by the variance of the original logits.

    Args:
        architecture: architecture of the models.
        reconstructed: reconstructed flat weights, (M, D), with gradients.
        original: original flat weights, (M, D).
        activations: activation of each model, M names; equal names should be adjacent.
        images: Q query images.

    Returns:
        A scalar with a gradient for `reconstructed`.
    """
    wanted = logits(architecture, original, activations, images)
    x = _shared_input(images)
    population = Population(architecture, reconstructed.detach().clone(), activations)
    given = population.outputs(x)
    loss = (given - wanted).square().mean() / wanted.var(dim=(1, 2), keepdim=True).mean()
    population.backward(loss)
    return _WithGradient.apply(reconstructed, loss.detach(), population.gradient)


def _shared_input(images: Images) -> Tensor:
    """The images in the layout of a population's input, shared by all models: (1, H, C, W, Q)."""
    return images.pixels.permute(2, 1, 3, 0).contiguous()[None]


class _WithGradient(torch.autograd.Function):
    """A loss with a precomputed gradient."""

    @staticmethod
    def forward(ctx: object, weights: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient  # type: ignore[attr-defined]
        return loss.clone()

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.gradient, None, None  # type: ignore[attr-defined]


class Behaviour:
    """The behavioural loss, on images of the zoo's own image set."""

    def __init__(
        self, train: ZooDataset, canonical: Canonical, settings: AutoencoderSettings
    ) -> None:
        """Load the images.

        Args:
            train: train rows.
            canonical: alignment and standardisation of the rows.
            settings: training settings.

        Raises:
            ValueError: if the zoo does not name its image set.
        """
        name = train.header.recipe.get("images")
        if not isinstance(name, str):
            raise ValueError(
                f"zoo {train.name!r} does not name the image set of its models, which the "
                "behavioural loss needs: train with structure=1"
            )
        images = load_images(name).train
        self._pixels, self._labels = (
            one.to(settings.device) for one in (images.pixels, images.labels)
        )
        self._canonical, self._count = canonical, settings.queries
        self._activations = train.hidden_column("activation", "the behavioural loss").tolist()
        self._is_one = len(set(self._activations)) == 1

    def loss(self, rows: Tensor, made: Tensor, true: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of a batch, see `behaviour_loss`.

        Args:
            rows: row numbers, (B,).
            made: reconstructed standardised weights, (B, D).
            true: true standardised weights, (B, D).
            generator: random generator of the query images.
        """
        inverse = self._canonical.standardization.inverse
        return behaviour_loss(
            self._canonical.architecture,
            inverse(made),
            inverse(true),
            self._activations_of(rows),
            self._draw(generator),
        )

    def _activations_of(self, rows: Tensor) -> list[str]:
        """Activations of rows; the numbers leave the device only if the activations differ."""
        if self._is_one:
            return self._activations[:1] * len(rows)
        return [self._activations[row] for row in rows.tolist()]

    def _draw(self, generator: torch.Generator) -> Images:
        """Draw random query images, on the device."""
        count, device = len(self._labels), generator.device
        index = torch.randint(count, (self._count,), generator=generator, device=device)
        return Images(self._pixels[index], self._labels[index])
