"""Zoos of a benchmark, built once from embedded image sets, or given by the user."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..builders.build import build_zoo
from ..loaders import ZooDataset
from ..loaders.load import load_zoo
from ..tasks.scoring.accuracy_ceilings import accuracy_ceilings
from ..tasks.scoring.metrics import tau_ceiling
from ..tasks.scoring.targets import is_category
from ..zoos.errors import ZooError
from ..zoos.format import SPLITS
from ..zoos.provenance import commit, package_version
from ..zoos.recipe import Recipe, load_recipe

Zoo = Mapping[str, Any]  # ZooDataset by split
SHARES = {"train": 0.55, "val": 0.15, "test": 0.3}


@dataclass(frozen=True, kw_only=True)
class ZooPlan:
    """A zoo that a benchmark builds if its folder is missing.

    Attributes:
        name: name of the folder and of the zoo in the tables.
        recipe: recipe of the population.
        models: number of models.
    """

    name: str
    recipe: Recipe
    models: int


def plan(name: str, recipe: str, models: int, seed: int, **changes: Any) -> ZooPlan:
    """Plan of a shipped recipe with another seed, image set or size.

    Args:
        name: name of the zoo.
        recipe: name of the shipped recipe.
        models: number of models to train.
        seed: seed of the population. Zoos of one benchmark need different seeds, because models
            of equal seed and architecture start from equal weights.
        **changes: other fields of the recipe; `split` is `SHARES` unless it is given.
    """
    changed = {"split": SHARES} | changes
    return ZooPlan(
        name=name,
        recipe=replace(load_recipe(recipe), name=name, seed=seed, **changed),
        models=models,
    )


def provide_zoos(
    plans: Sequence[ZooPlan], folder: Path, workers: int = 1, progress: bool = True
) -> dict[str, Path]:
    """Build the planned zoos that are not in the folder yet.

    Args:
        plans: planned zoos.
        folder: folder that holds one zoo folder per plan.
        workers: number of worker processes.
        progress: whether to show progress on stderr.

    Returns:
        The zoo folders by name.

    Raises:
        ZooError: if a folder holds another zoo, or a build fails.
    """
    return {
        plan.name: build_once(plan.recipe, folder / plan.name, plan.models, workers, progress)
        for plan in plans
    }


def build_once(
    recipe: Recipe, folder: Path, models: int, workers: int | None = None, progress: bool = True
) -> Path:
    """Build a zoo, or use the same zoo of an earlier run, possibly built by other code.

    Args:
        recipe: recipe of the population.
        folder: zoo folder.
        models: number of models.
        workers: number of worker processes; None takes one per core.
        progress: whether to show progress on stderr.

    Returns:
        The zoo folder.

    Raises:
        ZooError: if the folder holds a zoo of another recipe or size, or the build fails.
    """
    if not folder.exists():
        build_zoo(recipe, folder, models=models, workers=workers, progress=progress)
        return folder
    zoo = load_zoo(folder)
    held = sum(len(np.unique(split.columns["model_id"])) for split in zoo.values())
    if held != models or next(iter(zoo.values())).header.recipe != recipe.to_json():
        raise ZooError(f"{folder} holds another zoo ({held} models): choose another --out")
    warn_of_other_code(folder, next(iter(zoo.values())).header.provenance)
    return folder


def warn_of_other_code(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Warn on stderr if a reused zoo was built by another version or commit.

    Args:
        folder: zoo folder.
        provenance: provenance in the header of the zoo.
    """
    built, here = (
        f"weightzoo {code.get('weightzoo') or '(no version known)'} "
        f"{(code.get('commit') or '')[:10] or '(no commit known)'}"
        for code in (provenance, {"weightzoo": package_version(), "commit": commit()})
    )
    if built != here:
        print(
            f"weightzoo: {folder} was built by {built}, this is {here}: it is used unchanged; "
            "delete it to build it again",
            file=sys.stderr,
        )


def describe_zoo(path: Path, target: str) -> dict[str, Any]:
    """Description of a zoo for the report: counts by split; mean and ceiling of the target.

    Args:
        path: zoo folder or file.
        target: main target of the benchmark.

    Raises:
        ValueError: if the zoo lacks a split.
        ZooError: if the zoo cannot be read.
    """
    zoo = load_zoo(path)
    if missing := [split for split in SPLITS if split not in zoo]:
        raise ValueError(f"zoo {path} has no split {missing}: a benchmark needs all three")
    first = zoo["train"]
    header = first.header
    return {
        "path": str(path),
        "architecture": header.architecture.name if header.architecture else "unknown",
        "parameters": first.layer_table.parameters,
        "images": (header.provenance.get("images") or {}).get("name"),
        "splitting": dict(first.splitting),
        "built_by": {key: header.provenance.get(key) for key in ("weightzoo", "commit")},
        "models": {split: len(np.unique(rows.columns["model_id"])) for split, rows in zoo.items()},
        "rows": {split: len(rows) for split, rows in zoo.items()},
        "target": _describe_target(target, zoo["test"].columns.get(target)),
    } | _accuracy_ceilings(zoo["test"], target)


def _describe_target(target: str, true: np.ndarray | None) -> dict[str, float] | None:
    """Mean, deviation and ceiling of tau_b of a numeric target."""
    if true is None or is_category(target, true):
        return None
    finite = np.asarray(true[np.isfinite(true)], np.float64)
    if len(finite) < 2:
        return None
    return {
        "mean": float(finite.mean()),
        "deviation": float(finite.std()),
        "tau_max": tau_ceiling(finite),
    }


def _accuracy_ceilings(test: ZooDataset, target: str) -> dict[str, Any]:
    """The ceilings of test accuracy in the rows with a finite target, if it is the target."""
    if target not in test.columns or test.columns[target].dtype.kind in "OUS":
        return {}
    finite = test.filter(lambda columns: np.isfinite(columns[target]))
    found = accuracy_ceilings(finite, target)
    return {} if found is None else {"accuracy": asdict(found)}
