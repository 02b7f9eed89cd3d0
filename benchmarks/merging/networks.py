"""Trained networks of the merging benchmark, and the images that a scenario is judged on.

Shape letters: M networks, D length of the flat weight vector, N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...loaders import HiddenPermutations, ZooDataset, align, concatenate_zoos, load_zoo
from ...loaders.collections import ModelCollection
from ...tasks.autoencoding.behaviour import accuracies
from ...tasks.merge_methods.calibration import (
    fisher_information,
    input_grams,
    regmean_plus,
    repair,
)
from ...tasks.merging.methods import merged
from ...tasks.merging.mixture import Experts
from ...tasks.merging.settings import read_settings
from ...tasks.merging.zoo_rows import StateMember, last_checkpoints
from ...zoos.images.catalog import load_images
from ...zoos.images.image_set import Images
from ...zoos.networks.architectures import Architecture
from .plan import ACTIVATION, BASES, SCENARIOS, UNRELATED, Child, Size, children, image_file

COLUMNS = ("model_id", "epoch", "split", "seed", "status", "activation", "dropout")


@dataclass(frozen=True)
class Judges:
    """Images of all domains of a scenario together.

    Attributes:
        val: images for every choice.
        test: images that are used once.
    """

    val: Images
    test: Images

    @classmethod
    def of(cls, scenario: str, folder: Path) -> "Judges":
        """Load the images of a scenario.

        Args:
            scenario: one of `SCENARIOS`.
            folder: folder of the image files.
        """
        sets = [load_images(image_file(folder, domain)) for domain in SCENARIOS[scenario]]
        return cls(_joined([one.val for one in sets]), _joined([one.test for one in sets]))

    def few(self, count: int, seed: int) -> "Judges":
        """The same test images, and only some of the val images.

        Args:
            count: number of val images to keep.
            seed: seed of the draw.
        """
        rows = np.random.default_rng(seed).choice(len(self.val), count, replace=False)
        return Judges(Images(self.val.pixels[rows], self.val.labels[rows]), self.test)


def _joined(parts: Sequence[Images]) -> Images:
    return Images(
        torch.cat([part.pixels for part in parts]), torch.cat([part.labels for part in parts])
    )


@dataclass(frozen=True)
class Networks:
    """One family, its neighbours, and what a merge needs of them.

    Attributes:
        zoo: rows of the members, then of the other family's members, then of unrelated networks.
        count: M, number of members of either family.
        base: flat weights of the family's base, (D,).
        other_base: flat weights of the other family's base, (D,).
        images: image set that each member was fine-tuned on, M names.
    """

    zoo: ZooDataset
    count: int
    base: Tensor
    other_base: Tensor
    images: tuple[str, ...]

    @classmethod
    def load(
        cls, options_out: Path, zoos: tuple[Path, dict[Child, Path]], size: Size, unit: "Unit"
    ) -> "Networks":
        """Load the networks of one unit.

        Args:
            options_out: folder of the benchmark.
            zoos: zoo of the bases and zoos of the children.
            size: amount of training.
            unit: scenario, seed and base.
        """
        bases, planned = _rows(zoos[0]), children(size)[unit.scenario]
        own, other = unit.base_row, unit.other_row
        parts = [_rows(zoos[1][child]).select([own, other]) for child in planned]
        first = unit.seeds * BASES + UNRELATED * unit.seed_place
        unrelated = bases.select(range(first, first + UNRELATED))
        pairs, last = 2 * len(parts), 2 * len(parts) + UNRELATED
        order = [*range(0, pairs, 2), *range(1, pairs, 2), *range(pairs, last)]
        zoo = concatenate_zoos([*parts, unrelated], same_ids="renumber").select(order)
        folder = options_out / "images"
        return cls(
            zoo=zoo,
            count=len(planned),
            base=bases.weights([own])[0],
            other_base=bases.weights([other])[0],
            images=tuple(image_file(folder, child.domain, child.group) for child in planned),
        )

    @property
    def architecture(self) -> Architecture:
        """Architecture of all networks."""
        assert self.zoo.header.architecture is not None
        return self.zoo.header.architecture

    def members(self, other: bool = False) -> Tensor:
        """(M, D): flat weights of the members, or of the other family's members."""
        start = self.count if other else 0
        return self.zoo.weights(range(start, start + self.count))

    def unrelated(self) -> Tensor:
        """Flat weights of the unrelated networks, (UNRELATED, D)."""
        return self.zoo.weights(range(2 * self.count, len(self.zoo)))

    def score(self, weights_MD: Tensor, images: Images) -> list[float]:
        """Accuracies of networks, M numbers.

        Args:
            weights_MD: flat weights.
            images: labelled images.
        """
        names = [ACTIVATION] * len(weights_MD)
        found = accuracies(self.architecture, weights_MD, names, images)[1]
        return [float(value) for value in found.nan_to_num(0.0)]

    def experts(self, weights_MD: Tensor) -> Experts:
        """Networks as the experts of a mixture."""
        return Experts(self.architecture, weights_MD, (ACTIVATION,) * len(weights_MD))

    def merge(
        self,
        method: str,
        given: dict[str, float],
        weights_MD: Tensor,
        *,
        base: Tensor | None = None,
        companions: ModelCollection | None = None,
    ) -> Tensor:
        """(D,): networks merged by a method.

        Args:
            method: name of the method.
            given: settings of the method.
            weights_MD: flat weights of the members.
            base: flat weights of the base; None takes the family's.
            companions: Fisher information or Gram matrices of the members.
        """
        table = self.zoo.layer_table
        members = [StateMember(str(i), table.state_dict(row)) for i, row in enumerate(weights_MD)]
        root = StateMember("base", table.state_dict(self.base if base is None else base))
        collection = ModelCollection(members, root)
        return table.flatten(merged(method, collection, read_settings(method, given), companions))

    def companions(self, kind: str | None) -> ModelCollection | None:
        """Fisher information or Gram matrices of every member on its own train images."""
        if kind is None:
            return None
        measure = fisher_information if kind == "fisher" else input_grams
        return ModelCollection(
            [
                StateMember(str(row), measure(self.zoo.module(row), load_images(name).train))
                for row, name in enumerate(self.images)
            ]
        )

    def regmean_plus(self) -> Tensor:
        """(D,): the members merged by RegMean++ on their own train images."""
        modules = [self.zoo.module(row) for row in range(self.count)]
        images = [load_images(name).train for name in self.images]
        return self.zoo.layer_table.flatten(regmean_plus(modules, images))

    def repaired(self, merged_D: Tensor, weights_MD: Tensor) -> Tensor:
        """(D,): a merge of aligned networks with the activations of these.

        Args:
            merged_D: flat weights of the merge.
            weights_MD: flat weights of the merged networks.
        """
        images = [load_images(name).train for name in self.images]
        pixels = torch.cat([one.pixels[:: max(1, len(one) // 64)] for one in images])
        chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
        part = Images(pixels[chosen], torch.zeros(len(pixels), dtype=torch.int64))
        members = [self.module(weights) for weights in weights_MD]
        return self.zoo.layer_table.flatten(repair(self.module(merged_D), members, part))

    def module(self, weights_D: Tensor) -> nn.Module:
        """A network as a torch module in eval mode."""
        module = self.architecture.module(ACTIVATION).eval()
        module.load_state_dict(self.zoo.layer_table.state_dict(weights_D))
        return module

    def aligned(self, weights_MD: Tensor) -> Tensor:
        """(M, D): networks with their hidden units reordered to the family's base."""
        permutations = HiddenPermutations.of(self.architecture)
        return align(weights_MD, self.base, permutations)[0]


@dataclass(frozen=True)
class Unit:
    """One family in one scenario.

    Attributes:
        scenario: one of `SCENARIOS`.
        seed: seed of the benchmark.
        seed_place: position of the seed among the seeds.
        seeds: number of seeds.
        base: number of the base, below `BASES`.
    """

    scenario: str
    seed: int
    seed_place: int
    seeds: int
    base: int

    @property
    def name(self) -> str:
        """Name of the file of its rows."""
        return f"{self.scenario}-seed-{self.seed}-base-{self.base}"

    @property
    def base_row(self) -> int:
        """Row of the base in the zoo of bases, and of its children in theirs."""
        return BASES * self.seed_place + self.base

    @property
    def other_row(self) -> int:
        """Row of the other base of the seed."""
        return BASES * self.seed_place + (self.base + 1) % BASES


def _rows(path: Path) -> ZooDataset:
    """The last checkpoint of every model of all splits, in the order of models."""
    splits = load_zoo(path, columns=COLUMNS).values()
    zoo = last_checkpoints(concatenate_zoos(list(splits)))
    return zoo.select(np.argsort(zoo.columns["model_id"]))
