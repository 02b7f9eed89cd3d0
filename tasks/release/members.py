"""Members of a collection: the command that makes each one, and its population before training.

Every class stands for one command of weightzoo. `arguments` gives the words of the command, `make`
does the same in this process; a test parses the words and compares both.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, get_origin

from ...builders.build import Engine, build_zoo
from ...builders.children.fine_tuning import fine_tune_zoo, with_head
from ...builders.children.parents import Condition
from ...builders.children.sparsification import sparsify_zoo
from ...zoos.errors import BuildError, RecipeError
from ...zoos.images.catalog import load_images
from ...zoos.images.glyphs import CLASSES, GLYPH_SETS
from ...zoos.index import ZooIndex
from ...zoos.recipe import Model, Recipe, load_recipe
from ..merging.glue import glue
from ..merging.glue_family import GlueSettings
from ..merging.pools import ZooPool
from ..merging.recipe import ZooRows
from ..merging.zoo_rows import open_zoo_rows
from ..ranking.fine_tuning_matrix import Protocol, finetune_matrix
from ..ranking.matrix import read_matrix
from .matrix_table import write_matrix_table

WORK_NAME = ".release"  # folder beside the members, for records and unfinished work
MATRIX_NAME = "matrix.h5"


@dataclass(frozen=True, kw_only=True)
class Population:
    """Models of a member, known before they are trained.

    Attributes:
        recipe: recipe whose architecture, images, epochs and checkpoints are the member's.
        models: models with their splits.
        exact: whether all of them are made; otherwise their number is an upper limit.
    """

    recipe: Recipe
    models: tuple[Model, ...]
    exact: bool = True

    @property
    def rows(self) -> int:
        """Number of checkpoints of all models."""
        return len(self.models) * len(self.recipe.checkpoints)

    @property
    def width(self) -> int:
        """Length of a weight vector, D."""
        return self.recipe.architecture.layer_table().width

    def first(self, count: int) -> tuple[Model, ...]:
        """The models whose `model_id` is below a number."""
        return tuple(model for model in self.models if model.model_id < count)


@dataclass(frozen=True, kw_only=True)
class Member(ABC):
    """A part of a collection that one command makes.

    Attributes:
        name: name of its folder, and of its config on the Hub.
        about: description in one line, for the card.
        parents: names of the members that the command reads.
    """

    command: ClassVar[str] = ""

    name: str
    about: str
    parents: tuple[str, ...] = ()

    @abstractmethod
    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""

    @abstractmethod
    def population(self, parents: Sequence[Population]) -> Population:
        """Models of the member.

        Args:
            parents: populations of the parents, in their order.
        """

    @abstractmethod
    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Make the member, or continue with it.

        Args:
            folder: folder of the collection, which holds the parents.
            workers: number of worker processes; None takes one per core.
            progress: whether to show progress bars on stderr.
        """


@dataclass(frozen=True, kw_only=True)
class Build(Member):
    """A population that is trained from a recipe.

    Attributes:
        recipe: name of a shipped recipe, or path of a .toml file.
        models: number of models.
    """

    command: ClassVar[str] = "build"

    recipe: str
    models: int

    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""
        return ["build", self.recipe, "--models", str(self.models), "--out", self.name]

    def population(self, parents: Sequence[Population]) -> Population:
        """Models of the recipe.

        Args:
            parents: nothing.
        """
        recipe = load_recipe(self.recipe)
        return Population(recipe=recipe, models=tuple(recipe.models(self.models)))

    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Train the population, or continue with it.

        Args:
            folder: folder of the collection.
            workers: number of worker processes; None takes one per core.
            progress: whether to show progress bars on stderr.
        """
        build_zoo(
            load_recipe(self.recipe),
            folder / self.name,
            models=self.models,
            workers=workers,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class _Child(Member):
    """Models that start from the first models of a parent.

    Attributes:
        models: limit of the parents' `model_id`.
        epochs: number of passes over the train images.
        checkpoints: epochs whose weights are stored.
    """

    models: int
    epochs: int
    checkpoints: tuple[int, ...]

    @property
    def where(self) -> Condition:
        """Condition on the parent rows."""
        return lambda columns: columns["model_id"] < self.models

    def _shared_arguments(self) -> list[str]:
        words = ["--epochs", str(self.epochs), "--checkpoints", *map(str, self.checkpoints)]
        return [*words, "--where", f"model_id < {self.models}", "--out", self.name]

    def _population(self, parent: Population, images: str | None = None) -> Population:
        recipe, models = parent.recipe, parent.first(self.models)
        architecture = recipe.architecture
        if images is not None:
            architecture = with_head(architecture, class_count(images))
        changed = replace(
            recipe,
            name=self.name,
            architecture=architecture,
            images=images or recipe.images,
            epochs=self.epochs,
            checkpoints=self.checkpoints,
        )
        return Population(recipe=changed, models=models)


def class_count(images: str) -> int:
    """Number of classes of an image set; glyphs take seconds to draw."""
    return CLASSES if images in GLYPH_SETS else load_images(images).classes


@dataclass(frozen=True, kw_only=True)
class FineTune(_Child):
    """Models of a parent that are fine-tuned on another image set.

    Attributes:
        images: image set to train on.
    """

    command: ClassVar[str] = "finetune"

    images: str

    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""
        return ["finetune", *self.parents, "--images", self.images, *self._shared_arguments()]

    def population(self, parents: Sequence[Population]) -> Population:
        """The parent's first models, on the other images.

        Args:
            parents: population of the one parent.
        """
        return self._population(parents[0], self.images)

    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Fine-tune the models, or continue with it.

        Args:
            folder: folder of the collection, which holds the parent.
            workers: number of worker processes; None takes one per core.
            progress: whether to show progress bars on stderr.
        """
        fine_tune_zoo(
            folder / self.parents[0],
            folder / self.name,
            images=self.images,
            epochs=self.epochs,
            checkpoints=self.checkpoints,
            where=self.where,
            engine=Engine(workers=workers, progress=progress),
        )


@dataclass(frozen=True, kw_only=True)
class Sparsify(_Child):
    """Sparse twins of a parent's models, by magnitude pruning.

    Attributes:
        sparsity: final share of pruned weights.
    """

    command: ClassVar[str] = "sparsify"

    sparsity: float

    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""
        method = ["--method", "magnitude", "--sparsity", str(self.sparsity)]
        return ["sparsify", *self.parents, *method, *self._shared_arguments()]

    def population(self, parents: Sequence[Population]) -> Population:
        """The parent's first models.

        Args:
            parents: population of the one parent.
        """
        return self._population(parents[0])

    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Prune the models, or continue with it.

        Args:
            folder: folder of the collection, which holds the parent.
            workers: number of worker processes; None takes one per core.
            progress: whether to show progress bars on stderr.
        """
        sparsify_zoo(
            folder / self.parents[0],
            folder / self.name,
            method="magnitude",
            sparsity=self.sparsity,
            epochs=self.epochs,
            checkpoints=self.checkpoints,
            where=self.where,
            engine=Engine(workers=workers, progress=progress),
        )


@dataclass(frozen=True, kw_only=True)
class Glue(Member):
    """Merges of a parent's families, by `weightzoo glue`.

    Attributes:
        budget: most evaluations of every search strategy in every family.
    """

    command: ClassVar[str] = "glue"

    budget: int

    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""
        return ["glue", *self.parents, "--budget", str(self.budget), "--out", self.name]

    def population(self, parents: Sequence[Population]) -> Population:
        """One merge per seed of the parent at most: models of different seeds are no relatives.

        Args:
            parents: population of the one parent.
        """
        by_seed = {model.seed: model for model in parents[0].models}
        recipe = replace(parents[0].recipe, name=self.name, checkpoints=(0,))
        return Population(recipe=recipe, models=tuple(by_seed.values()), exact=False)

    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Find the families, merge inside each, and keep the zoo of merges.

        Args:
            folder: folder of the collection, which holds the parent.
            workers: ignored; everything runs in this process.
            progress: ignored.

        Raises:
            BuildError: if no family has a merge that is better than its best member.
        """
        work = folder / WORK_NAME / self.name
        rows, _ = open_zoo_rows(ZooRows(path=str(folder / self.parents[0])))
        glue(ZooPool(rows), work, GlueSettings(budget=self.budget))
        merged = work / "merged"
        if not merged.exists():
            raise BuildError(
                f"{self.name}: no family of {self.parents[0]} has a merge that is better than its "
                "best member on val images: take another parent or a larger budget"
            )
        replace(ZooIndex.read(merged), name=self.name).write(merged)
        for picture in ("families.png", "report.png"):
            if (work / picture).exists():
                (merged / picture).write_bytes((work / picture).read_bytes())
        merged.rename(folder / self.name)


@dataclass(frozen=True, kw_only=True)
class RankingMatrix(Member):
    """Accuracies of all models of the parents after fine-tuning on every target.

    Attributes:
        targets: target tasks.
        seeds: fine-tunings of each cell.
        epochs: passes over a target's train images.
        rates: learning rates, chosen on val images.
        shots: train images per class.
    """

    command: ClassVar[str] = "finetune-matrix"

    targets: tuple[str, ...]
    seeds: int
    epochs: int
    rates: tuple[float, ...]
    shots: int

    @property
    def protocol(self) -> Protocol:
        """Settings of every fine-tuning."""
        return Protocol(epochs=self.epochs, rates=self.rates, shots=self.shots, seeds=self.seeds)

    def arguments(self) -> list[str]:
        """Words of the command after "weightzoo", given in the folder of the collection."""
        sizes = {"seeds": self.seeds, "epochs": self.epochs, "shots": self.shots}
        words = [word for key, size in sizes.items() for word in (f"--{key}", str(size))]
        rates = ["--rates", *map(str, self.rates)]
        out = ["--out", f"{self.name}.h5"]
        return ["finetune-matrix", *self.parents, "--targets", *self.targets, *words, *rates, *out]

    def population(self, parents: Sequence[Population]) -> Population:
        """All models of the parents; the recipe is that of the first.

        Args:
            parents: populations of the parents.
        """
        models = tuple(model for parent in parents for model in parent.models)
        return Population(recipe=parents[0].recipe, models=models)

    def make(self, folder: Path, workers: int | None, progress: bool) -> None:
        """Fine-tune every model on every target, or continue with it.

        Args:
            folder: folder of the collection, which holds the parents.
            workers: number of worker processes; None takes one per core.
            progress: whether to show progress bars on stderr.
        """
        import os
        import shutil

        work = folder / WORK_NAME / self.name
        work.mkdir(parents=True, exist_ok=True)
        path = work / MATRIX_NAME
        if path.exists():  # a run was killed after its last fine-tuning
            shutil.rmtree(work / f"{MATRIX_NAME}.parts", ignore_errors=True)
            matrix = read_matrix(path)
        else:
            matrix = finetune_matrix(
                [folder / parent for parent in self.parents],
                list(self.targets),
                path,
                self.protocol,
                workers=workers or os.cpu_count() or 1,
                progress=progress,
            )
        write_matrix_table(work, matrix)
        work.rename(folder / self.name)


COMMANDS: dict[str, type[Member]] = {
    kind.command: kind for kind in (Build, FineTune, Sparsify, Glue, RankingMatrix)
}


def read_member(data: Any) -> Member:
    """Check plain data as a member.

    Raises:
        RecipeError: if the command is unknown, or a key is unknown, missing or of another type.
    """
    command = data.get("command") if isinstance(data, dict) else None
    if not isinstance(command, str) or command not in COMMANDS:
        raise RecipeError(f"a member has a command of {list(COMMANDS)}, got {data!r}")
    kind: Any = COMMANDS[command]
    known = {field.name: field for field in fields(kind)}
    given = {key: value for key, value in data.items() if key != "command"}
    needed = [name for name, field in known.items() if field.default is MISSING]
    odd, lacking = sorted(set(given) - set(known)), sorted(set(needed) - set(given))
    if odd or lacking:
        wrong = f"unknown {odd}" if odd else f"lacks {lacking}"
        raise RecipeError(f"a member with command {command!r} has {list(known)}: {wrong}")
    for key, value in given.items():
        wanted: Any = get_origin(known[key].type) or known[key].type
        if type(value) is not (list if wanted is tuple else wanted):
            name = "a list" if wanted is tuple else wanted.__name__
            raise RecipeError(f"{key} of {data.get('name')!r} must be {name}, got {value!r}")
    values = {key: tuple(one) if isinstance(one, list) else one for key, one in given.items()}
    member: Member = kind(**values)
    return member
