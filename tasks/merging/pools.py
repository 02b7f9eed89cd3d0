"""Pools that `weightzoo glue` works on: rows of a zoo, or checkpoint folders with a command.

A pool knows its members, says which belong together, and evaluates a merge of some of them on val
or test data.

Shape letters: M members.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ...loaders import HiddenPermutations, ZooDataset, align
from ...loaders.collections import ModelCollection, ZooMember
from ...zoos.errors import MergeError
from ...zoos.tensors.adapters import is_adapter
from ..autoencoding.behaviour import accuracies
from .families import Families, find_families, find_zoo_families
from .merge import merge_checkpoints
from .merged_zoo import measured_on
from .methods import merged
from .recipe import MergeRecipe, read_merge_recipe
from .settings import read_settings
from .zoo_rows import StateMember

EVALUATORS = ("accuracy", "loss")


@dataclass(frozen=True)
class Candidate:
    """A merge of P members.

    Attributes:
        weights: weights of the members, (P,), of a weighted sum.
        scale: factor of the summed task vectors; None for a weighted sum.
    """

    weights: tuple[float, ...] = ()
    scale: float | None = None

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Candidate":
        """A candidate of a report."""
        return cls(tuple(plain.get("weights", ())), plain.get("scale"))

    @property
    def is_merge(self) -> bool:
        """Whether more than one member is in it."""
        return self.scale is not None or sum(weight > 0 for weight in self.weights) > 1

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        if self.scale is not None:
            return {"method": "task_arithmetic", "scale": self.scale}
        return {"method": "weighted", "weights": list(self.weights)}


class Pool(Protocol):
    """Models to merge.

    Attributes:
        names: names of the M members.
    """

    names: tuple[str, ...]

    @property
    def base_name(self) -> str:
        """Name of the model that the members were trained from; "" if it is unknown."""

    def families(self, seed: int) -> Families:
        """Which members belong together."""

    def evaluate(self, members: Sequence[int], candidate: Candidate, split: str) -> float:
        """The score of a merge of members on "val" or "test"; larger is better.

        Args:
            members: numbers of the merged members.
            candidate: weights or scale of the merge.
            split: "val" or "test".
        """


class ZooPool:
    """Rows of a zoo, measured on its image set."""

    def __init__(
        self,
        zoo: ZooDataset,
        evaluator: str = "accuracy",
        aligned: bool = False,
        base: ZooMember | None = None,
        images: str = "",
    ) -> None:
        """Take rows.

        Args:
            zoo: M rows of one architecture.
            evaluator: "accuracy", or "loss", whose negative is the score.
            aligned: reorder the hidden units of a family's members to its first one.
            base: row that the members were trained from, if it is known.
            images: name of the images or text to measure on; "" takes the zoo's.

        Raises:
            MergeError: if the evaluator is unknown or the architecture is not known, or a base is
                given for members that are to be aligned.
        """
        if evaluator not in EVALUATORS:
            raise MergeError(f"for a zoo --evaluate is one of {EVALUATORS}, got {evaluator!r}")
        if zoo.header.architecture is None:
            raise MergeError(f"zoo {zoo.name!r} holds no architecture to measure its models with")
        if aligned and base is not None:
            raise MergeError("children of one base need no alignment: leave out --align or --base")
        self.zoo, self.evaluator, self.aligned, self.base = zoo, evaluator, aligned, base
        self.architecture, self.images = zoo.header.architecture, measured_on(zoo, images)
        ids = zoo.hidden_column("model_id", "glue").tolist()
        epochs = zoo.hidden_column("epoch", "glue").tolist()
        self.names = tuple(f"{zoo.name}:{i}@{e}" for i, e in zip(ids, epochs, strict=True))
        self.activations = [str(name) for name in zoo.hidden_column("activation", "glue")]
        self._rows = zoo.weights()

    def families(self, seed: int) -> Families:
        """By the similarity of columns, after alignment if asked for."""
        return find_zoo_families(self.zoo, aligned=self.aligned, seed=seed)

    def rows(self, members: Sequence[int]) -> Tensor:
        """Flat weights of some members, aligned to the first if asked for."""
        rows = self._rows[list(members)]
        if not self.aligned or len(members) == 1:
            return rows
        return align(rows, rows[0], HiddenPermutations.of(self.architecture))[0]

    @property
    def base_name(self) -> str:
        """Name of the base row; "" if none was given."""
        return "" if self.base is None else self.base.name

    def merged(self, members: Sequence[int], candidate: Candidate) -> Tensor:
        """(D,): the merge of some members.

        Args:
            members: numbers of the merged members.
            candidate: weights or scale of the merge.
        """
        if candidate.scale is None:
            return torch.tensor(candidate.weights, dtype=torch.float32) @ self.rows(members)
        table, base = self.zoo.layer_table, self.base
        parts = [StateMember(str(i), table.state_dict(r)) for i, r in enumerate(self.rows(members))]
        settings = read_settings("task_arithmetic", {"scale": candidate.scale})
        return table.flatten(merged("task_arithmetic", ModelCollection(parts, base), settings))

    def evaluate(self, members: Sequence[int], candidate: Candidate, split: str) -> float:
        """Accuracy, or minus the loss, on the images of a split.

        Args:
            members: numbers of the merged members.
            candidate: weights or scale of the merge.
            split: "val" or "test".
        """
        row, name = self.merged(members, candidate), self.activations[members[0]]
        images = getattr(self.images, split)
        loss, accuracy = accuracies(self.architecture, row[None], [name], images)[:, 0].tolist()
        return accuracy if self.evaluator == "accuracy" else -loss


class CheckpointPool:
    """Checkpoint folders, measured by a command that prints a number."""

    def __init__(
        self, collection: ModelCollection, scratch: Path, commands: dict[str, str]
    ) -> None:
        """Take checkpoints.

        Args:
            collection: M members, and the base if it is known.
            scratch: folder for merges that are evaluated, deleted after each.
            commands: command of each split; `{model}` stands for the folder of the merge. The last
                line that a command prints is its score, larger is better.
        """
        self.collection, self.scratch, self.commands = collection, scratch, commands
        self.names = tuple(member.name for member in collection.members)

    def families(self, seed: int) -> Families:
        """By the similarity of columns."""
        return find_families(self.collection, seed=seed)

    @property
    def base_name(self) -> str:
        """Folder of the base; "" if there is none."""
        return "" if self.collection.base is None else self.collection.base.name

    def recipe(self, members: Sequence[int], candidate: Candidate) -> MergeRecipe:
        """The recipe of a merge.

        Args:
            members: numbers of the merged members.
            candidate: weights or scale of the merge.
        """
        plain: dict[str, Any] = {"base": self.base_name}
        if candidate.scale is not None:
            plain |= {
                "method": "task_arithmetic",
                "members": [self.names[member] for member in members],
                "settings": {"scale": candidate.scale},
            }
            return read_merge_recipe(plain)
        pairs = zip(members, candidate.weights, strict=True)
        used = [(self.names[member], weight) for member, weight in pairs if weight]
        plain |= {
            "method": "weighted",
            "members": [name for name, _ in used],
            "settings": {"weights": [weight for _, weight in used]},
        }
        return read_merge_recipe(plain)

    def evaluate(self, members: Sequence[int], candidate: Candidate, split: str) -> float:
        """Merge into the scratch folder, run the command, read its last line.

        Args:
            members: numbers of the merged members.
            candidate: weights or scale of the merge.
            split: "val" or "test".

        Raises:
            MergeError: if the command fails or prints no number.
        """
        recipe = self.recipe(members, candidate)
        single, whole = Path(recipe.members[0]), recipe.settings.weights == (1.0,)
        if len(recipe.members) == 1 and whole and single.exists() and not is_adapter(single):
            return self._run(single, split)  # a member on the Hub is copied as any merge
        folder = self.scratch / "candidate"
        shutil.rmtree(folder, ignore_errors=True)
        merge_checkpoints(recipe, folder, overwrite=True)
        try:
            return self._run(folder, split)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path, split: str) -> float:
        parts = [part.replace("{model}", str(folder)) for part in shlex.split(self.commands[split])]
        done = subprocess.run(parts, capture_output=True, text=True)
        lines = done.stdout.strip().splitlines()
        try:
            if done.returncode:
                raise ValueError(f"exit status {done.returncode}")
            return float(json.loads(lines[-1]))
        except (ValueError, TypeError, IndexError) as error:
            raise MergeError(
                f"the command {shlex.join(parts)!r} must print a number in its last line, "
                f"{error}: {(done.stderr or done.stdout).strip()[-300:]!r}"
            ) from error
