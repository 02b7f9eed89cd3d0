"""What a build trains: a plan that any worker, here or on another machine, can train a part of."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ...zoos.errors import BuildError
from ...zoos.format import ZooHeader
from ...zoos.lineage import Lineage
from ...zoos.provenance import commit, package_version
from ...zoos.recipe import Model, Recipe, hyper_parameter_names
from ..training.cohort import CohortResult, train_cohort
from ..training.cohort_size import train_within_memory
from ..training.objectives import DataSet, output_size
from ..writing.partial_zoo import PartialZoo


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Train the models of a recipe from their drawn initial weights; pickles.

    Descendants of other zoos' rows override what differs: how a cohort is trained, what it
    starts from, what is measured besides.

    Attributes:
        recipe: gives name, architecture, images, epochs and checkpoints.
        models: the population.
    """

    command: ClassVar[str] = "build"  # that trains such a job
    measures: ClassVar[tuple[str, ...]] = ()  # columns measured beside `METRICS`

    recipe: Recipe
    models: tuple[Model, ...]

    @property
    def source(self) -> str:
        """What the models are trained from, for messages."""
        return self.recipe.name

    def train(
        self,
        positions: Sequence[int],
        image_set: DataSet,
        device: str,
        on_epoch: Callable[[int], None] = lambda models: None,
    ) -> CohortResult:
        """Train one cohort, given by the positions of its models."""
        models = [self.models[position] for position in positions]
        return train_cohort(self.recipe, models, image_set, device, on_epoch)

    def settings(self) -> dict[str, Any]:
        """What decides the result, plain data: an unfinished build goes on only with equal ones."""
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
        """Where each model comes from; empty if all are trained from their own initial state."""
        return ()

    def provenance(self) -> dict[str, Any]:
        """Which code trains, plain data."""
        return {
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        }

    def check_fit(self, image_set: DataSet) -> None:
        """Refuse an architecture that does not fit what it is to be trained on.

        Raises:
            BuildError: saying what the one takes and the other gives.
        """
        shapes, outputs = self.recipe.architecture.shapes(), output_size(image_set)
        if shapes[0] != image_set.shape or shapes[-1] != (outputs,):
            raise BuildError(
                f"architecture {self.recipe.architecture.name!r} takes {shapes[0]} and gives "
                f"{shapes[-1]}, {image_set.name!r} has shape {image_set.shape} and {outputs} "
                "classes or values"
            )


def train_and_write(
    job: TrainingJob,
    zoo: PartialZoo,
    positions: Sequence[int],
    image_set: DataSet,
    device: str,
    on_epoch: Callable[[int], None] = lambda models: None,
) -> None:
    """Train one cohort and write its rows where they belong."""
    result = train_within_memory(
        lambda part: job.train(part, image_set, device, on_epoch), positions
    )
    write_result(zoo, positions, result)


def write_result(zoo: PartialZoo, positions: Sequence[int], result: CohortResult) -> None:
    """Write what training a cohort gave."""
    metrics = {name: values.numpy() for name, values in result.metrics.items()}
    zoo.write(positions, result.weights.numpy(), metrics)
