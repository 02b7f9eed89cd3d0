"""Trains one cohort: models with equal batch size and number of training images.

Shape letters: M models, K checkpoints, D length of the flat vector, B images or points in
a batch.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...zoos.networks.devices import upload
from ...zoos.recipe import Model, Recipe
from ..population.compiled_step import BY_TORCH, COMPILED, Step, compiled_step
from ..population.population import Population
from .initialization import initial_weights, stream
from .objectives import PARTS, DataSet, make_objective, training_size
from .optimizers import PopulationOptimizer

LARGEST_IN_MEMORY = 2**28  # bytes of a cohort's checkpoints


@dataclass(frozen=True)
class CohortResult:
    """Checkpoints and metrics of a trained cohort.

    Attributes:
        weights: (M, K, D), float32, on the CPU; large ones are a map of a temporary file.
        metrics: (M, K) float32 for each of train_loss, train_accuracy, val_*, test_*, and further
            measures of the cohort.
    """

    weights: Tensor
    metrics: dict[str, Tensor]


def steps_per_epoch(model: Model, images: int) -> tuple[int, int]:
    """Batch size and number of training images of a model, equal in a cohort.

    Args:
        model: model of the population.
        images: number of train images of the image set, or of points of the signal set.
    """
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
    code: str = BY_TORCH,
) -> CohortResult:
    """Train models in step and evaluate them at every checkpoint.

    Args:
        recipe: recipe with architecture, epochs and checkpoints.
        models: M models of one cohort, in the order of `cut_cohorts`.
        data: image set or signal set that they are trained on.
        device: training device.
        on_epoch: function called after every epoch with the number of models.
        initial: initial weights, (M, D); None draws them.
        code: code of the training steps, "compiled" or "torch", see `step_code`.
    """
    return run_cohort(Cohort(recipe, models, data, device, initial, code), recipe, on_epoch)


def run_cohort(
    cohort: "Cohort", recipe: Recipe, on_epoch: Callable[[int], None] = lambda models: None
) -> CohortResult:
    """Train a cohort for the epochs of a recipe; see `train_cohort`.

    Args:
        cohort: cohort at its initial state.
        recipe: recipe with epochs and checkpoints.
        on_epoch: function called after every epoch with the number of models.
    """
    records = _Records(cohort, len(recipe.checkpoints))
    records.take(0 in recipe.checkpoints)
    for epoch in range(1, recipe.epochs + 1):
        for _ in cohort.epoch():
            pass
        records.take(epoch in recipe.checkpoints)
        on_epoch(len(cohort.population))
    return records.result()


class Cohort:
    """Models in training, with their data order, objective and optimizer.

    Attributes:
        population: weights of the models.
        objective: loss and evaluation of the models.
        order: order of the training images or points.
        batch_size: images or points per step.
        steps: number of steps in the whole training.
        optimizer: optimizer of the population.
        dropout: one generator per model, or None if none has dropout.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[Model],
        data: DataSet,
        device: torch.device | str = "cpu",
        initial: Tensor | None = None,
        code: str = BY_TORCH,
    ) -> None:
        """Set up models at their initial state.

        Args:
            recipe: recipe with architecture and epochs.
            models: M models of one cohort, in the order of `cut_cohorts`.
            data: image set or signal set that they are trained on.
            device: training device.
            initial: initial weights, (M, D); None draws them.
            code: code of the training steps, "compiled" or "torch", see `step_code`.
        """
        self._architecture, self._code = recipe.architecture, code
        self._compiled: Step | None = None
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
        self._whole_batch = min(self.batch_size, count)
        self.steps = recipe.epochs * math.ceil(count / self.batch_size)
        self.optimizer = PopulationOptimizer(
            self.population.flat,
            self.population.gradient,
            values,
            architecture.layer_table(),
            self.steps,
        )
        self.order = DataOrder([model.seed for model in models], size, count, device)
        self.objective = make_objective(data, models, device)
        self.dropout = None
        if any(value.dropout > 0 for value in values):
            self.dropout = [stream(model.seed, "dropout", device) for model in models]

    def epoch(self) -> Iterator[Tensor]:
        """Train one epoch; yield the losses (M,) of every step, before the update."""
        for positions in self.order.batches(self.batch_size):
            x, targets = self.objective.batch(positions)
            if self._code == COMPILED and positions.shape[1] == self._whole_batch:
                losses = self._compiled_step(x, targets)
            else:
                outputs = self.population.outputs(x, training=True, dropout=self.dropout)
                losses = self.objective.losses(outputs, targets)
                self.population.backward(losses.sum())
            self.optimizer.step()
            yield losses.detach()

    def _compiled_step(self, x: Tensor, targets: Tensor) -> Tensor:
        """Losses of a whole batch; fills the gradient."""
        tensors = (self.population.flat, self.population.gradient, x, targets)
        if self._compiled is None:
            self._compiled = compiled_step(
                self._architecture, self.population.runs, self.objective.losses, tensors
            )
        return self._compiled(*tensors)

    @contextmanager
    def as_saved(self) -> Iterator[dict[str, Tensor]]:
        """Hold the weights as they are saved; yield further measures, (M,) by name."""
        yield {}

    def evaluate(self) -> Tensor:
        """(6, M): loss and accuracy on train, val and test."""
        subsets = {"train": self.order.subsets}
        scores = [
            self.objective.evaluate(self.population, part, subsets.get(part)) for part in PARTS
        ]
        return torch.cat(scores)


class DataOrder:
    """Training images of each model and their order, a function of its seed alone.

    Orders are drawn on the CPU and copied to the training device once per epoch.

    Attributes:
        subsets: indices of each model's training images, (M, n), or None if all models take all.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        images: int,
        count: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw each model's subset of the training images.

        Args:
            seeds: seeds of the M models.
            images: number of train images of the set.
            count: number of them that each model is trained on.
            device: device of the positions.
        """
        self._device = device
        self._generators = [stream(seed, "order") for seed in seeds]
        everything = [torch.randperm(images, generator=g) for g in self._generators]
        self._positions = torch.stack(everything)[:, :count]
        self.subsets = None if count == images else upload(self._positions, device)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """One epoch of (M, B) image positions; the last batch may be smaller."""
        count = self._positions.shape[1]
        orders = torch.stack([torch.randperm(count, generator=g) for g in self._generators])
        positions = upload(self._positions.gather(1, orders), self._device)
        yield from positions.split(batch_size, dim=1)


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
            with self._cohort.as_saved() as measures:
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
    """Uninitialised weights; many of them lie in an unnamed file, which bounds the memory."""
    size = math.prod(shape)
    if size * 4 <= LARGEST_IN_MEMORY:
        return torch.empty(shape)
    with tempfile.NamedTemporaryFile(prefix="weightzoo-") as file:
        return torch.from_file(file.name, shared=True, size=size).view(shape)


def _vector_key(model: Model) -> tuple[str, str, str, int]:
    values = model.hyper_parameters
    return values.optimizer, values.schedule, values.activation, model.model_id
