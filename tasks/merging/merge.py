"""Merges checkpoints into a folder that `transformers` loads, tensor by tensor."""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...loaders.collections import (
    AdapterMember,
    FolderMember,
    Member,
    ModelCollection,
    find_conflicts,
    open_collection,
)
from ...zoos.errors import MergeError
from ...zoos.provenance import package_version
from ...zoos.strict_json import json_text
from ...zoos.tensors.checkpoint_folder import CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME
from ...zoos.tensors.lazy import TensorType
from ...zoos.tensors.safetensors_file import SafetensorsWriter
from .methods import merge_tensor
from .output import MERGE_NAME, Journal, merge_folder, write_text
from .recipe import MergeRecipe
from .similarity import column_similarity

SHARD_BYTES = 5_000_000_000
SYNC_BYTES = 256_000_000  # written between two entries of the journal
SHOWN_CONFLICTS = 8
ANCESTOR = 0.5  # mean cosine of columns below which a base is doubted
QUICK_COLUMNS, QUICK_TENSORS = 32, 8


@dataclass(frozen=True)
class MergeReport:
    """What was merged.

    Attributes:
        path: the folder.
        tensors: number of tensors.
        size_bytes: size of all tensors.
        resumed: tensors that an earlier start had merged.
        weights: lowest and highest weight of every member, and of the base, as applied; empty
            where weights differ by value.
    """

    path: Path
    tensors: int
    size_bytes: int
    resumed: int
    weights: Mapping[str, tuple[float, float]]


def open_members(recipe: MergeRecipe) -> ModelCollection:
    """Open the checkpoints of a recipe.

    Raises:
        ZooError: if one is missing or damaged.
    """
    return open_collection(recipe.members, recipe.base or None)


def check_mergeable(collection: ModelCollection, recipe: MergeRecipe) -> None:
    """Refuse members that do not go together, before anything is written.

    Args:
        collection: members to merge, and their base.
        recipe: merge recipe.

    Raises:
        MergeError: naming what differs, or what the method cannot take.
    """
    if conflicts := find_conflicts(collection):
        lines = [conflict.text for conflict in conflicts[:SHOWN_CONFLICTS]]
        more = f"\n  and {len(conflicts) - len(lines)} more" * (len(conflicts) > len(lines))
        raise MergeError("these members cannot be merged:\n  " + "\n  ".join(lines) + more)
    recipe.check_members(len(collection.members), collection.base is not None)


def check_ancestry(collection: ModelCollection, recipe: MergeRecipe) -> None:
    """Warn of a base that a member was not trained from, by the similarity of their weights.

    Args:
        collection: members to merge, and their base.
        recipe: merge recipe.
    """
    if collection.base is None or not recipe.rules.needs_base:
        return
    everyone = ModelCollection(collection.everyone)
    found = column_similarity(
        everyone, columns=QUICK_COLUMNS, most_tensors=QUICK_TENSORS, null_draws=3
    )
    for member, similar in zip(collection.members, found.mean_MM[-1].tolist(), strict=False):
        if similar < ANCESTOR:
            warnings.warn(
                f"{collection.base.name} may be no ancestor of {member.name}: their columns have "
                f"a mean cosine of {similar:.3f}, unrelated weights reach {found.null:.3f}",
                stacklevel=2,
            )


def merge_checkpoints(
    recipe: MergeRecipe,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MergeReport:
    """Merge the checkpoints of a recipe into a folder.

    Args:
        recipe: what and how.
        out: the folder to make.
        overwrite: replace an earlier merge there.
        progress: told the bytes done and in all, after every tensor.

    Raises:
        MergeError: if the members do not go together, a weight is not finite, or `out` is taken.
        BuildError: if the disk is too small.
        ZooError: if a checkpoint is damaged.
    """
    collection = open_members(recipe)
    check_mergeable(collection, recipe)
    check_ancestry(collection, recipe)
    companions = open_collection(recipe.companions) if recipe.companions else None
    kinds = _output_types(collection, recipe)
    total = sum(kind.size_bytes for kind in kinds.values())
    inputs = [_identity(member) for member in collection.everyone]
    state = {"recipe": recipe.to_json(), "inputs": inputs}
    with merge_folder(out, state, total, overwrite) as folder:
        journal = Journal(folder)
        resumed = len(journal.done)
        shards = _shards(kinds)
        for name, shard in shards.items():
            _merge_shard(
                folder / name, shard, collection, companions, recipe, journal, progress, total
            )
        _finish(folder, shards, collection, recipe, inputs, journal.done)
    return MergeReport(out, len(kinds), total, resumed, _ranges(collection, journal.done))


def _merge_shard(
    path: Path,
    kinds: Mapping[str, TensorType],
    collection: ModelCollection,
    companions: ModelCollection | None,
    recipe: MergeRecipe,
    journal: Journal,
    progress: Callable[[int, int], None],
    total: int,
) -> None:
    writer = SafetensorsWriter(path, kinds, {"format": "pt"})
    waiting, written = dict[str, Any](), 0
    for name in writer.tensors:
        if name not in journal.done:

            def write(start: int, values: Tensor, name: str = name) -> None:
                writer.write(name, start, values)

            waiting[name] = merge_tensor(
                recipe.method, collection, name, recipe.settings_of(name), write, companions
            )
            written += kinds[name].size_bytes
            if written >= SYNC_BYTES:
                writer.sync()
                journal.add(waiting)
                waiting, written = {}, 0
        progress(kinds[name].size_bytes, total)
    writer.close()
    journal.add(waiting)


def _output_types(collection: ModelCollection, recipe: MergeRecipe) -> dict[str, TensorType]:
    return {
        name: TensorType(recipe.dtype or kind.dtype, kind.shape) if kind.is_float else kind
        for name, kind in collection.tensors.items()
    }


def _shards(kinds: Mapping[str, TensorType]) -> dict[str, dict[str, TensorType]]:
    """Tensors by file, in the order of names; a file holds at most `SHARD_BYTES`."""
    parts, size = list[dict[str, TensorType]]([{}]), 0
    for name, kind in kinds.items():
        if parts[-1] and size + kind.size_bytes > SHARD_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = kind
        size += kind.size_bytes
    if len(parts) == 1:
        return {WEIGHTS_NAME: parts[0]}
    count = len(parts)
    return {
        f"model-{place:05d}-of-{count:05d}.safetensors": part for place, part in enumerate(parts, 1)
    }


def _identity(member: Member) -> list[Any]:
    """What tells a member from another: path, bytes, and when they were written.

    The name of a member on the Hub holds its commit.
    """
    if isinstance(member, AdapterMember):
        path = Path(member.adapter.file.source.name)
        return [member.name, path.stat().st_size, path.stat().st_mtime_ns, *_identity(member.base)]
    assert isinstance(member, FolderMember)
    sources = {file.source.name: file.source for file in member.folder.homes.values()}
    if member.folder.address:
        return [member.name, sum(source.size_bytes for source in sources.values())]
    paths = sorted(sources)
    stats = [Path(path).stat() for path in paths]
    return [member.name, sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)]


def _finish(
    folder: Path,
    shards: Mapping[str, Mapping[str, TensorType]],
    collection: ModelCollection,
    recipe: MergeRecipe,
    inputs: Sequence[Any],
    weights: Mapping[str, Any],
) -> None:
    if len(shards) > 1:
        homes = {name: shard for shard, kinds in shards.items() for name in kinds}
        size = sum(kind.size_bytes for kinds in shards.values() for kind in kinds.values())
        index = {"metadata": {"total_size": size}, "weight_map": homes}
        write_text(folder / INDEX_NAME, json_text(index, indent=1))
    first = collection.everyone[-1] if collection.base is not None else collection.members[0]
    source = first.base if isinstance(first, AdapterMember) else first
    assert isinstance(source, FolderMember)
    for file in source.folder.side_files():
        shutil.copyfile(file, folder / file.name)
    if source.folder.config and recipe.dtype:
        config = dict(source.folder.config)
        config.pop("torch_dtype", None)  # the name before transformers 5
        config["dtype"] = recipe.dtype
        write_text(folder / CONFIG_NAME, json_text(config, indent=2))
    record = {
        "weightzoo": package_version(),
        "recipe": recipe.to_json(),
        "fingerprint": recipe.fingerprint([json_text(one) for one in inputs]),
        "inputs": inputs,
        "members": [member.name for member in collection.members],
        "weights_as_applied": weights,
    }
    write_text(folder / MERGE_NAME, json_text(record, indent=1))
    write_text(folder / "README.md", _card(collection, recipe))


def _card(collection: ModelCollection, recipe: MergeRecipe) -> str:
    settings = recipe.to_json()["settings"]
    names = [Path(member.name).name for member in collection.members]
    base = [f"- base: `{Path(collection.base.name).name}`"] if collection.base else []
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [merge, weightzoo]",
            "---",
            "",
            f"# Merge of {len(names)} models by {recipe.method}",
            "",
            f"{recipe.rules.text[0].upper()}{recipe.rules.text[1:]}.",
            "",
            *[f"- member: `{name}`" for name in names],
            *base,
            *[f"- {name}: {value}" for name, value in settings.items() if value is not None],
            "",
            f"`{MERGE_NAME}` holds the whole recipe and the weight of every member in every "
            "tensor, as it was applied.",
            "",
        ]
    )


def _ranges(
    collection: ModelCollection, weights: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Lowest and highest applied weight of every member over the tensors."""
    names = [member.name for member in collection.everyone]
    if any(row is None for row in weights.values()):
        return {}
    rows = [row for row in weights.values() if len(row) == len(names)]
    columns = zip(*rows, strict=True)
    return {name: (min(column), max(column)) for name, column in zip(names, columns, strict=True)}
