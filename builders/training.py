"""Trains one cohort: models with equal batch size and number of training images, step by step.

Shape letters: M models, K checkpoints, D length of the flat vector, N images, B images a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..zoos.images import Images, ImageSet
from ..zoos.recipe import Model, Recipe
from .initialization import initial_weights, stream
from .optimizers import PopulationOptimizer
from .population import Population

EVALUATION_BATCH = {"cpu": 64, "cuda": 1024}  # 64 images' patches fit a core's cache


@dataclass(frozen=True)
class CohortResult:
    """What training a cohort gives.

    Attributes:
        weights: (M, K, D), float32, on the CPU.
        metrics: (M, K) float32 for each of train_loss, train_accuracy, val_*, test_*.
    """

    weights: Tensor
    metrics: dict[str, Tensor]


def steps_per_epoch(model: Model, images: int) -> tuple[int, int]:
    """(batch size, training images): what the models of a cohort have in common."""
    values = model.hyper_parameters
    return values.batch_size, max(1, round(values.train_fraction * images))


def cut_cohorts(recipe: Recipe, models: Sequence[Model], images: int, size: int) -> list[list[int]]:
    """Group models that can be trained in step, at most `size` together.

    Inside a cohort models with equal optimizer and activation lie side by side, and none has
    dropout or all have.

    Args:
        recipe: the recipe of the models.
        models: the population.
        images: number of training images of the image set.
        size: largest number of models in a cohort.

    Returns:
        Positions in `models`, cohort by cohort; a function of the arguments alone.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, model in enumerate(models):
        dropout = model.hyper_parameters.dropout > 0
        groups.setdefault((steps_per_epoch(model, images), dropout), []).append(position)
    cohorts = []
    for _, group in sorted(groups.items()):
        group.sort(key=lambda position: _vector_key(models[position]))
        cohorts += [group[start : start + size] for start in range(0, len(group), size)]
    return cohorts


def train_cohort(
    recipe: Recipe,
    models: Sequence[Model],
    image_set: ImageSet,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int], None] = lambda models: None,
    initial: Tensor | None = None,
) -> CohortResult:
    """Train models in step and evaluate them at every checkpoint.

    Args:
        recipe: gives architecture, epochs and checkpoints.
        models: M models of one cohort, ordered as `cut_cohorts` orders them.
        image_set: what they are trained on.
        device: where.
        on_epoch: called after every epoch with the number of models.
        initial: (M, D) weights to start from; None draws them.
    """
    table = recipe.architecture.layer_table()
    values = [model.hyper_parameters for model in models]
    population = Population(
        recipe.architecture,
        (initial_weights(table, models) if initial is None else initial).to(device),
        [value.activation for value in values],
        [value.dropout for value in values],
    )
    optimizer = PopulationOptimizer(population.flat, population.gradient, values)
    batch_size, count = steps_per_epoch(models[0], len(image_set.train))
    order = DataOrder([model.seed for model in models], len(image_set.train), count)
    data = {name: _to_device(getattr(image_set, name), device) for name in ("train", "val", "test")}
    dropout = None
    if any(value.dropout > 0 for value in values):
        dropout = [stream(model.seed, "dropout") for model in models]
    records = _Records(population, data, order.subsets)
    records.take(0 in recipe.checkpoints)
    for epoch in range(1, recipe.epochs + 1):
        for positions in order.batches(batch_size):
            train_step(population, optimizer, *gather(data["train"], positions), dropout)
        records.take(epoch in recipe.checkpoints)
        on_epoch(len(models))
    return records.result()


class DataOrder:
    """Which images each model sees, and in which order: a function of its seed alone.

    Attributes:
        subsets: (M, n) positions of each model's training images, or None if all take all.
    """

    def __init__(self, seeds: Sequence[int], images: int, count: int) -> None:
        """Draw each model's subset of `count` of `images` training images."""
        self._generators = [stream(seed, "order") for seed in seeds]
        everything = [torch.randperm(images, generator=g) for g in self._generators]
        self._positions = torch.stack(everything)[:, :count]
        self.subsets = None if count == images else self._positions

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """One epoch of (M, B) image positions; the last batch may be smaller."""
        count = self._positions.shape[1]
        orders = torch.stack([torch.randperm(count, generator=g) for g in self._generators])
        yield from self._positions.gather(1, orders).split(batch_size, dim=1)


def train_step(
    population: Population,
    optimizer: PopulationOptimizer,
    x: Tensor,
    labels: Tensor,
    dropout: Sequence[torch.Generator] | None,
) -> None:
    """One step of every model on its own batch; its loss is the mean cross-entropy.

    Args:
        population: M models.
        optimizer: of the population.
        x: (M, H, C, W, B).
        labels: (M, B).
        dropout: one generator per model, or None for no dropout.
    """
    losses = F.cross_entropy(population.logits(x, dropout), labels, reduction="none")
    population.backward(losses.mean(1).sum())
    optimizer.step()


def gather(images: Images, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Pick each model's images: ((M, H, C, W, B), (M, B)) for positions (M, B)."""
    positions = positions.to(images.labels.device)
    flat = images.pixels.flatten(1)
    picked = flat.index_select(0, positions.flatten())
    x = picked.view(*positions.shape, *images.pixels.shape[1:]).permute(0, 3, 2, 4, 1)
    return x.contiguous(), images.labels[positions]


def evaluate(population: Population, images: Images, subsets: Tensor | None) -> Tensor:
    """Mean cross-entropy and accuracy of each model, without dropout.

    Args:
        population: M models.
        images: N images.
        subsets: (M, n) positions that each model is evaluated on; None takes all images.

    Returns:
        (2, M): loss and accuracy; both NaN for a model whose logits are not finite.
    """
    count = len(images) if subsets is None else subsets.shape[1]
    sums = torch.zeros(2, len(population), device=population.flat.device)
    size = EVALUATION_BATCH[population.flat.device.type]
    with torch.no_grad():
        for start in range(0, count, size):
            stop = min(start + size, count)
            x, labels = _evaluation_batch(images, subsets, start, stop)
            logits = population.logits(x)
            labels = labels.expand(len(population), -1)
            sums[0] += F.cross_entropy(logits, labels, reduction="none").sum(1)
            sums[1] += (logits.argmax(1) == labels).sum(1)
    sums /= count
    sums[:, ~sums[0].isfinite()] = torch.nan
    return sums


class _Records:
    """Weights and metrics of a population at its checkpoints."""

    def __init__(
        self, population: Population, data: dict[str, Images], subsets: Tensor | None
    ) -> None:
        self._population, self._data, self._subsets = population, data, subsets
        self._weights: list[Tensor] = []
        self._scores: list[Tensor] = []

    def take(self, due: bool) -> None:
        if due:
            subsets = {"train": self._subsets}
            scores = [
                evaluate(self._population, images, subsets.get(name))
                for name, images in self._data.items()
            ]
            self._scores.append(torch.cat(scores).cpu())
            self._weights.append(self._population.flat.detach().cpu().clone())

    def result(self) -> CohortResult:
        scores = torch.stack(self._scores, dim=-1)  # (6, M, K)
        names = [f"{name}_{kind}" for name in self._data for kind in ("loss", "accuracy")]
        return CohortResult(
            torch.stack(self._weights, dim=1), dict(zip(names, scores, strict=True))
        )


def _evaluation_batch(
    images: Images, subsets: Tensor | None, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    if subsets is not None:
        return gather(images, subsets[:, start:stop])
    x = images.pixels[start:stop].permute(2, 1, 3, 0).contiguous()
    return x[None], images.labels[None, start:stop]


def _to_device(images: Images, device: torch.device | str) -> Images:
    return Images(images.pixels.to(device), images.labels.to(device))


def _vector_key(model: Model) -> tuple[str, str, int]:
    values = model.hyper_parameters
    return values.optimizer, values.activation, model.model_id
