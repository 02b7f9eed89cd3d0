"""Write a fake zoo in a second: random weights, made-up metrics, real structure."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch

from weightzoo.zoos.cards.card import write_card
from weightzoo.zoos.format import METRICS, ZooHeader, write_zoo_file
from weightzoo.zoos.index import ZooIndex, describe_shard, shard_name
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import hyper_parameter_columns, hyper_parameter_names, load_recipe

EPOCHS = (0, 1, 2)


def tiny_architecture() -> Architecture:
    """A CNN with 71 parameters for 1x8x8 images."""
    return Architecture.from_json(
        {
            "name": "tiny-cnn",
            "input_shape": [1, 8, 8],
            "layers": [
                {"kind": "conv", "out": 2, "kernel": 3},
                {"kind": "max_pool", "size": 3},
                {"kind": "activation"},
                {"kind": "dropout"},
                {"kind": "flatten"},
                {"kind": "linear", "out": 4},
                {"kind": "activation"},
                {"kind": "linear", "out": 3},
            ],
        }
    )


def tiny_header(architecture: Architecture) -> ZooHeader:
    """A header without image set."""
    return ZooHeader(
        architecture=architecture,
        layer_table=architecture.layer_table(),
        hyper_parameters=hyper_parameter_names(),
        recipe={"name": "tiny", "description": "random weights"},
        split={"by": "model", "fractions": {"train": 0.5, "val": 0.25, "test": 0.25}, "seed": 0},
        provenance={"weightzoo": "test"},
    )


def tiny_rows(
    architecture: Architecture, splits: list[str], first_id: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns and weights of len(splits) models at `EPOCHS`, one split per model."""
    models = load_recipe("digits-cnn").models(256)[first_id : first_id + len(splits)]
    repeat = len(EPOCHS)
    rng = np.random.default_rng(first_id)
    columns: dict[str, np.ndarray] = {
        "model_id": np.repeat(np.arange(first_id, first_id + len(splits)), repeat),
        "epoch": np.tile(np.array(EPOCHS), len(splits)),
        "split": np.repeat(np.array(splits, dtype=object), repeat),
        "seed": np.repeat(np.array([model.seed for model in models]), repeat),
        "status": np.array(["ok"] * len(splits) * repeat, dtype=object),
    }
    for name, values in hyper_parameter_columns(models).items():
        columns[name] = np.repeat(values, repeat)
    for name in METRICS:
        columns[name] = rng.random(len(splits) * repeat, dtype=np.float32)
    columns["train_accuracy"] = columns["test_accuracy"] + columns["generalization_gap"]
    modules = [architecture.module().state_dict() for _ in range(len(splits) * repeat)]
    table = architecture.layer_table()
    return columns, torch.stack([table.flatten(state) for state in modules]).numpy()


def make_tiny_zoo(folder: Path, train_shards: int = 1) -> Path:
    """Write a zoo folder: 2 models per train shard, 1 val, 1 test, 3 checkpoints each."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    architecture = tiny_architecture()
    header = tiny_header(architecture)
    shards, first_id = [], 0
    plan = [("train", index, train_shards) for index in range(train_shards)]
    for split, index, count in [*plan, ("val", 0, 1), ("test", 0, 1)]:
        models = 2 if split == "train" else 1
        columns, weights = tiny_rows(architecture, [split] * models, first_id)
        name = shard_name(split, index, count)
        write_zoo_file(folder / name, header, columns, weights)
        shards.append(describe_shard(folder, name, split, models))
        first_id += models
    index_file = ZooIndex(name="tiny", shards=tuple(shards))
    index_file.write(folder)
    write_card(folder, index_file, header)
    return folder


def copy_as_imported(source: Path, folder: Path) -> Path:
    """Copy a zoo as one that was fine-tuned from an imported zoo."""
    shutil.copytree(source, folder)
    for file in folder.glob("*.h5"):
        with h5py.File(file, "r+") as opened:
            provenance = json.loads(opened.attrs["provenance"])
            provenance["parent"] = {"name": "published", "sha256": "", "imported": "smallcnn"}
            opened.attrs["provenance"] = json.dumps(provenance)
    index = ZooIndex.read(folder)
    shards = [describe_shard(folder, s.path, s.split, s.models) for s in index.shards]
    replace(index, shards=tuple(shards)).write(folder)
    return folder
