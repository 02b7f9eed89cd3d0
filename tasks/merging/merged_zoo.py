"""Merges rows of a zoo into new models and writes these as a zoo with lineage "merged".

Attributes hold 60 kB and one parent, so the recipes, with all parents and the weights as they were
applied, lie beside the zoo's files, each named by its fingerprint.

Shape letters: M merged models, D length of the flat weight vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...loaders import HiddenPermutations, ZooDataset, align
from ...loaders.collections import ModelCollection, ZooMember
from ...zoos.folder_identity import Identity
from ...zoos.format import METRICS, SPLITS, checksum
from ...zoos.images.catalog import ImageSet, load_images
from ...zoos.index import ZooIndex
from ...zoos.lineage import Lineage, lineage_columns
from ...zoos.partial_folder import partial_folder
from ...zoos.provenance import commit, package_version, rows_provenance
from ...zoos.strict_json import json_text
from ...zoos.texts.text_set import TextSet, is_text_set, load_texts
from ...zoos.zoo_folder import write_zoo_folder
from ..autoencoding.behaviour import accuracies
from ..generation.batch_norms import condition
from ..generation.generated_zoo import zoo_images
from ..merge_methods.calibration import repair
from .methods import merged
from .output import write_text
from .recipe import MergeRecipe
from .zoo_rows import StateMember, zoo_companions


@dataclass(frozen=True)
class MergedModel:
    """A merged model of a zoo.

    Attributes:
        weights: (D,), flat.
        recipe: recipe of the merge, plain data with all parents.
        fingerprint: fingerprint of the recipe, sixteen hex digits.
        activation: activation function of its parents.
    """

    weights: Tensor
    recipe: Mapping[str, Any]
    fingerprint: str
    activation: str = field(default="relu")


def merge_rows(
    zoo: ZooDataset,
    indices: Sequence[int],
    recipe: MergeRecipe,
    *,
    base: ZooMember | None = None,
    aligned: bool = False,
    recompute_norms: bool = False,
    repaired: bool = False,
) -> MergedModel:
    """Merge some rows of a zoo in memory.

    Args:
        zoo: rows of one architecture.
        indices: row numbers of the members.
        recipe: its method and settings; its members are not looked at.
        base: row the members were trained from.
        aligned: reorder the hidden units of every member to the base, or else to the first
            member, by weight matching beforehand.
        recompute_norms: measure the statistics of batch norms anew on the train images.
        repaired: rescale hidden units to the mean and deviation that they have in the members
            (REPAIR), on the train images.

    Raises:
        MergeError: if the method cannot take these members, a weight is not finite, or a layer
            cannot be repaired.
        ValueError: if a model's architecture is not known.
    """
    from .merge import check_mergeable

    members = [ZooMember(zoo, index) for index in indices]
    collection = ModelCollection(members, base)
    check_mergeable(collection, recipe)
    activation = str(zoo.hidden_column("activation", "merging")[indices[0]])
    companions = None
    if recipe.rules.companion:
        images = zoo_images(zoo).train
        companions = zoo_companions(recipe.rules.companion, zoo, indices, images)
    if aligned:
        collection = _aligned(zoo, indices, base)
    state = merged(recipe.method, collection, recipe.settings_of, companions)
    if repaired:
        modules, network = _modules(zoo, indices, collection), zoo.module(indices[0])
        network.load_state_dict(state)
        state = repair(network, modules, zoo_images(zoo).train)
    weights = zoo.layer_table.flatten(state)
    architecture = zoo.header.architecture
    if recompute_norms and architecture is not None:
        images = zoo_images(zoo).train
        weights = condition(architecture, weights[None], activation, images)[0]
    plain = recipe.to_json() | {
        "parents": [[member.zoo.name, member.model_id, member.epoch] for member in members],
        "base": [base.zoo.name, base.model_id, base.epoch] if base else None,
        "aligned": aligned,
        "recompute_norms": recompute_norms,
        "repaired": repaired,
    }
    fingerprint = recipe.fingerprint([json_text(plain)])
    return MergedModel(weights, plain, fingerprint, activation)


def measured_on(zoo: ZooDataset, images: str = "") -> ImageSet | TextSet:
    """The images or text that merges of a zoo's models are measured on.

    Args:
        zoo: rows of the zoo.
        images: name of an image set or text set; "" takes what the zoo records.

    Raises:
        RecipeError: if the name is unknown.
        ValueError: if no name is given and the zoo records none.
    """
    name = images or zoo.header.recipe.get("images")
    if isinstance(name, str):
        return load_texts(name) if is_text_set(name) else load_images(name)
    raise ValueError(
        f"zoo {zoo.name!r} names no images or text that all its models were trained on: say what "
        "merges are measured on, with --images NAME (in Python images=NAME)"
    )


def write_merged_zoo(
    folder: Path,
    models: Sequence[MergedModel],
    parent: ZooDataset,
    *,
    images: str = "",
    overwrite: bool = False,
) -> ZooIndex:
    """Measure merged models and write them as a zoo folder.

    Args:
        folder: the zoo folder to make; its name is the zoo's.
        models: M merged models of the parent's architecture.
        parent: rows of the zoo whose models were merged.
        images: name of the images or text to measure on; "" takes the parent's.
        overwrite: replace a zoo that is there.

    Raises:
        BuildError: if the folder is taken.
        RecipeError: if the name of the images is unknown.
        ValueError: if there is no name of images, or the parent names no architecture.
    """
    weights = torch.stack([model.weights for model in models])
    data = measured_on(parent, images)
    columns = _columns(models, weights, parent, data)
    header = replace(
        parent.header,
        recipe={
            "merges": [model.fingerprint for model in models],
            "images": data.name,
        },
        split={"by": "model", "fractions": {}, "seed": 0},
        provenance={
            "weightzoo": package_version(),
            "commit": commit(),
            "torch": torch.__version__,
            "parent": rows_provenance(parent.name, parent.source.files),
            "images": {"name": data.name, "fingerprint": data.fingerprint},
        },
        checksums={},
    )
    folder, rows = Path(folder), weights.numpy()
    merges = [model.fingerprint for model in models]
    identity = Identity("merge", parent.name, {"weights": checksum(rows), "merges": merges})
    with partial_folder(folder, identity, overwrite) as held:
        if not held.is_done:
            write_zoo_folder(held.finished, folder.name, header, columns, rows)
            for model in models:
                text = json_text(model.recipe, indent=1)
                write_text(held.finished / f"merge-{model.fingerprint}.json", text)
        return ZooIndex.read(held.out if held.is_done else held.finished)


def _aligned(zoo: ZooDataset, indices: Sequence[int], base: ZooMember | None) -> ModelCollection:
    """The members with their hidden units reordered to the base or the first member."""
    if zoo.header.architecture is None:
        raise ValueError(f"zoo {zoo.name!r} holds no architecture to align its models by")
    rows = zoo.weights(list(indices))
    reference = base.zoo.weights([base.index])[0] if base else rows[0]
    moved, _ = align(rows, reference, HiddenPermutations.of(zoo.header.architecture))
    states = [StateMember(str(i), zoo.layer_table.state_dict(row)) for i, row in enumerate(moved)]
    return ModelCollection(states, base)


def _modules(
    zoo: ZooDataset, indices: Sequence[int], collection: ModelCollection
) -> list[nn.Module]:
    """The members as networks in eval mode, with the weights that they have in a collection."""
    modules = []
    for index, member in zip(indices, collection.members, strict=True):
        module = zoo.module(index)
        module.load_state_dict({name: member.read(name) for name in module.state_dict()})
        modules.append(module)
    return modules


def _columns(
    models: Sequence[MergedModel],
    weights: Tensor,
    parent: ZooDataset,
    data: ImageSet | TextSet,
) -> dict[str, np.ndarray]:
    count = len(models)
    splits = {str(split) for split in parent.hidden_column("split", "merging")}
    split = splits.pop() if len(splits) == 1 else "train"
    columns: dict[str, np.ndarray] = {
        "model_id": np.arange(count),
        "epoch": np.zeros(count, np.int64),
        "split": np.full(count, split, object),
        "seed": np.zeros(count, np.int64),
        "status": np.full(count, "ok", object),
    }
    columns |= lineage_columns([Lineage(relation="merged", parent_zoo=parent.name)] * count)
    for name in parent.header.hyper_parameters:
        columns[name] = np.repeat(parent.table.column(name, parent.rows[:1]), count)
    if "activation" in columns:
        columns["activation"] = np.array([model.activation for model in models], object)
    columns |= _metrics(weights, parent, [model.activation for model in models], data)
    finite = np.isfinite(weights.numpy()).all(1) & np.isfinite(columns["train_loss"])
    columns["status"][~finite] = "diverged"
    return columns


def _metrics(
    weights: Tensor, parent: ZooDataset, activations: list[str], data: ImageSet | TextSet
) -> dict[str, np.ndarray]:
    architecture = parent.header.architecture
    if architecture is None:
        raise ValueError(f"zoo {parent.name!r} holds no architecture to measure models with")
    metrics = {}
    for name in SPLITS:
        loss, accuracy = accuracies(architecture, weights, activations, getattr(data, name))
        metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = loss.numpy(), accuracy.numpy()
    metrics["generalization_gap"] = metrics["train_accuracy"] - metrics["test_accuracy"]
    return {name: metrics[name].astype(np.float32) for name in METRICS}
