"""The training job of a build; any worker, here or on another machine, can train a part."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch

from ...zoos.errors import BuildError
from ...zoos.format import ZooHeader
from ...zoos.lineage import Lineage
from ...zoos.provenance import commit, package_version
from ...zoos.recipe import Model, Recipe, hyper_parameter_names
from ..population.compiled_step import BY_TORCH, step_code
from ..training.cohort import CohortResult, train_cohort
from ..training.cohort_size import train_within_memory
from ..training.objectives import DataSet, output_shape, training_size


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Training of a recipe's models from random initial weights; can be pickled.

    Jobs that start from rows of another zoo override the training of a cohort, its initial
    weights and its further measures.

    Attributes:
        recipe: recipe with name, architecture, images, epochs and checkpoints.
        models: models of the population.
        code: code of the training steps, "compiled" or "torch", see `step_code`.
    """

    command: ClassVar[str] = "build"  # command that runs such a job
    measures: ClassVar[tuple[str, ...]] = ()  # columns measured beside `METRICS`

    recipe: Recipe
    models: tuple[Model, ...]
    code: str = BY_TORCH

    @property
    def source(self) -> str:
        """Name of the recipe or zoo that the models start from, for messages."""
        return self.recipe.name

    def train(
        self,
        positions: Sequence[int],
        image_set: DataSet,
        device: str,
        on_epoch: Callable[[int], None] = lambda models: None,
    ) -> CohortResult:
        """Train one cohort.

        Args:
            positions: positions of its models in the population.
            image_set: image set or signal set of the job.
            device: training device.
            on_epoch: function called after every epoch with the number of models.
        """
        models = [self.models[position] for position in positions]
        return train_cohort(self.recipe, models, image_set, device, on_epoch, code=self.code)

    def with_code(self, image_set: DataSet, device: str) -> Self:
        """The job with the code that trains all its cohorts, chosen once for a whole build.

        Args:
            image_set: image set or signal set of the job.
            device: training device.
        """
        values = [model.hyper_parameters for model in self.models]
        return replace(self, code=step_code(self.recipe, values, training_size(image_set), device))

    def settings(self) -> dict[str, Any]:
        """Settings that decide the result, plain data; a build resumes only with equal ones."""
        return {"recipe": self.recipe.to_json(), "models": len(self.models)}

    def header(self) -> ZooHeader:
        """The header of the zoo's files, without provenance and checksums."""
        return ZooHeader(
            architecture=self.recipe.architecture,
            layer_table=self.recipe.architecture.layer_table(),
            hyper_parameters=hyper_parameter_names(),
            recipe=self.recipe.to_json(),
            split={"by": "model", "fractions": self.recipe.split, "seed": self.recipe.seed},
        )

    def lineage(self) -> tuple[Lineage, ...]:
        """Lineage of each model; empty if all start from their own initial state."""
        return ()

    def provenance(self) -> dict[str, Any]:
        """Versions of the code that trains, plain data."""
        return {
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        }

    def check_fit(self, image_set: DataSet) -> None:
        """Reject an architecture that does not fit the image set or signal set.

        Raises:
            BuildError: if shapes or numbers of outputs differ; the message gives both.
        """
        shapes, wanted = self.recipe.architecture.shapes(), output_shape(image_set)
        if shapes[0] != image_set.shape or shapes[-1] != wanted:
            raise BuildError(
                f"architecture {self.recipe.architecture.name!r} takes {shapes[0]} and gives "
                f"{shapes[-1]}, {image_set.name!r} has inputs of {image_set.shape} and needs "
                f"outputs of {wanted}: choose an architecture and images that fit"
            )


class RowWriter(Protocol):
    """What the rows of a trained cohort are written to."""

    def write(
        self, positions: Sequence[int], weights: np.ndarray, metrics: Mapping[str, np.ndarray]
    ) -> None:
        """Write the rows of some models.

        Args:
            positions: positions of M models in the population.
            weights: weights of their checkpoints, (M, K, D), float32.
            metrics: values by metric name, (M, K).
        """


def train_and_write(
    job: TrainingJob,
    zoo: RowWriter,
    positions: Sequence[int],
    image_set: DataSet,
    device: str,
    on_epoch: Callable[[int], None] = lambda models: None,
) -> None:
    """Train one cohort and write its rows.

    Args:
        job: training job.
        zoo: unfinished zoo that the rows are written to.
        positions: positions of the cohort's models in the population.
        image_set: image set or signal set of the job.
        device: training device.
        on_epoch: function called after every epoch with the number of models.
    """
    result = train_within_memory(
        lambda part: job.train(part, image_set, device, on_epoch), positions
    )
    write_result(zoo, positions, result)


def write_result(zoo: RowWriter, positions: Sequence[int], result: CohortResult) -> None:
    """Write the rows of a trained cohort.

    Args:
        zoo: unfinished zoo that the rows are written to.
        positions: positions of the cohort's models in the population.
        result: weights and metrics of the cohort.
    """
    metrics = {name: values.numpy() for name, values in result.metrics.items()}
    zoo.write(positions, result.weights.numpy(), metrics)
