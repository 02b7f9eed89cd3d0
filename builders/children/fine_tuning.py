"""Fine-tuning: training of one zoo's models continues on another image set.

Shape letters: M models, D length of the flat vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from ...zoos.errors import BuildError
from ...zoos.format import ZooHeader
from ...zoos.index import ZooIndex
from ...zoos.lineage import Lineage
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Linear
from ...zoos.recipe import Model, Recipe
from ..build import Engine, run_job
from ..engines.job import TrainingJob
from ..training.cohort import Cohort, CohortResult, run_cohort
from ..training.objectives import DataSet, load_data, output_size
from .inheritance import inherited_weights, shared_tensors
from .parents import Condition, Parents, choose_parents


@dataclass(frozen=True, kw_only=True)
class FineTuning(TrainingJob):
    """Training that starts from rows of another zoo.

    Attributes:
        parents: rows to start from, one for each model of `models`.
        details: plain data on the zoo's origin that a recipe does not hold.
    """

    command: ClassVar[str] = "finetune"
    relation: ClassVar[str] = "fine-tuned"

    parents: Parents
    details: dict[str, Any]

    @property
    def source(self) -> str:
        """The name of the parents' zoo."""
        return str(self.parents.provenance["name"])

    def initial(self, positions: Sequence[int]) -> Tensor:
        """Initial weights, (M, D): the parent's tensors, and new ones where shapes differ.

        New tensors are drawn by the recipe's `init`, with the model's seed.
        """
        models = [self.models[position] for position in positions]
        rows = self.parents.weights(positions)
        return inherited_weights(self.recipe.architecture, models, self.parents.architecture, rows)

    def train(
        self,
        positions: Sequence[int],
        data: DataSet,
        device: str,
        on_epoch: Callable[[int], None] = lambda models: None,
    ) -> CohortResult:
        """Train one cohort, starting from its parents.

        Args:
            positions: positions of its models in the population.
            data: image set or signal set of the job.
            device: training device.
            on_epoch: function called after every epoch with the number of models.
        """
        models = [self.models[position] for position in positions]
        cohort = self.cohort(models, data, device, self.initial(positions))
        return run_cohort(cohort, self.recipe, on_epoch)

    def cohort(
        self, models: Sequence[Model], data: DataSet, device: str, initial: Tensor
    ) -> Cohort:
        """Make the cohort that trains some models.

        Args:
            models: M models.
            data: image set or signal set of the job.
            device: training device.
            initial: initial weights, (M, D).
        """
        return Cohort(self.recipe, models, data, device, initial)

    def with_code(self, image_set: DataSet, device: str) -> Self:
        """The job as it is: torch's operations train children, whose training is short.

        Args:
            image_set: image set or signal set of the job.
            device: training device.
        """
        return self

    def settings(self) -> dict[str, Any]:
        """Settings that decide the result, plain data."""
        places = [list(index) for index in self.parents.row_indices]
        return super().settings() | {
            "details": self.details,
            "parent": self.parents.provenance,
            "places": places,
        }

    def header(self) -> ZooHeader:
        """The header of the zoo's files, with `details` in the recipe and the parents' splits."""
        header = super().header()
        parent_split = self.parents.files[0].header.split
        return replace(
            header,
            recipe=header.recipe | self.details,
            split=parent_split | {"fractions": self.recipe.split, "from": "the parents"},
        )

    def lineage(self) -> tuple[Lineage, ...]:
        """Lineage of each model: its parent row."""
        return self.parents.lineage(self.relation)

    def provenance(self) -> dict[str, Any]:
        """Versions of the code, and the parents' zoo."""
        return super().provenance() | {"parent": self.parents.provenance}


def fine_tune_zoo(
    source: Path | str,
    out: Path | str,
    *,
    images: str,
    epochs: int,
    checkpoints: Sequence[int] | None = None,
    where: Condition | None = None,
    overrides: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> ZooIndex:
    """Fine-tune a zoo's models on another image set and write them as a new zoo.

    Each model starts from the last finite checkpoint of its parent (among those that `where`
    selects). It keeps `model_id`, seed, split and hyper-parameters, and all tensors, except that
    a last layer for another number of classes is drawn anew
    (`recipe["fine_tuning"]["redrawn"]`).

    Args:
        source: folder of the parents' zoo.
        out: path of the new zoo folder; its last part is the zoo's name.
        images: image set to train on, of the models' input shape.
        epochs: number of passes over the train images.
        checkpoints: epochs to store; None stores all from 0, the parent's weights.
        where: condition on the parent rows, see `choose_parents`.
        overrides: hyper-parameters for all models, such as {"lr": 1e-4}.
        engine: engine that trains the cohorts; None trains on the CPU of this machine.
        overwrite: replace a zoo at `out` when the new one is complete.

    Raises:
        ZooNotFoundError: if there is no zoo at `source`.
        RecipeError: if the image set, an override or a checkpoint is not valid.
        BuildError: if models and images do not fit, no row is usable, or as in `build_zoo`.
    """
    job = fine_tuning_job(
        source,
        Path(out).name,
        images=images,
        epochs=epochs,
        checkpoints=checkpoints,
        where=where,
        overrides=overrides,
    )
    return run_job(job, out, engine or Engine(), overwrite)


def fine_tuning_job(
    source: Path | str,
    name: str,
    *,
    images: str,
    epochs: int,
    checkpoints: Sequence[int] | None = None,
    where: Condition | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> FineTuning:
    """The training job of `fine_tune_zoo`, for `shard_build.run_shard`.

    Args:
        source: folder of the parents' zoo.
        name: name of the new zoo.
        images: image set to train on, of the models' input shape.
        epochs: number of passes over the train images.
        checkpoints: epochs to store; None stores all from 0, the parent's weights.
        where: condition on the parent rows, see `choose_parents`.
        overrides: hyper-parameters for all models, such as {"lr": 1e-4}.

    Raises:
        ZooNotFoundError: if there is no zoo at `source`.
        RecipeError: if the image set, an override or a checkpoint is not valid.
        BuildError: if the last layer cannot be changed, or no row is usable.
    """
    parents = choose_parents(Path(source), where, overrides)
    architecture = with_head(parents.architecture, output_size(load_data(images)))
    kept = shared_tensors(architecture, parents.architecture)
    redrawn = [tensor.name for tensor in architecture.layer_table() if tensor.name not in kept]
    recipe = child_recipe(
        parents,
        name=name,
        description=f"models of {parents.provenance['name']}, fine-tuned on {images}",
        architecture=architecture,
        images=images,
        epochs=epochs,
        checkpoints=range(epochs + 1) if checkpoints is None else checkpoints,
        overrides=overrides or {},
    )
    details = {"fine_tuning": {"redrawn": redrawn, "left_out": parents.left_out}}
    return FineTuning(recipe=recipe, models=parents.models, parents=parents, details=details)


def child_recipe(
    parents: Parents,
    *,
    name: str,
    description: str,
    architecture: Architecture,
    images: str,
    epochs: int,
    checkpoints: Sequence[int],
    overrides: Mapping[str, Any],
) -> Recipe:
    """Make the recipe of a child zoo; its factors are the changed hyper-parameters.

    Args:
        parents: parent rows.
        name: name of the child zoo.
        description: description in one line.
        architecture: architecture of the children.
        images: name of the image set or signal set.
        epochs: number of passes over the train images.
        checkpoints: epochs to store.
        overrides: hyper-parameters that replace the parents'.
    """
    data = {
        "name": name,
        "description": description,
        "architecture": architecture.to_json(),
        "images": images,
        "epochs": epochs,
        "checkpoints": list(checkpoints),
        "factors": dict(overrides),
        "seeds": len(parents.models),
        "split": parents.split_shares(),
    }
    return Recipe.from_json(data)


def with_head(architecture: Architecture, classes: int) -> Architecture:
    """Give an architecture a last layer for another number of classes.

    Args:
        architecture: architecture of the parents.
        classes: number of classes.

    Raises:
        BuildError: if the last layer must change and is not linear.
    """
    last = architecture.layers[-1]
    if architecture.shapes()[-1] == (classes,):
        return architecture
    if not isinstance(last, Linear):
        raise BuildError(
            f"architecture {architecture.name!r} ends in {last}, which cannot be changed to "
            f"{classes} classes: choose an image set with {architecture.shapes()[-1]} classes"
        )
    return replace(architecture, layers=(*architecture.layers[:-1], replace(last, out=classes)))
