"""What all jobs of the generation benchmark share: the zoo, its images, and reference models.

Shape letters: M models, D length of the flat weight vector, K epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..loaders import load_zoo
from ..tasks.autoencoding.behaviour import accuracies
from ..tasks.autoencoding.canonical import Canonical, last_rows
from ..tasks.autoencoding.learnable_rows import (
    best_hyper_parameters,
    homogeneous_splits,
    late_epoch,
    top_rows,
)
from ..tasks.generation.generated_zoo import few_images, zoo_images
from ..tasks.generation.measures import TrainingModels, measure, moved, scratch
from ..tasks.generation.related_architectures import related_architectures
from ..zoos.images.catalog import ImageSet, load_images
from ..zoos.networks.architectures import Architecture
from .generation_outcome import GenerationSettings, MethodRow


class GenerationContext:
    """The rows of a zoo that the benchmark learns from, and how sets of models are measured."""

    def __init__(self, folder: Path, settings: GenerationSettings, seed: int) -> None:
        """Read the rows.

        Args:
            folder: zoo folder.
            settings: settings of the benchmark.
            seed: seed of this run.
        """
        zoo = load_zoo(folder)
        assert isinstance(zoo, dict)
        least = settings.least_epoch
        least = late_epoch(zoo["train"]) if least is None else least
        self.settings, self.seed = settings, seed
        self.train, self.val = homogeneous_splits(zoo, least)
        self.images: ImageSet = zoo_images(self.train)
        self.canonical = Canonical.fit(self.train)
        self.architecture = self.canonical.architecture
        self.weights = self.canonical.weights(self.train)
        self.last = torch.from_numpy(last_rows(self.train))
        self.top = top_rows(torch.tensor(self.train.columns["val_accuracy"]))
        self.hyper_parameters = best_hyper_parameters(self.train)
        self.activation = self.hyper_parameters.activation
        names = [self.activation] * len(self.last)
        self.training = TrainingModels.of(
            self.canonical, self.weights[self.last], names, self.images.test
        )
        self.generator = torch.Generator().manual_seed(seed)

    def learned(self) -> dict[str, Any]:
        """Counts of the rows learned from, and the hyper-parameters of fine-tuning."""
        return {
            "rows": len(self.train),
            "models": len(self.last),
            "epochs": sorted(set(self.train.columns["epoch"].tolist())),
            "hyper_parameters": asdict(self.hyper_parameters),
        }

    def row(
        self,
        method: str,
        weights: Tensor,
        epochs: Sequence[int],
        images: ImageSet | None = None,
        other: Architecture | None = None,
    ) -> MethodRow:
        """Measure and fine-tune a set of models.

        Args:
            method: name of the method in the table.
            weights: flat weights of the models, (M, D).
            epochs: epochs of fine-tuning after which accuracy is measured, (K,).
            images: image set for fine-tuning and testing; None takes the zoo's.
            other: architecture of the models; None takes the zoo's.
        """
        images = images or self.images
        seed = 1000 * self.seed
        found = measure(weights, self.training, self.hyper_parameters, images, epochs, seed, other)
        return MethodRow(
            method=method,
            seed=self.seed,
            images=images.name,
            architecture=(other or self.architecture).name,
            found=found,
        )

    def zoo_models(self) -> Tensor:
        """Last checkpoints of random train models, (M, D)."""
        chosen = torch.randperm(len(self.last), generator=self.generator)[: self.settings.models]
        return self.weights[self.last[chosen]]

    def fresh(self) -> Tensor:
        """Initial weights to train from scratch, (M, D)."""
        seed = 1_000_000 + 1000 * self.seed
        return scratch(self.architecture, self.hyper_parameters, self.settings.models, seed)

    def few_accuracy(self, weights: Tensor) -> Tensor:
        """Accuracy on a few val images, (M,)."""
        images = few_images(self.images)
        return accuracies(self.architecture, weights, [self.activation] * len(weights), images)[1]

    def transfer_rows(self, sets: Mapping[str, Tensor]) -> list[MethodRow]:
        """Measure sets of models on another image set, if the settings name one."""
        if self.settings.transfer is None:
            return []
        images = load_images(self.settings.transfer)
        return [self.row(name, made, self.settings.epochs, images) for name, made in sets.items()]

    def moved_rows(self, sets: Mapping[str, Tensor]) -> list[MethodRow]:
        """Measure sets of models in related architectures.

        Tensors that a related architecture adds are drawn as for training from scratch. Initial
        weights stay initial weights, because `init` draws each tensor by its shape alone.
        """
        seed = 2_000_000 + 1000 * self.seed
        rows = []
        for target in related_architectures(self.architecture):
            for name, made in sets.items():
                weights = moved(made, self.architecture, target, self.hyper_parameters, seed)
                rows.append(self.row(name, weights, self.settings.epochs, other=target))
        return rows
