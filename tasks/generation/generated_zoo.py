"""Writes generated weights as a zoo with measures and lineage, readable by every loader.

Shape letters: M models, D length of the flat weight vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...loaders import ZooDataset
from ...zoos.folder_identity import Identity
from ...zoos.format import METRICS, checksum
from ...zoos.images.catalog import Images, ImageSet, load_images
from ...zoos.index import ZooIndex
from ...zoos.lineage import Lineage, lineage_columns
from ...zoos.partial_folder import partial_folder
from ...zoos.progress import progress_bar
from ...zoos.provenance import commit, package_version, rows_provenance
from ...zoos.splits import draw_splits
from ...zoos.zoo_folder import write_zoo_folder
from ..autoencoding.behaviour import MODELS_AT_ONCE, accuracies
from ..autoencoding.learnable_rows import TOP_SHARE, top_rows
from ..autoencoding.token_autoencoder import TokenAutoencoder
from .batch_norms import condition
from .sampling import Sampler, best_of, make_sampler

FEW_IMAGES = 50  # number of val images that choose the best draws
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True, kw_only=True)
class GeneratedZoo:
    """Summary of a written zoo.

    Attributes:
        index: index of the zoo folder.
        models: number of models, M.
        diverged: number of models with weights or losses that are not finite; they are kept, with
            status "diverged".
        test_accuracy: mean test accuracy of the other models; NaN if there are none.
    """

    index: ZooIndex
    models: int
    diverged: int
    test_accuracy: float


def generate(
    autoencoder: TokenAutoencoder,
    train: ZooDataset,
    count: int,
    *,
    sampler: str | Sampler = "kde",
    top: float = TOP_SHARE,
    draws: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """Draw new models from an autoencoder of a zoo.

    Args:
        autoencoder: autoencoder trained on the rows.
        train: rows of one activation; the sampler is fitted to their latent vectors.
        count: number of models, M.
        sampler: sampler, or a name in `SAMPLERS` for a sampler with its defaults.
        top: share of rows that the sampler is fitted to, the best by val accuracy.
        draws: number of draws per model; the best on a few val images are kept (SUB, subsampling).
        seed: seed of the draws.
        progress: whether to show a progress bar on stderr.

    Returns:
        Flat weights, (M, D), possibly not finite. Batch norm statistics are recomputed on images.

    Raises:
        ValueError: if there are no rows, or a number is out of range.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from weightzoo import build_zoo, load_recipe, load_zoo
        >>> from weightzoo.tasks import generate, train_hyper_representation
        >>> from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
        >>> recipe = load_recipe("digits-mlp")
        >>> factors = recipe.factors | {"activation": "relu"}
        >>> recipe = replace(recipe, factors=factors, epochs=1, checkpoints=(0, 1))
        >>> folder = tempfile.mkdtemp() + "/small"
        >>> _ = build_zoo(recipe, folder, models=4, workers=1, progress=False)
        >>> shape = {"latent": 2, "width": 8, "heads": 2, "blocks": 1}
        >>> settings = AutoencoderSettings(shape=shape, epochs=1, progress=False)
        >>> zoo = load_zoo(folder)
        >>> autoencoder = train_hyper_representation(zoo["train"], zoo["val"], settings)
        >>> generate(autoencoder, zoo["train"], count=3).shape
        torch.Size([3, 16330])
    """
    if len(train) == 0:
        raise ValueError(f"zoo {train.name!r} has no rows to fit the sampler to")
    rows = top_rows(torch.tensor(train.columns["val_accuracy"]), top)
    latent = autoencoder.encode(autoencoder.canonical.weights(train))[rows]
    sampler = make_sampler(sampler) if isinstance(sampler, str) else sampler
    fitted = sampler.fit(latent)
    return draw_networks(
        fitted.sample, autoencoder.decode, train, count, draws=draws, seed=seed, progress=progress
    )


def draw_networks(
    draw: Callable[[int, torch.Generator], Tensor],
    decode: Callable[[Tensor], Tensor],
    train: ZooDataset,
    count: int,
    *,
    draws: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """Draw new models from any generator of the architecture of a zoo.

    Args:
        draw: function from a number of points and a random generator to points, (N, Z).
        decode: function from points (N, Z) to flat weights (N, D).
        train: rows of one activation that the generator was trained on.
        count: number of models, M.
        draws: number of draws per model; the best on a few val images are kept.
        seed: seed of the draws.
        progress: whether to show a progress bar on stderr.

    Returns:
        Flat weights, (M, D), possibly not finite. Batch norm statistics are recomputed on images.

    Raises:
        ValueError: if a number is out of range, or the zoo holds no architecture.
    """
    if min(count, draws) < 1:
        raise ValueError(f"count and draws must be at least 1, got {count!r} and {draws!r}")
    if (architecture := train.header.architecture) is None:
        raise ValueError(f"zoo {train.name!r} holds no architecture, which drawing needs")
    generator = torch.Generator().manual_seed(seed)
    images, activation = zoo_images(train), train.columns["activation"][0]

    def decoded(points: Tensor) -> Tensor:
        return condition(architecture, decode(points), activation, images.train)

    def score(points: Tensor) -> Tensor:
        names = [activation] * len(points)
        found = accuracies(architecture, decoded(points), names, few_images(images))[1]
        bar.update(len(points))
        return found

    if draws == 1:
        return decoded(draw(count, generator))
    with progress_bar(draws * count, "draws", "model", progress) as bar:
        best = best_of(lambda many: draw(many, generator), score, count, draws * count)
    return decoded(best)


def few_images(images: ImageSet) -> Images:
    """The first `FEW_IMAGES` val images, which choose the best draws."""
    return Images(images.val.pixels[:FEW_IMAGES], images.val.labels[:FEW_IMAGES])


def write_generated_zoo(
    folder: Path,
    weights: Tensor,
    parent: ZooDataset,
    description: Mapping[str, Any],
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> GeneratedZoo:
    """Measure generated models on the parent's image set and write them as a zoo folder.

    All rows get the hyper-parameters of the parent's first row. Those that vary in the parent have
    no meaning for a generated model, which was not trained.

    Args:
        folder: zoo folder to create; its name is the name of the zoo.
        weights: flat weights, (M, D).
        parent: rows that the generator was trained on.
        description: origin of the weights as plain data, for the recipe attribute.
        seed: seed of the drawn weights, and of the split by model.
        overwrite: whether to replace an existing zoo.
        progress: whether to show a progress bar on stderr.

    Raises:
        ValueError: if there are no weights, if they have another length than the parent's, or if
            the parent does not name its image set.
        BuildError: if the folder exists already.
    """
    if weights.ndim != 2 or len(weights) == 0 or weights.shape[1] != parent.layer_table.width:
        raise ValueError(
            f"weights must be (M, {parent.layer_table.width}) with M of at least 1, "
            f"got {tuple(weights.shape)}"
        )
    images = zoo_images(parent)
    columns = _columns(weights, parent, images, seed, progress)
    header = replace(
        parent.header,
        recipe=dict(description) | {"images": images.name},
        split={"by": "model", "fractions": FRACTIONS, "seed": seed},
        provenance={
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "parent": rows_provenance(parent.name, parent.source.files),
            "images": {"name": images.name, "fingerprint": images.fingerprint},
        },
        checksums={},
    )
    folder, rows = Path(folder), weights.numpy()
    identity = Identity("sample", parent.name, {"weights": checksum(rows), "seed": seed})
    with partial_folder(folder, identity, overwrite) as held:
        if not held.is_done:
            write_zoo_folder(held.finished, folder.name, header, columns, rows)
        index = ZooIndex.read(held.out if held.is_done else held.finished)
    good = columns["status"] == "ok"
    mean = float(columns["test_accuracy"][good].mean()) if good.any() else float("nan")
    return GeneratedZoo(
        index=index, models=len(weights), diverged=int((~good).sum()), test_accuracy=mean
    )


def zoo_images(zoo: ZooDataset) -> ImageSet:
    """The image set that a zoo's models were trained on.

    Raises:
        ValueError: if the zoo does not name it.
    """
    name = zoo.header.recipe.get("images")
    if not isinstance(name, str):
        raise ValueError(
            f"zoo {zoo.name!r} does not name the image set of its models: choose another zoo"
        )
    return load_images(name)


def _columns(
    weights: Tensor, parent: ZooDataset, images: ImageSet, seed: int, progress: bool
) -> dict[str, np.ndarray]:
    count = len(weights)
    columns: dict[str, np.ndarray] = {
        "model_id": np.arange(count),
        "epoch": np.zeros(count, np.int64),
        "split": np.array(generated_splits(count, seed), object),
        "seed": np.full(count, seed),
        "status": np.full(count, "ok", object),
    }
    columns |= lineage_columns([Lineage(relation="generated", parent_zoo=parent.name)] * count)
    for name in parent.header.hyper_parameters:
        first = parent.table.column(name, parent.rows[:1])
        columns[name] = np.repeat(first, count)
    columns |= _metrics(weights, parent, images, columns["activation"].tolist(), progress)
    finite = np.isfinite(weights.numpy()).all(1) & np.isfinite(columns["train_loss"])
    columns["status"][~finite] = "diverged"
    return columns


def _metrics(
    weights: Tensor, parent: ZooDataset, images: ImageSet, activations: list[str], progress: bool
) -> dict[str, np.ndarray]:
    architecture = parent.header.architecture
    if architecture is None:
        raise ValueError(f"zoo {parent.name!r} holds no architecture, which measuring needs")
    metrics, step = {}, MODELS_AT_ONCE[weights.device.type]
    with progress_bar(3 * len(weights), "measures", "model", progress) as bar:
        for name in ("train", "val", "test"):
            parts = []
            for start, part in zip(range(0, len(weights), step), weights.split(step), strict=True):
                words = activations[start : start + step]
                parts.append(accuracies(architecture, part, words, getattr(images, name)))
                bar.update(len(part))
            loss, accuracy = torch.cat(parts, 1)
            metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = loss.numpy(), accuracy.numpy()
    metrics["generalization_gap"] = metrics["train_accuracy"] - metrics["test_accuracy"]
    return {name: metrics[name].astype(np.float32) for name in METRICS}


def generated_splits(count: int, seed: int) -> list[str]:
    """A random split for every generated model, with the shares in `FRACTIONS`.

    Args:
        count: number of models.
        seed: seed of the split.
    """
    return draw_splits(count, FRACTIONS, np.random.default_rng(seed))
