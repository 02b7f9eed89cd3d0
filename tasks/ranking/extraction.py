"""Feature extraction: what many models compute on the images of one task, into one file.

Models of a zoo run many at a time, as a population. Backbones of torchvision, timm and
transformers, and any callable, run one by one.

Shape letters: M models run together, B images of a batch, C channels, H height, W width, D
features, Z classes of a model's own head.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...builders.population.population import ForwardPass, Population
from ...zoos.errors import UnsuitableError
from ...zoos.images.image_set import Images, ImageSet
from ...zoos.networks.layers import Linear, layer_names
from ...zoos.provenance import commit, package_version
from .features import FeatureFile, Task, create_features
from .model_sources import images_seen, model_source
from .samples import image_samples, refuse_overlap

MODELS_AT_ONCE = 32
BATCH = 256  # images; features of a batch of 32 models are written together

Outputs = tuple[np.ndarray, np.ndarray | None]  # features (B, D), logits (B, Z) or None
Backbone = Callable[[Tensor], Any]


@dataclass(frozen=True, kw_only=True)
class ModelGroup:
    """Models that run together on the same batch.

    Attributes:
        details: what is noted of each model, by its name.
        prepare: loads the models; gives a function from pixels (B, C, H, W) to the outputs of
            each model, in the order of `details`.
        shape: (C, H, W) that the models take; None takes any.
        seen: fingerprints of the images that the models were trained on, as far as known.
    """

    details: Mapping[str, Mapping[str, Any]]
    prepare: Callable[[], Callable[[Tensor], list[Outputs]]]
    shape: tuple[int, ...] | None = None
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))


def extract_features(
    groups: Sequence[ModelGroup],
    image_set: ImageSet,
    split: str,
    out: Path,
    *,
    precision: str = "float32",
    limit: int | None = None,
    domains: np.ndarray | None = None,
    progress: bool = True,
) -> list[str]:
    """Run all models over the images of a split; a file that was begun is gone on with.

    Args:
        groups: the models.
        image_set: the task.
        split: "train", "val" or "test": the images to extract features of.
        out: feature file to write.
        precision: number format of the stored features, "float16" or "float32".
        limit: number of images, the first ones of the split; None takes all.
        domains: domain of each of the split's images, (N,); None for one domain.
        progress: whether to show progress on stderr.

    Returns:
        Names of the models whose features are whole.

    Raises:
        ValueError: if a model is named twice, or the split is unknown.
        UnsuitableError: if a model takes images of another shape, or was trained on one of these.
        ZooFormatError: if another task's file is at `out`.
    """
    names = [name for group in groups for name in group.details]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"models are named twice: {twice}")
    images = task_images(image_set, split, limit)
    task = make_task(image_set, images, split, domains)
    for group in groups:
        _check_group(group, image_set, task)
    provenance = {
        "weightzoo": package_version(),
        "commit": commit(),
        "images": {"name": image_set.name, "fingerprint": image_set.fingerprint, "split": split},
    }
    with create_features(out, task, provenance) as file:
        bar = tqdm(total=len(names), desc="features", unit="model", disable=not progress)
        for group in groups:
            _run_group(group, images, file, precision)
            bar.update(len(group.details))
        bar.close()
        return [name for name in names if name in file.models]


def task_images(image_set: ImageSet, split: str, limit: int | None = None) -> Images:
    """The images of a split, or the first ones of it.

    Args:
        image_set: the set.
        split: "train", "val" or "test".
        limit: number of images; None takes all.

    Raises:
        ValueError: if the split is unknown.
    """
    splits = {"train": image_set.train, "val": image_set.val, "test": image_set.test}
    if split not in splits:
        raise ValueError(f"split must be one of {list(splits)}, got {split!r}")
    images = splits[split]
    return Images(images.pixels[:limit], images.labels[:limit])


def make_task(
    image_set: ImageSet, images: Images, split: str, domains: np.ndarray | None = None
) -> Task:
    """The task of some images of a set, without their pixels.

    Args:
        image_set: the set.
        images: images of one of its splits.
        split: its name.
        domains: domain of each image of the split, (N,); those of the first images are taken.
    """
    return Task(
        name=f"{image_set.name}/{split}",
        samples=image_samples(image_set, images),
        labels=images.labels.numpy(),
        domains=None if domains is None else domains[: len(images)],
    )


def zoo_groups(zoo: Path | str) -> list[ModelGroup]:
    """The last finite checkpoint of every model of a zoo, in groups of 32.

    Features are what the last linear layer reads, logits what it gives. Models are named
    FOLDER/MODEL_ID. FOLDER@EPOCH takes that checkpoint instead.

    Raises:
        ZooNotFoundError: if there is no zoo.
        BuildError: if its architecture is unknown or no row is finite.
        UnsuitableError: if the networks do not end in a linear layer.
    """
    label, parents = model_source(zoo)
    architecture = parents.architecture
    if not isinstance(architecture.layers[-1], Linear):
        raise UnsuitableError(
            f"architecture {architecture.name!r} ends in {architecture.layers[-1]}, and features "
            "are what a last linear layer reads"
        )
    seen = images_seen(parents)
    scores = [file.read_columns(["model_id", "epoch", "val_accuracy"]) for file in parents.files]
    groups = []
    for start in range(0, len(parents.models), MODELS_AT_ONCE):
        chosen = range(start, min(start + MODELS_AT_ONCE, len(parents.models)))
        details = {}
        for position in chosen:
            index, row = parents.row_indices[position]
            details[f"{label}/{parents.models[position].model_id}"] = {
                "layer": architecture.layer_names()[-1],
                "architecture": architecture.name,
                "parameters": architecture.layer_table().width,
                "source": parents.images,
                "source_accuracy": float(scores[index]["val_accuracy"][row]),
                "epoch": parents.epochs[position],
            }

        def prepare(chosen: range = chosen) -> Callable[[Tensor], list[Outputs]]:
            activations = [parents.models[i].hyper_parameters.activation for i in chosen]
            population = Population(architecture, parents.weights(chosen), activations)
            return lambda pixels: population_outputs(population, architecture.layers, pixels)

        groups.append(
            ModelGroup(details=details, prepare=prepare, shape=architecture.input_shape, seen=seen)
        )
    return groups


def population_outputs(
    population: Population, layers: Sequence[Any], pixels: Tensor
) -> list[Outputs]:
    """Features and logits of every model of a population on the same images.

    Args:
        population: M models that end in a linear layer.
        layers: layers of their architecture.
        pixels: (B, C, H, W).
    """
    x = pixels.permute(2, 1, 3, 0).contiguous()[None]
    forward = ForwardPass(population, False, None)
    with torch.no_grad():
        features = forward.run(layers[:-1], "", x)
        logits = forward.layer(layers[-1], layer_names(layers)[-1], 1, features)
    pairs = zip(features.expand(len(population), -1, -1), logits, strict=True)
    return [(one.T.numpy(), head.T.numpy()) for one, head in pairs]


def callable_groups(
    models: Mapping[str, Backbone], details: Mapping[str, Mapping[str, Any]] | None = None
) -> list[ModelGroup]:
    """Models given as callables, one group each.

    Args:
        models: functions by name, from pixels (B, C, H, W) to features (B, D), or to features
            and logits (B, Z).
        details: what is noted of each model, such as its number of parameters.
    """
    return [
        ModelGroup(
            details={name: dict((details or {}).get(name, {}))},
            prepare=lambda model=model: lambda pixels: [as_outputs(model(pixels))],  # type: ignore[misc]
        )
        for name, model in models.items()
    ]


def as_outputs(result: Any) -> Outputs:
    """What a callable gave, as arrays."""
    features, logits = result if isinstance(result, tuple) else (result, None)
    arrays = [
        None if values is None else torch.as_tensor(values).detach().float().cpu().numpy()
        for values in (features, logits)
    ]
    assert arrays[0] is not None
    return arrays[0], arrays[1]


def _check_group(group: ModelGroup, image_set: ImageSet, task: Task) -> None:
    names = list(group.details)
    if group.shape is not None and tuple(group.shape) != image_set.shape:
        raise UnsuitableError(
            f"models {names[0]!r} to {names[-1]!r} take images of shape {tuple(group.shape)}, and "
            f"{image_set.name!r} has {image_set.shape}: choose an image set of that shape"
        )
    refuse_overlap(
        group.seen, task.samples, f"the training images of {names[0]!r}", f"task {task.name!r}"
    )


def _run_group(group: ModelGroup, images: Images, file: FeatureFile, precision: str) -> None:
    done = {name: file.rows_done(name) for name in group.details}
    first = min(done.values())
    if first == len(images):
        return
    run = group.prepare()
    for start, pixels in _batches(images, first):
        outputs = run(pixels)
        for (name, details), (features, logits) in zip(group.details.items(), outputs, strict=True):
            if done[name] <= start:
                file.append(name, features, logits, details, precision)


def _batches(images: Images, first: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(first, len(images), BATCH):
        yield start, images.pixels[start : start + BATCH]
