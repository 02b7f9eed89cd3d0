"""The plan of the merging benchmark: which networks are trained on which images.

Per seed two bases and two unrelated networks are trained on letters (`glyphs-latin`). Every base
gets children. In the scenario `domains` a child is fine-tuned on all letters, changed in one way,
or on unchanged ones with augmentation. In the scenario `classes` it is fine-tuned on rotated
letters, all images of some classes and one image of every other class.

Shape letters: N images.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...builders.build import Engine
from ...builders.children.fine_tuning import fine_tune_zoo
from ...tasks.merging.output import write_text
from ...tasks.ranking.targets import CHANGES
from ...zoos.images.catalog import load_images
from ...zoos.images.image_set import ImageSet
from ...zoos.networks.architectures import Architecture
from ...zoos.recipe import load_recipe
from ...zoos.strict_json import json_text
from ..benchmark import BenchmarkOptions
from ..zoos import build_once

BASE_IMAGES, CLEAN = "glyphs-latin", "clean"
DOMAINS = (CLEAN, "rotate", "noise", "blur")
CLASS_DOMAIN, CLASS_GROUPS = "rotate", ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))
SCENARIOS = {"domains": DOMAINS, "classes": (CLASS_DOMAIN,)}
"""Domains that the members of a scenario are judged on together."""

BASES, UNRELATED = 2, 2  # per seed
ACTIVATION, BASE_RATE = "relu", 2e-3


@dataclass(frozen=True)
class Size:
    """Amount of training.

    Attributes:
        base_epochs: epochs of the bases.
        child_epochs: epochs of the children.
        rates: learning rates of the children.
        budget: most evaluations of a search.
        subsets: random subsets of the members of a family.
        zoo_seed: seed of the bases.
        width: channels of the first layer.
    """

    base_epochs: int
    child_epochs: int
    rates: tuple[float, ...]
    budget: int
    subsets: int
    zoo_seed: int
    width: int


SMALL = Size(8, 4, (1e-3,), 40, 10, 3000, 8)
FULL = Size(25, 12, (1e-3, 3e-4), 120, 30, 2000, 16)


def check_size(out: Path, size: Any) -> None:
    """Refuse to go on with a run of another size: its finished parts would be taken over.

    Args:
        out: folder of the benchmark.
        size: amount of work, a dataclass.

    Raises:
        ValueError: if the folder holds a run of another size.
    """
    path, text = out / "size.json", json_text(asdict(size), sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f"{out} holds a run of another size, {path.read_text()}: choose another --out, or "
            "delete the folder"
        )
    write_text(path, text)


@dataclass(frozen=True)
class Child:
    """How one child of every base is fine-tuned.

    Attributes:
        domain: one of `DOMAINS`.
        rate: learning rate.
        augmentation: augmentation of the train images.
        group: number of the classes in `CLASS_GROUPS`; None for all classes.
    """

    domain: str
    rate: float
    augmentation: str = "none"
    group: int | None = None

    @property
    def name(self) -> str:
        """Name of the zoo that holds these children of all bases."""
        part = "" if self.group is None else f"-classes-{self.group}"
        return f"{self.domain}{part}-{self.augmentation}-{self.rate}"


def children(size: Size) -> dict[str, list[Child]]:
    """Children of every base by scenario."""
    changed = [Child(domain, rate) for domain in DOMAINS[1:] for rate in size.rates]
    augmented = Child(CLEAN, size.rates[0], "crop_flip")
    groups = range(len(CLASS_GROUPS))
    part = [Child(CLASS_DOMAIN, rate, group=group) for group in groups for rate in size.rates]
    return {"domains": [*changed, augmented], "classes": part}


def architecture(width: int) -> Architecture:
    """A convolutional network for 28x28 images, of 14,538 parameters at width 8."""
    return Architecture.from_json(
        {
            "name": "merging-cnn",
            "input_shape": [1, 28, 28],
            "layers": [
                {"kind": "conv", "out": width, "kernel": 5},
                {"kind": "max_pool", "size": 2},
                {"kind": "activation"},
                {"kind": "conv", "out": 2 * width, "kernel": 3},
                {"kind": "max_pool", "size": 2},
                {"kind": "activation"},
                {"kind": "flatten"},
                {"kind": "linear", "out": 4 * width},
                {"kind": "activation"},
                {"kind": "linear", "out": 10},
            ],
        }
    )


def image_file(folder: Path, domain: str, group: int | None = None) -> str:
    """Name of the images of a domain; they are made where they are missing.

    Args:
        folder: folder for the files.
        domain: one of `DOMAINS`.
        group: number of the classes that train keeps in full; None keeps all.
    """
    path = folder / f"{domain}{'' if group is None else f'-{group}'}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source, rng = load_images(BASE_IMAGES), np.random.default_rng(0)
        splits = []
        for split in (source.train, source.val, source.test):
            pixels = source.brightness(split.pixels)
            pixels = pixels if domain == CLEAN else CHANGES[domain](pixels, rng)
            splits.append((_eight_bit(pixels), split.labels.numpy()))
        if group is not None:
            kept = _kept(splits[0][1], CLASS_GROUPS[group])
            splits[0] = splits[0][0][kept], splits[0][1][kept]
        ImageSet.from_arrays(path.stem, *splits).save(path)
    return f"arrays:{path}"


def _eight_bit(pixels: Tensor) -> np.ndarray:
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _kept(labels: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """All images of some classes, and the first image of every other class."""
    others = [np.flatnonzero(labels == one)[:1] for one in set(labels.tolist()) - set(classes)]
    return np.sort(np.concatenate([np.flatnonzero(np.isin(labels, classes)), *others]))


def train_networks(options: BenchmarkOptions, size: Size) -> tuple[Path, dict[Child, Path]]:
    """Train bases and children of all seeds, those that are missing.

    Args:
        options: options of the benchmark.
        size: amount of training.

    Returns:
        The zoo of bases, then unrelated networks, and the zoo of every child.
    """
    folder, seeds = options.out / "zoos", len(options.seeds)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("digits-cnn-seed")
    factors = {"activation": ACTIVATION, "lr": BASE_RATE, "weight_decay": 1e-4}
    recipe = replace(
        recipe,
        name="bases",
        images=BASE_IMAGES,
        architecture=architecture(size.width),
        seed=size.zoo_seed + options.seeds[0],
        epochs=size.base_epochs,
        checkpoints=(size.base_epochs,),
        split={"train": 1.0, "val": 0.0, "test": 0.0},
        factors=recipe.factors | factors | {"train_fraction": 1.0},
    )
    models = seeds * (BASES + UNRELATED)
    bases = build_once(recipe, folder / "bases", models, options.workers, options.progress)
    engine = Engine(workers=options.workers, progress=options.progress)
    zoos = {}
    for child in dict.fromkeys(one for group in children(size).values() for one in group):
        zoos[child] = folder / child.name
        if not zoos[child].exists():
            fine_tune_zoo(
                bases,
                zoos[child],
                images=image_file(options.out / "images", child.domain, child.group),
                epochs=size.child_epochs,
                checkpoints=[size.child_epochs],
                where=lambda columns: columns["model_id"] < seeds * BASES,
                overrides={"lr": child.rate, "augmentation": child.augmentation},
                engine=engine,
            )
    return bases, zoos
