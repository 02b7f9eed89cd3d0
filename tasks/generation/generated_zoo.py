"""Writes generated weights as a zoo: measured, with lineage, and readable by every loader.

Shape letters: M models, D length of the flat weight vector.
"""

from collections.abc import Mapping
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
from ...zoos.index import INDEX_NAME, ZooIndex
from ...zoos.lineage import Lineage, lineage_columns
from ...zoos.partial_folder import partial_folder
from ...zoos.provenance import commit, imported_from, package_version, parent_provenance
from ...zoos.splits import draw_splits
from ...zoos.zoo_folder import write_zoo_folder
from ..autoencoding.behaviour import accuracies
from ..autoencoding.learnable_rows import TOP_SHARE, top_rows
from ..autoencoding.token_autoencoder import TokenAutoencoder
from .batch_norms import condition
from .sampling import Sampler, best_of, make_sampler

FEW_IMAGES = 50  # of the val split, by which SUB and BOOT choose
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True, kw_only=True)
class GeneratedZoo:
    """What was written.

    Attributes:
        index: of the folder.
        models: M.
        diverged: how many have weights or losses that are not finite; they are kept, with
            status "diverged".
        test_accuracy: mean over the others; NaN if there are none.
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
) -> Tensor:
    """Draw new models from an autoencoder of a zoo.

    Args:
        autoencoder: trained on the rows.
        train: rows of one activation, whose latent vectors the sampler is fitted to.
        count: M.
        sampler: one of `sampling`, or a name in `SAMPLERS` for one with its defaults.
        top: share of the rows, the best by val accuracy, that it is fitted to.
        draws: for each model so many are drawn, and the best on few val images kept (SUB).
        seed: of the draws.

    Returns:
        (M, D), flat weights; they may be not finite. Batch norms have statistics of their own.

    Raises:
        ValueError: if there are no rows, or a number is out of range.
    """
    if min(count, draws) < 1:
        raise ValueError(f"count and draws must be at least 1, got {count!r} and {draws!r}")
    if len(train) == 0:
        raise ValueError(f"zoo {train.name!r} has no row to fit the sampler to")
    rows = top_rows(torch.tensor(train.columns["val_accuracy"]), top)
    latent = autoencoder.encode(autoencoder.canonical.weights(train))[rows]
    sampler = make_sampler(sampler) if isinstance(sampler, str) else sampler
    fitted, generator = sampler.fit(latent), torch.Generator().manual_seed(seed)
    images, activation = zoo_images(train), train.columns["activation"][0]
    architecture = autoencoder.canonical.architecture

    def decoded(points: Tensor) -> Tensor:
        return condition(architecture, autoencoder.decode(points), activation, images.train)

    def score(points: Tensor) -> Tensor:
        names = [activation] * len(points)
        return accuracies(architecture, decoded(points), names, few_images(images))[1]

    if draws == 1:
        return decoded(fitted.sample(count, generator))
    best = best_of(lambda many: fitted.sample(many, generator), score, count, draws * count)
    return decoded(best)


def few_images(images: ImageSet) -> Images:
    """The few val images by which draws are chosen."""
    return Images(images.val.pixels[:FEW_IMAGES], images.val.labels[:FEW_IMAGES])


def write_generated_zoo(
    folder: Path,
    weights: Tensor,
    parent: ZooDataset,
    description: Mapping[str, Any],
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> GeneratedZoo:
    """Measure generated models on the parent's image set and write them as a zoo folder.

    Hyper-parameters that are equal in all rows of the parent are kept; of the others those of
    its first row are written, since a generated model was not trained by any.

    Args:
        folder: the zoo folder to make; its name is the zoo's.
        weights: (M, D).
        parent: the rows that the generator learned from.
        description: plain data on how the weights were made, for the recipe attribute.
        seed: what the weights were drawn with; also of the split by model.
        overwrite: replace a zoo that is there.

    Raises:
        ValueError: if the weights are of another length, there are none, or the parent does not
            name its image set.
        BuildError: if the folder is taken.
    """
    if weights.ndim != 2 or len(weights) == 0 or weights.shape[1] != parent.layer_table.width:
        raise ValueError(
            f"weights must be (M, {parent.layer_table.width}) with M of at least 1, "
            f"got {tuple(weights.shape)}"
        )
    images = zoo_images(parent)
    columns = _columns(weights, parent, images, seed)
    header = replace(
        parent.header,
        recipe=dict(description) | {"images": images.name},
        split={"by": "model", "fractions": FRACTIONS, "seed": seed},
        provenance={
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "parent": _parent_provenance(parent),
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
        ValueError: if the zoo does not say.
    """
    name = zoo.header.recipe.get("images")
    if not isinstance(name, str):
        raise ValueError(f"zoo {zoo.name!r} does not say which images its models were trained on")
    return load_images(name)


def _parent_provenance(parent: ZooDataset) -> dict[str, str]:
    """What the provenance says under "parent"; no checksum of rows that are no whole zoo folder."""
    folders = {file.path.parent for file in parent.source.files}
    if len(folders) == 1 and (folder := folders.pop()).joinpath(INDEX_NAME).is_file():
        return parent_provenance(folder)
    imported = (imported_from(file.header.provenance) for file in parent.source.files)
    return {"name": parent.name} | next(filter(None, imported), {})


def _columns(
    weights: Tensor, parent: ZooDataset, images: ImageSet, seed: int
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
    columns |= _metrics(weights, parent, images, columns["activation"].tolist())
    finite = np.isfinite(weights.numpy()).all(1) & np.isfinite(columns["train_loss"])
    columns["status"][~finite] = "diverged"
    return columns


def _metrics(
    weights: Tensor, parent: ZooDataset, images: ImageSet, activations: list[str]
) -> dict[str, np.ndarray]:
    architecture = parent.header.architecture
    if architecture is None:
        raise ValueError(f"zoo {parent.name!r} holds no architecture to measure models with")
    metrics = {}
    for name in ("train", "val", "test"):
        loss, accuracy = accuracies(architecture, weights, activations, getattr(images, name))
        metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = loss.numpy(), accuracy.numpy()
    metrics["generalization_gap"] = metrics["train_accuracy"] - metrics["test_accuracy"]
    return {name: metrics[name].astype(np.float32) for name in METRICS}


def generated_splits(count: int, seed: int) -> list[str]:
    """A split for every generated model, drawn by the shares of `FRACTIONS`."""
    return draw_splits(count, FRACTIONS, np.random.default_rng(seed))
