"""Trains one cohort: models with equal batch size and number of training images, step by step.

Shape letters: M models, K checkpoints, D length of the flat vector, B images or points a batch.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...zoos.recipe import Model, Recipe
from ..population.population import Population
from .initialization import initial_weights, stream
from .objectives import PARTS, DataSet, objective, training_size
from .optimizers import PopulationOptimizer

LARGEST_IN_MEMORY = 2**28  # bytes of a cohort's checkpoints


@dataclass(frozen=True)
class CohortResult:
    """What training a cohort gives.

    Attributes:
        weights: (M, K, D), float32, on the CPU; if large, a map of a temporary file.
        metrics: (M, K) float32 for each of train_loss, train_accuracy, val_*, test_*, and what
            a cohort measures besides.
    """

    weights: Tensor
    metrics: dict[str, Tensor]


def steps_per_epoch(model: Model, images: int) -> tuple[int, int]:
    """(batch size, training images): what the models of a cohort have in common."""
    values = model.hyper_parameters
    return values.batch_size, max(1, round(values.train_fraction * images))


def cut_cohorts(recipe: Recipe, models: Sequence[Model], images: int, size: int) -> list[list[int]]:
    """Group models that can be trained in step, at most `size` together.

    Inside a cohort all have one augmentation, models with equal optimizer, schedule and
    activation lie side by side, and none has dropout or all have.

    Args:
        recipe: the recipe of the models.
        models: the population.
        images: number of training images of the image set, or of points of the signal set.
        size: largest number of models in a cohort.

    Returns:
        Positions in `models`, cohort by cohort; a function of the arguments alone.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, model in enumerate(models):
        dropout = model.hyper_parameters.dropout > 0
        key = (steps_per_epoch(model, images), dropout, model.hyper_parameters.augmentation)
        groups.setdefault(key, []).append(position)
    cohorts = []
    for _, group in sorted(groups.items()):
        group.sort(key=lambda position: _vector_key(models[position]))
        cohorts += [group[start : start + size] for start in range(0, len(group), size)]
    return cohorts


def train_cohort(
    recipe: Recipe,
    models: Sequence[Model],
    data: DataSet,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int], None] = lambda models: None,
    initial: Tensor | None = None,
) -> CohortResult:
    """Train models in step and evaluate them at every checkpoint.

    Args:
        recipe: gives architecture, epochs and checkpoints.
        models: M models of one cohort, ordered as `cut_cohorts` orders them.
        data: the image set, or signal set, that they are trained on.
        device: where.
        on_epoch: called after every epoch with the number of models.
        initial: (M, D) weights to start from; None draws them.
    """
    return run_cohort(Cohort(recipe, models, data, device, initial), recipe, on_epoch)


def run_cohort(
    cohort: "Cohort", recipe: Recipe, on_epoch: Callable[[int], None] = lambda models: None
) -> CohortResult:
    """Train a cohort for the epochs of a recipe; see `train_cohort`."""
    records = _Records(cohort, len(recipe.checkpoints))
    records.take(0 in recipe.checkpoints)
    for epoch in range(1, recipe.epochs + 1):
        for _ in cohort.epoch():
            pass
        records.take(epoch in recipe.checkpoints)
        on_epoch(len(cohort.population))
    return records.result()


class Cohort:
    """Models in training, with all that they are trained with.

    Attributes:
        population: their weights.
        goal: what they learn.
        order: in which order they see what they learn from.
        batch_size: images or points per step.
        steps: steps of the whole training.
        optimizer: of the population.
        dropout: one generator per model, or None if none has dropout.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[Model],
        data: DataSet,
        device: torch.device | str = "cpu",
        initial: Tensor | None = None,
    ) -> None:
        """Set up models at their initial state; arguments as of `train_cohort`."""
        architecture, values = recipe.architecture, [model.hyper_parameters for model in models]
        flat = initial_weights(architecture, models) if initial is None else initial.clone()
        self.population = Population(
            architecture,
            flat.to(device),
            [value.activation for value in values],
            [value.dropout for value in values],
            getattr(torch, recipe.precision),
        )
        size = training_size(data)
        self.batch_size, count = steps_per_epoch(models[0], size)
        self.steps = recipe.epochs * math.ceil(count / self.batch_size)
        self.optimizer = PopulationOptimizer(
            self.population.flat,
            self.population.gradient,
            values,
            architecture.layer_table(),
            self.steps,
        )
        self.order = DataOrder([model.seed for model in models], size, count)
        self.goal = objective(data, models, device)
        self.dropout = None
        if any(value.dropout > 0 for value in values):
            self.dropout = [stream(model.seed, "dropout") for model in models]

    def epoch(self) -> Iterator[Tensor]:
        """Train one epoch; yield the losses (M,) of every step, before it is taken."""
        for positions in self.order.batches(self.batch_size):
            x, targets = self.goal.batch(positions)
            outputs = self.population.outputs(x, training=True, dropout=self.dropout)
            losses = self.goal.losses(outputs, targets)
            self.population.backward(losses.sum())
            self.optimizer.step()
            yield losses.detach()

    @contextmanager
    def settled(self) -> Iterator[dict[str, Tensor]]:
        """Hold the weights as they are recorded; yield what is measured besides, (M,) by name."""
        yield {}

    def evaluate(self) -> Tensor:
        """(6, M): loss and accuracy on train, val and test."""
        subsets = {"train": self.order.subsets}
        scores = [self.goal.evaluate(self.population, part, subsets.get(part)) for part in PARTS]
        return torch.cat(scores)


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


class _Records:
    """Weights and metrics of a cohort at its K checkpoints."""

    _names = [f"{part}_{kind}" for part in PARTS for kind in ("loss", "accuracy")]

    def __init__(self, cohort: Cohort, checkpoints: int) -> None:
        self._cohort = cohort
        models, width = cohort.population.flat.shape
        self._weights = _storage(models, checkpoints, width)
        self._scores: list[dict[str, Tensor]] = []  # (M,) by name, of each checkpoint

    def take(self, due: bool) -> None:
        if due:
            with self._cohort.settled() as measures:
                self._weights[:, len(self._scores)] = self._cohort.population.flat.detach().cpu()
                scores = dict(zip(self._names, self._cohort.evaluate(), strict=True)) | measures
                self._scores.append({name: one.cpu() for name, one in scores.items()})

    def result(self) -> CohortResult:
        metrics = {
            name: torch.stack([scores[name] for scores in self._scores], dim=-1)
            for name in self._scores[0]
        }
        return CohortResult(self._weights, metrics)


def _storage(*shape: int) -> Tensor:
    """Room for weights: if they are many, in a file without name, so that memory stays flat."""
    size = math.prod(shape)
    if size * 4 <= LARGEST_IN_MEMORY:
        return torch.empty(shape)
    with tempfile.NamedTemporaryFile(prefix="weightzoo-") as file:
        return torch.from_file(file.name, shared=True, size=size).view(shape)


def _vector_key(model: Model) -> tuple[str, str, str, int]:
    values = model.hyper_parameters
    return values.optimizer, values.schedule, values.activation, model.model_id
