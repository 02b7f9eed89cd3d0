"""Sparse twins: the models of a zoo, pruned step by step in further training.

The twins of the Model Zoos (arXiv:2209.14764) start from the last checkpoint of every model and
record 25 epochs of variational dropout; magnitude pruning follows Zhu and Gupta 2017.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ...zoos.errors import BuildError
from ...zoos.index import ZooIndex
from ...zoos.recipe import Model
from ..build import Engine, run_job
from ..training.cohort import Cohort
from ..training.objectives import DataSet
from .fine_tuning import FineTuning, child_recipe
from .parents import Condition, Parents, choose_parents
from .pruning import MagnitudePruning
from .variational_dropout import THRESHOLD, VariationalDropout

METHODS = ("variational-dropout", "magnitude")
EPOCHS = 25
SPARSITY = 0.8
# The divergence replaces weight decay, and the learnt noise replaces dropout.
VARIATIONAL = {
    "optimizer": "adam",
    "schedule": "constant",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "dropout": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Sparsification(FineTuning):
    """Pruning of another zoo's rows.

    Attributes:
        method: name of the method, one of `METHODS`.
        sparsity: final share of pruned weights; None for variational dropout, which finds it.
    """

    command: ClassVar[str] = "sparsify"
    relation: ClassVar[str] = "pruned"
    measures: ClassVar[tuple[str, ...]] = ("sparsity",)

    method: str
    sparsity: float | None

    def cohort(
        self, models: Sequence[Model], data: DataSet, device: str, initial: Tensor
    ) -> Cohort:
        """Make the cohort that prunes some models.

        Args:
            models: M models.
            data: image set or signal set of the job.
            device: training device.
            initial: initial weights, (M, D).
        """
        if self.sparsity is None:
            return VariationalDropout(self.recipe, models, data, device, initial)
        return MagnitudePruning(self.recipe, models, data, device, initial, self.sparsity)

    def settings(self) -> dict[str, Any]:
        """Settings that decide the result, plain data."""
        return super().settings() | {"method": self.method, "sparsity": self.sparsity}


def sparsify_zoo(
    source: Path | str,
    out: Path | str,
    *,
    method: str,
    epochs: int = EPOCHS,
    sparsity: float | None = None,
    images: str | None = None,
    checkpoints: Sequence[int] | None = None,
    where: Condition | None = None,
    overrides: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> ZooIndex:
    """Prune a zoo's models in further training, and write the twins as a new zoo.

    Each twin starts from the last finite checkpoint of its parent (among those that `where`
    selects) and keeps `model_id`, seed and split. Weights and accuracies of a row are those of
    the pruned network; `sparsity` is the pruned share of the weights of its conv and linear
    layers.

    Args:
        source: folder of the parents' zoo.
        out: path of the new zoo folder; its last part is the zoo's name.
        method: method name, "variational-dropout" (Adam, see `VARIATIONAL`) or "magnitude" (the
            parents' own hyper-parameters).
        epochs: number of epochs of pruning.
        sparsity: final share of pruned weights with "magnitude"; None takes `SPARSITY`.
        images: name of the image set; None takes the parents'.
        checkpoints: epochs to store; None stores all from 1.
        where: condition on the parent rows, see `choose_parents`.
        overrides: hyper-parameters for all models, such as {"lr": 1e-3}.
        engine: engine that trains the cohorts; None trains on the CPU of this machine.
        overwrite: replace a zoo at `out` when the new one is complete.

    Raises:
        ZooNotFoundError: if there is no zoo at `source`.
        RecipeError: if the image set, an override or a checkpoint is not valid.
        BuildError: if the method or sparsity is not valid, models and images do not fit, no row
            is usable, or as in `build_zoo`.
    """
    job = sparsification_job(
        source,
        Path(out).name,
        method=method,
        epochs=epochs,
        sparsity=sparsity,
        images=images,
        checkpoints=checkpoints,
        where=where,
        overrides=overrides,
    )
    return run_job(job, out, engine or Engine(), overwrite)


def sparsification_job(
    source: Path | str,
    name: str,
    *,
    method: str,
    epochs: int = EPOCHS,
    sparsity: float | None = None,
    images: str | None = None,
    checkpoints: Sequence[int] | None = None,
    where: Condition | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Sparsification:
    """The training job of `sparsify_zoo`, for `shard_build.run_shard`.

    Args:
        source: folder of the parents' zoo.
        name: name of the new zoo.
        method: method name, as in `sparsify_zoo`.
        epochs: number of epochs of pruning.
        sparsity: final share of pruned weights with "magnitude"; None takes `SPARSITY`.
        images: name of the image set; None takes the parents'.
        checkpoints: epochs to store; None stores all from 1.
        where: condition on the parent rows, see `choose_parents`.
        overrides: hyper-parameters for all models, such as {"lr": 1e-3}.

    Raises:
        ZooNotFoundError: if there is no zoo at `source`.
        RecipeError: if the image set, an override or a checkpoint is not valid.
        BuildError: if the method or sparsity is not valid, or no row is usable.
    """
    share = _final_sparsity(method, sparsity)
    changed = (VARIATIONAL if share is None else {}) | dict(overrides or {})
    parents = choose_parents(Path(source), where, changed)
    details: dict[str, Any] = {"method": method, "left_out": parents.left_out}
    details |= {"threshold": THRESHOLD} if share is None else {"sparsity": share}
    recipe = child_recipe(
        parents,
        name=name,
        description=f"models of {parents.provenance['name']}, pruned by {method}",
        architecture=parents.architecture,
        images=images or _own_images(parents),
        epochs=epochs,
        checkpoints=range(1, epochs + 1) if checkpoints is None else checkpoints,
        overrides=changed,
    )
    return Sparsification(
        recipe=recipe,
        models=parents.models,
        parents=parents,
        details={"sparsification": details},
        method=method,
        sparsity=share,
    )


def _final_sparsity(method: str, sparsity: float | None) -> float | None:
    """Final share of pruned weights, or None where the method finds it."""
    if method not in METHODS:
        raise BuildError(f"method must be one of {METHODS}, got {method!r}")
    if method != "magnitude":
        if sparsity is not None:
            raise BuildError(f"{method} finds the sparsity itself: leave it out, got {sparsity!r}")
        return None
    share = SPARSITY if sparsity is None else sparsity
    if not 0 < share < 1:
        raise BuildError(f"sparsity must be a fraction between 0 and 1, got {sparsity!r}")
    return share


def _own_images(parents: Parents) -> str:
    if not parents.images:
        raise BuildError(
            f"{parents.provenance['name']} does not name its image set: give an image set"
        )
    return parents.images
