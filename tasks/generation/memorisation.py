"""Memorisation: whether generated networks are copies of the networks a generator was trained on.

Source: Zeng et al. 2025, arXiv 2506.07998, who find that published generators give networks close
to training networks, which added noise or averaging gives as well. Here every network is compared
with its nearest training network, in weights after weight matching and in behaviour. Networks that
no generator saw, noised copies and averages of training networks stand beside.

Shape letters: M networks, T training networks, D length of the flat weight vector, Q images, R
bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...loaders import HiddenPermutations, ZooDataset, align, concatenate_zoos
from ...zoos.errors import UnsuitableError
from ..autoencoding.behaviour import logits
from ..autoencoding.canonical import Canonical, last_rows
from ..scoring.bootstrap import LEVEL
from .generated_zoo import zoo_images
from .measures import TrainingModels, noised

SIGMAS = (0.02, 0.1, 0.3)  # noise of the copies, in deviations of a layer's weights
CANDIDATES = 3  # nearest in weights, and as many in behaviour, that are matched one by one
LEAST_MODELS, LEAST_UNSEEN = 3, 5
RESAMPLES = 2000
MEASURES = ("distance", "agreement", "error_overlap", "accuracy")
GENERATED, UNSEEN, AMONG = "generated", "unseen networks", "training networks"
AVERAGES = "averages of two"


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """How close networks are to training networks.

    Attributes:
        distance: distance to the nearest training network after alignment, in units of the mean
            distance between nearest training networks, (M,).
        agreement: largest share of images on which a training network predicts the same, (M,).
        error_overlap: largest overlap of the misclassified images with those of a training
            network, intersection over union, (M,).
        accuracy: accuracy on the images, (M,).
        nearest: number of the training network nearest in weights, (M,).
    """

    distance: np.ndarray
    agreement: np.ndarray
    error_overlap: np.ndarray
    accuracy: np.ndarray
    nearest: np.ndarray

    def mean(self, measure: str) -> float:
        """Mean of a measure over the networks."""
        return float(getattr(self, measure).mean())


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Verdict on a set of generated networks.

    Attributes:
        zoo: name of the training zoo.
        generated: name of the generated zoo.
        images: name of the image set whose test images are predicted.
        training_models: number of training networks, T.
        not_finite: number of generated networks that are not finite, left out.
        sets: likeness by name of the set; the generated networks come first.
        reference: name of the set of networks that no generator saw.
        settings: settings of the comparison.
    """

    zoo: str
    generated: str
    images: str
    training_models: int
    not_finite: int
    sets: Mapping[str, Likeness]
    reference: str
    settings: Mapping[str, Any]

    def difference(self, measure: str, other: str) -> tuple[float, float, float]:
        """Mean of the generated networks minus that of another set, with its 95 % interval.

        Args:
            measure: one of `MEASURES`.
            other: name of the other set.
        """
        mine, theirs = (getattr(self.sets[name], measure) for name in (GENERATED, other))
        return difference_interval(mine, theirs, int(self.settings["seed"]))

    @property
    def is_closer(self) -> dict[str, bool]:
        """Whether generated networks are closer to training networks than unseen ones are.

        A measure counts only if the interval of the difference excludes zero.
        """
        _, _, high = self.difference("distance", self.reference)
        _, low, _ = self.difference("agreement", self.reference)
        return {"weights": high < 0, "behaviour": low > 0}

    @property
    def verdict(self) -> str:
        """One of "memorised", "memorised in weights", "memorised in behaviour", "not memorised"."""
        closer = [name for name, is_so in self.is_closer.items() if is_so]
        if len(closer) == 2:
            return "memorised"
        return f"memorised in {closer[0]}" if closer else "not memorised"

    @property
    def beaten_by(self) -> list[str]:
        """Noised copies and averages that are as accurate, and as far from training networks.

        A control beats the generator unless an interval shows the generator to be more accurate,
        or farther from training networks.
        """
        names = []
        for name in self.sets:
            if name in (GENERATED, self.reference):
                continue
            more_accurate = self.difference("accuracy", name)[1] > 0
            farther = self.difference("distance", name)[1] > 0
            if not (more_accurate or farther):
                names.append(name)
        return names


def judge_generated(
    train: ZooDataset,
    unseen: Sequence[ZooDataset],
    generated: ZooDataset,
    *,
    models: int = 100,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
) -> Memorisation:
    """Compare generated networks with the networks that their generator was trained on.

    The last checkpoint of every model is compared. Alignment is to one reference network first;
    the nearest candidates are then matched one by one, because a match through a third network
    need not be the best.

    Args:
        train: train rows of the zoo that the generator was trained on.
        unseen: rows of the other splits; with fewer than 5 models every training network is
            compared with the others instead.
        generated: generated networks.
        models: largest number of networks in every set.
        sigmas: deviations of the noise of copies, in units of a layer's deviation.
        seed: seed of the choice of networks, the noise and the bootstrap.

    Raises:
        UnsuitableError: if the generated networks have another architecture, or there are too few.
        ValueError: if the zoo does not name its image set.
    """
    if generated.layer_table != train.layer_table:
        raise UnsuitableError(
            f"zoo {generated.name!r} holds networks of another architecture than {train.name!r}"
        )
    generator = torch.Generator().manual_seed(seed)
    whole = generated.select(last_rows(generated))
    finite = _finite(whole)
    drawn = _some(finite, models, generator)
    learned = _finite(train.select(last_rows(train)))
    if min(len(drawn), len(learned)) < LEAST_MODELS:
        raise UnsuitableError(
            f"{len(drawn)} generated and {len(learned)} training networks are finite, "
            f"{LEAST_MODELS} of each are needed"
        )
    images = zoo_images(train)
    canonical = Canonical.fit(learned)
    weights, names = canonical.weights(learned), _activations(learned)
    training = TrainingModels.of(canonical, weights, names, images.test)
    chosen = torch.randperm(len(weights), generator=generator)[:models]
    kinds = [names[index] for index in chosen.tolist()]
    sets = {GENERATED: likeness(drawn.weights(), _activations(drawn), training)}
    others = _last_finite(unseen)
    if others is not None and len(others) >= LEAST_UNSEEN:
        reference, some = UNSEEN, _some(others, models, generator)
        sets[reference] = likeness(some.weights(), _activations(some), training)
    else:
        reference = AMONG
        sets[reference] = likeness(weights[chosen], kinds, training, own=chosen)
    for sigma in sigmas:
        copies = noised(weights[chosen], canonical, sigma, generator)
        sets[f"copies with noise {sigma:g}"] = likeness(copies, kinds, training)
    partners = _partners(names, chosen, generator)
    sets[AVERAGES] = likeness((weights[chosen] + weights[partners]) / 2, kinds, training)
    return Memorisation(
        zoo=train.name,
        generated=generated.name,
        images=images.name,
        training_models=len(learned),
        not_finite=len(whole) - len(finite),
        sets=sets,
        reference=reference,
        settings={"models": models, "sigmas": list(sigmas), "seed": seed},
    )


def likeness(
    weights: Tensor,
    activations: Sequence[str],
    training: TrainingModels,
    own: Tensor | None = None,
) -> Likeness:
    """Compare networks with all training networks.

    Args:
        weights: flat weights in their own units, (M, D), finite.
        activations: activation of each network, M names.
        training: training networks.
        own: number of each network among the training networks, which it is not compared with,
            (M,); None for networks that are none of them.
    """
    images = training.images
    outputs = logits(training.canonical.architecture, weights, activations, images)
    predictions = outputs.argmax(1)
    agreements = torch.stack([(row == training.predictions).float().mean(1) for row in predictions])
    distances = _aligned_distances(weights, training, agreements)
    overlaps = _overlaps(predictions != images.labels, training.predictions != images.labels)
    if own is not None:
        rows = torch.arange(len(weights))
        distances[rows, own], agreements[rows, own], overlaps[rows, own] = torch.inf, -1.0, -1.0
    distance, nearest = distances.min(1)
    return Likeness(
        distance=(distance / training.spacing).double().numpy(),
        agreement=agreements.amax(1).double().numpy(),
        error_overlap=overlaps.amax(1).double().numpy(),
        accuracy=(predictions == images.labels).double().mean(1).numpy(),
        nearest=nearest.numpy(),
    )


def difference_interval(
    mine: np.ndarray, theirs: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Difference of two means over independent models, with its 95 % percentile interval.

    Args:
        mine: values of one set, (M,).
        theirs: values of another set.
        seed: seed of the bootstrap.
    """
    random = np.random.default_rng(seed)
    means = [
        values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
        for values in (mine, theirs)
    ]
    ends = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    low, high = np.percentile(means[0] - means[1], ends)
    return float(mine.mean() - theirs.mean()), float(low), float(high)


def _aligned_distances(weights: Tensor, training: TrainingModels, agreements: Tensor) -> Tensor:
    """Distance of every network to every training network after alignment, (M, T).

    The candidates of each network are matched one by one; others keep the distance after both were
    aligned to the reference. Weight matching ends in a local optimum, so that a reordered copy of a
    training network may be matched to the reference in another way: the candidates are those
    nearest in weights and those that agree most.
    """
    canonical = training.canonical
    permutations = HiddenPermutations.of(canonical.architecture)
    if canonical.reference is not None:
        weights, _ = align(weights, canonical.reference, permutations)
    scale = canonical.standardization
    distances = torch.cdist(scale.apply(weights), training.weights)
    count = min(CANDIDATES, distances.shape[1])
    near = torch.cat([(-distances).topk(count).indices, agreements.topk(count).indices], dim=1)
    trained = scale.inverse(training.weights)
    for number in near.unique().tolist():
        rows = (near == number).any(1).nonzero()[:, 0]
        matched, _ = align(weights[rows], trained[number], permutations)
        found = (scale.apply(matched) - training.weights[number]).norm(dim=1)
        distances[rows, number] = torch.minimum(distances[rows, number], found)
    return distances


def _overlaps(mine: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union of misclassified images (M, Q) and (T, Q): (M, T); 0 for none."""
    a, b = mine.float(), theirs.float()
    both = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - both
    return both / union.clamp(min=1)


def _partners(names: Sequence[str], chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Another training network of equal activation for each; itself if there is none."""
    found = []
    for index in chosen.tolist():
        others = [i for i, name in enumerate(names) if name == names[index] and i != index]
        draw = int(torch.randint(max(1, len(others)), (1,), generator=generator))
        found.append(others[draw] if others else index)
    return torch.tensor(found)


def _last_finite(parts: Sequence[ZooDataset]) -> ZooDataset | None:
    """The last finite checkpoints of several splits; None if there is no row."""
    rows = [part.select(last_rows(part)) for part in parts if len(part)]
    return _finite(concatenate_zoos(rows)) if rows else None


def _some(dataset: ZooDataset, models: int, generator: torch.Generator) -> ZooDataset:
    order = torch.randperm(len(dataset), generator=generator)[:models]
    return dataset.select(order.sort().values)


def _finite(dataset: ZooDataset) -> ZooDataset:
    finite = [block.isfinite().all(1) for block in dataset.weight_blocks()]
    return dataset.select(torch.cat(finite).numpy()) if finite else dataset


def _activations(dataset: ZooDataset) -> list[str]:
    return list(dataset.columns["activation"])
