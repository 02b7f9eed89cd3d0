"""Fine-tuning: the models of one zoo, trained on with another image set.

Shape letters: M models, D length of the flat vector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ...zoos.errors import BuildError
from ...zoos.format import ZooHeader
from ...zoos.images.catalog import load_images
from ...zoos.index import ZooIndex
from ...zoos.lineage import Lineage
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Linear
from ...zoos.recipe import Model, Recipe
from ..build import Engine, run_job
from ..engines.job import TrainingJob
from ..training.cohort import Cohort, CohortResult, run_cohort
from ..training.objectives import DataSet
from .inheritance import inherited_weights, shared_tensors
from .parents import Condition, Parents, choose_parents


@dataclass(frozen=True, kw_only=True)
class FineTuning(TrainingJob):
    """Train on from the rows of another zoo.

    Attributes:
        parents: the rows; one model of `models` starts from each.
        details: what a recipe does not hold of how the zoo was made, plain data.
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
        """What models start from, (M, D): the parent's tensors, and new ones where shapes differ.

        New ones are drawn as the recipe's `init` says, with the model's seed.
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
        """Train one cohort on from its parents."""
        models = [self.models[position] for position in positions]
        cohort = self.cohort(models, data, device, self.initial(positions))
        return run_cohort(cohort, self.recipe, on_epoch)

    def cohort(
        self, models: Sequence[Model], data: DataSet, device: str, initial: Tensor
    ) -> Cohort:
        """The cohort that trains some models from their initial state, (M, D)."""
        return Cohort(self.recipe, models, data, device, initial)

    def settings(self) -> dict[str, Any]:
        """What decides the result."""
        places = [list(place) for place in self.parents.places]
        return super().settings() | {
            "details": self.details,
            "parent": self.parents.provenance,
            "places": places,
        }

    def header(self) -> ZooHeader:
        """The header: as of a recipe, which says more; splits are those of the parents."""
        header = super().header()
        parent_split = self.parents.files[0].header.split
        return replace(
            header,
            recipe=header.recipe | self.details,
            split=parent_split | {"fractions": self.recipe.split, "from": "the parents"},
        )

    def lineage(self) -> tuple[Lineage, ...]:
        """One parent row each."""
        return self.parents.lineage(self.relation)

    def provenance(self) -> dict[str, Any]:
        """The code, and the parents' zoo."""
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
    """Train a zoo's models on with another image set and write them as a zoo of their own.

    Each starts from the last finite checkpoint of its parent (of those that `where` picks), keeps
    its `model_id`, seed, split and hyper-parameters, and all its tensors, except that a last
    layer for another number of classes is drawn anew (`recipe["fine_tuning"]["redrawn"]`).

    Args:
        source: folder of the parents' zoo.
        out: the zoo folder to make; its last part is the zoo's name.
        images: image set to train on, of the shape that the models take.
        epochs: passes over it.
        checkpoints: epochs to store; None stores all from 0, the parent's weights on the new set.
        where: which parent rows may be taken, see `choose_parents`.
        overrides: hyper-parameters for all models, such as {"lr": 1e-4}.
        engine: where to train.
        overwrite: replace a zoo at `out` when the new one is whole.

    Raises:
        ZooNotFoundError: if there is no zoo at `source`.
        RecipeError: if the image set, an override or a checkpoint is not valid.
        BuildError: if models and images do not fit, no row can be taken, or as `build_zoo`.
    """
    out, source = Path(out), Path(source)
    parents = choose_parents(source, where, overrides)
    architecture = with_head(parents.architecture, load_images(images).classes)
    kept = shared_tensors(architecture, parents.architecture)
    redrawn = [tensor.name for tensor in architecture.layer_table() if tensor.name not in kept]
    recipe = child_recipe(
        parents,
        name=out.name,
        description=f"models of {parents.provenance['name']}, fine-tuned on {images}",
        architecture=architecture,
        images=images,
        epochs=epochs,
        checkpoints=range(epochs + 1) if checkpoints is None else checkpoints,
        overrides=overrides or {},
    )
    details = {"fine_tuning": {"redrawn": redrawn, "left_out": parents.left_out}}
    job = FineTuning(recipe=recipe, models=parents.models, parents=parents, details=details)
    return run_job(job, out, engine or Engine(), overwrite)


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
    """What children are trained by; its factors are those that differ from the parents'."""
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
    """The architecture with a last layer for so many classes.

    Raises:
        BuildError: if it would have to change and is not linear.
    """
    last = architecture.layers[-1]
    if architecture.shapes()[-1] == (classes,):
        return architecture
    if not isinstance(last, Linear):
        raise BuildError(
            f"architecture {architecture.name!r} ends in {last}, which cannot be made to give "
            f"{classes} classes: choose an image set with {architecture.shapes()[-1]} classes"
        )
    return replace(architecture, layers=(*architecture.layers[:-1], replace(last, out=classes)))
