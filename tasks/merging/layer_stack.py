"""Stacks the decoder layers of several checkpoints into one deeper checkpoint.

As in Model-GLUE's stacking, everything but the decoder layers is averaged. The result is meant as
a start for further training.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from ...loaders.collections import FolderMember, open_collection
from ...zoos.errors import MergeError
from ...zoos.strict_json import json_text
from ...zoos.tensors.checkpoint_folder import CONFIG_NAME, WEIGHTS_NAME
from ...zoos.tensors.safetensors_file import SafetensorsWriter
from .merge import check_mergeable
from .output import MERGE_NAME, merge_folder, write_text
from .recipe import read_merge_recipe

ORDERS = ("concatenate", "interleave")
_LAYER = re.compile(r"^(?P<head>.*\blayers\.)(?P<number>\d+)(?P<tail>\..*)$")


def stack_layers(
    members: Sequence[Path | str], out: Path, order: str = "concatenate", *, overwrite: bool = False
) -> list[tuple[int, int]]:
    """Write a checkpoint with the layers of all members.

    Args:
        members: checkpoint folders of one architecture.
        out: the folder to make.
        order: "concatenate" puts all layers of a member after those of the one before,
            "interleave" takes the first layers of all, then the second ones.
        overwrite: replace an earlier result there.

    Returns:
        (member, layer) of every layer of the result.

    Raises:
        MergeError: if members differ, or have no numbered layers or no config.
    """
    if order not in ORDERS:
        raise MergeError(f"order must be one of {ORDERS}, got {order!r}")
    collection = open_collection(members)
    recipe = read_merge_recipe({"method": "mean", "members": [str(path) for path in members]})
    check_mergeable(collection, recipe)
    first = collection.members[0]
    depth = 1 + max((layer_number(name) for name in first.tensors), default=-1)
    if depth == 0 or not isinstance(first, FolderMember) or not first.folder.config:
        raise MergeError(f"{first.name} has no config.json, or no layers that are numbered")
    plan = layer_plan(len(collection.members), depth, order)
    sources = {
        _renamed(name, place): (member, name)
        for place, (member, layer) in enumerate(plan)
        for name in first.tensors
        if layer_number(name) == layer
    }
    shared = [name for name in first.tensors if layer_number(name) < 0]
    kinds = {name: first.tensors[name] for name in shared}
    kinds |= {name: first.tensors[source] for name, (_, source) in sources.items()}
    size_bytes = sum(kind.size_bytes for kind in kinds.values())
    state: dict[str, object] = {
        "stack": order,
        "members": [member.name for member in collection.members],
    }
    with merge_folder(out, state, size_bytes, overwrite) as folder:
        writer = SafetensorsWriter(folder / WEIGHTS_NAME, kinds, {"format": "pt"})
        for name in shared:
            values = torch.stack([one.float() for one in collection.read(name)])
            writer.write(name, 0, values.mean(0))
        for name, (member, source) in sources.items():
            writer.write(name, 0, collection.members[member].read(source))
        writer.close()
        _finish(folder, first, plan, state)
    return plan


def layer_plan(members: int, depth: int, order: str) -> list[tuple[int, int]]:
    """(member, layer) of every layer of the stack.

    Args:
        members: number of members.
        depth: number of layers of every member.
        order: "concatenate" or "interleave".
    """
    if order == "concatenate":
        return [(member, layer) for member in range(members) for layer in range(depth)]
    return [(member, layer) for layer in range(depth) for member in range(members)]


def layer_number(name: str) -> int:
    """The decoder layer that a tensor belongs to; -1 for none.

    Args:
        name: name of a tensor, such as "model.layers.3.mlp.up_proj.weight".
    """
    match = _LAYER.match(name)
    return int(match["number"]) if match else -1


def _renamed(name: str, layer: int) -> str:
    match = _LAYER.match(name)
    assert match is not None
    return f"{match['head']}{layer}{match['tail']}"


def _finish(
    folder: Path, first: FolderMember, plan: Sequence[tuple[int, int]], state: dict[str, object]
) -> None:
    for file in first.folder.side_files():
        shutil.copyfile(file, folder / file.name)
    config = dict(first.folder.config) | {"num_hidden_layers": len(plan)}
    if isinstance(config.get("layer_types"), list):  # one entry per layer
        config["layer_types"] = [first.folder.config["layer_types"][layer] for _, layer in plan]
    write_text(folder / CONFIG_NAME, json_text(config, indent=2))
    write_text(folder / MERGE_NAME, json_text({**state, "layers": plan}, indent=1))
