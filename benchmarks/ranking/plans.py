"""Zoos, targets and fine-tuning of the two benchmarks of rankers.

Models are pre-trained on the train split of a source set, targets take images of the val and test
splits. A family of targets is one image set; no two families share classes of the same kind of
images, and one family, `waves`, holds no images. A plan with an image set of the user, such as
`idx:FOLDER`, has two families of real images: that set and handwritten digits.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from ...tasks.ranking.fine_tuning_matrix import Protocol
from ...tasks.ranking.targets import DOMAINS
from ...tasks.transferability.scores import SCORES
from ...zoos.errors import RecipeError
from ...zoos.images.catalog import load_images
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import Linear
from ...zoos.recipe import load_recipe
from ..zoos import ZooPlan, plan

RANKING, OOD_RANKING = "ranking", "ood-ranking"
ARCHITECTURES = {
    "mlp": ("digits-mlp", None),
    "cnn": ("digits-cnn-seed", None),
    "mlp-wide": ("digits-mlp", 64),
}
"""Recipe whose architecture is taken, and another width of its hidden linear layers."""
CONTROL = "digits-shuffled"
SMALL_SOURCES = ("digits", "glyphs-digits", "glyphs-latin", "glyphs-greek", CONTROL)
SOURCES = (
    "digits",
    "glyphs-digits",
    "glyphs-latin",
    "glyphs-greek",
    "glyphs-cyrillic",
    "glyphs",
    "glyphs-textured",
    CONTROL,
)
SMALL_SETS = ("digits", "glyphs-digits", "glyphs-greek", "glyphs-cyrillic", "waves")
SETS = (
    "digits",
    "glyphs-digits",
    "glyphs-latin",
    "glyphs-greek",
    "glyphs-cyrillic",
    "glyphs",
    "waves",
)
CHANGES = ("", "+invert", "+noise", "+rotate+first")
REAL_SOURCES = ("glyphs-latin", "glyphs-greek")
"""Sources beside digits and the user's set; Model Spider's generic model is of the first."""
REAL_CHANGES = ("", "+invert", "+noise", "+blur", "+rotate", "+first", "+second")
SHAPE = (1, 28, 28)  # of all embedded sets
TRAIN_IMAGES = 2_000  # of a source, as the drawn sets have them
OOD_SETS = ("digits", "glyphs-digits", "glyphs-latin", "glyphs-greek")
SMALL_SCORES = ("logme", "reg-h-score", "leep", "ncc", "knn", "sfda")
GENERIC = "cnn-glyphs-latin/0"
"""Model whose features Model Spider describes a task by."""
EPOCHS = 12
RATES = (2e-3, 1e-2)
TRAINING: dict[str, Any] = {  # of all pre-trainings, so that only architecture and source differ
    "activation": "relu",
    "init": "kaiming_uniform",
    "optimizer": "adam",
    "lr": 3e-3,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "train_fraction": 1.0,
    "batch_size": 32,
}


@dataclass(frozen=True, kw_only=True)
class RankingPlan:
    """What a benchmark of rankers builds and runs.

    Attributes:
        zoos: zoos to build; the first one of each architecture also gives untrained models.
        untrained: names of the zoos whose initial checkpoints are models, too.
        targets: names of the targets.
        protocol: settings of the fine-tuning.
        scores: names of the scores.
        spider_tasks: number of training tasks of Model Spider.
    """

    zoos: tuple[ZooPlan, ...]
    untrained: tuple[str, ...]
    targets: tuple[str, ...]
    protocol: Protocol
    scores: tuple[str, ...]
    spider_tasks: int


def ranking_plan(name: str, small: bool, images: str = "") -> RankingPlan:
    """The plan of a benchmark.

    Args:
        name: `RANKING` or `OOD_RANKING`; targets of the second are unseen domains.
        small: whether to plan the variant for two cores and about ten minutes.
        images: image set of the user that is a source and a family of targets; "" for none.

    Raises:
        RecipeError: if there is no such image set, or its images are not 1x28x28.
    """
    architectures = list(ARCHITECTURES)[:2] if small else list(ARCHITECTURES)
    sources: tuple[str, ...] = SMALL_SOURCES if small else SOURCES
    share = 1.0
    if images:
        sources, share = ("digits", images, *REAL_SOURCES, CONTROL), _share_of_train(images)
    models = 1 if small or name == OOD_RANKING else 2
    pairs = [(source, architecture) for source in sources for architecture in architectures]
    zoos = tuple(
        _zoo_plan(*pair, models, seed, share if pair[0] == images else 1.0)
        for seed, pair in enumerate(pairs)
    )
    return RankingPlan(
        zoos=zoos,
        untrained=tuple(zoo.name for zoo in zoos[: len(architectures)]),
        targets=_targets(name, small, images),
        protocol=_protocol(name, small),
        scores=_scores(name, small),
        spider_tasks=48 if small else 96,
    )


def _share_of_train(images: str) -> float:
    """Share of the train images that a model is pre-trained on."""
    loaded = load_images(images)
    if loaded.shape != SHAPE:
        raise RecipeError(
            f"images of {images!r} must be {SHAPE}, as digits are, got {loaded.shape}"
        )
    return min(1.0, TRAIN_IMAGES / len(loaded.train))


def _targets(name: str, small: bool, images: str) -> tuple[str, ...]:
    if images:
        return tuple(f"{one}{change}" for one in ("digits", images) for change in REAL_CHANGES)
    if name == OOD_RANKING:
        chosen: tuple[str, ...] = OOD_SETS[:2] if small else OOD_SETS
        return tuple(f"{one}/{unseen}" for one in chosen for unseen in DOMAINS)
    sets: tuple[str, ...] = SMALL_SETS if small else SETS
    changes: tuple[str, ...] = CHANGES[:2] if small else CHANGES
    return tuple(f"{one}{change}" for one in sets for change in changes)


def _protocol(name: str, small: bool) -> Protocol:
    epochs = 4 if name == OOD_RANKING else 10  # with four domains there are four times the images
    return Protocol(epochs=epochs, rates=RATES, seeds=2 if small or name == OOD_RANKING else 3)


def _scores(name: str, small: bool) -> tuple[str, ...]:
    """The scores of a benchmark: those that leave a domain out are for unseen domains alone."""
    if name == OOD_RANKING:
        return (*SMALL_SCORES, *(key for key, entry in SCORES.items() if entry.domains))
    if small:
        return SMALL_SCORES
    return tuple(key for key, entry in SCORES.items() if not entry.domains)


def _zoo_plan(source: str, architecture: str, models: int, seed: int, share: float) -> ZooPlan:
    recipe, width = ARCHITECTURES[architecture]
    label = re.split(r"[:/\\]", source.rstrip("/"))[-1].removesuffix(".npz")  # the end of a path
    return plan(
        f"{architecture}-{label}",
        recipe,
        models,
        seed,
        architecture=_widened(load_recipe(recipe).architecture, architecture, width),
        images=source,
        seeds=models,
        epochs=EPOCHS,
        checkpoints=(0, EPOCHS),
        factors=TRAINING | {"train_fraction": share},
        split={"train": 1.0},
    )


def _widened(architecture: Architecture, name: str, width: int | None) -> Architecture:
    """The architecture with another width of its hidden linear layers, under a name of its own."""
    if width is None:
        return architecture
    *hidden, head = architecture.layers
    wider = [replace(one, out=width) if isinstance(one, Linear) else one for one in hidden]
    return replace(architecture, name=name, layers=(*wider, head))
