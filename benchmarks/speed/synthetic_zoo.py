"""Zoos of random weights with the columns of a real zoo, for timing loaders.

Shape letters: N rows, D length of the flat weight vector.
"""

from pathlib import Path

import numpy as np

from weightzoo.zoos.format import (
    METRICS,
    ZooHeader,
    create_zoo_file,
    finish_zoo_file,
    open_zoo_file,
)
from weightzoo.zoos.index import ZooIndex, describe_shard, shard_name
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import hyper_parameter_columns, hyper_parameter_names, load_recipe

SEED = 0
EPOCHS = 7
DISTINCT_MODELS = 500  # models whose hyper-parameters are repeated over the rows
BLOCK_BYTES = 2**26


def write_zoo(path: Path, rows: int, width: int, seed: int = SEED) -> None:
    """Write a zoo file of random weights block by block, in constant memory.

    Args:
        path: file to write.
        rows: number of rows N.
        width: number of values per row D.
        seed: seed of the weights and metrics.
    """
    header = ZooHeader(
        architecture=None,
        layer_table=architecture(width).layer_table(),
        hyper_parameters=hyper_parameter_names(),
        recipe={"name": "random"},
    )
    rng = np.random.default_rng(seed)
    create_zoo_file(path, header, synthetic_columns(rows, rng))
    weights = open_zoo_file(path).map_weights("r+")
    step = max(1, BLOCK_BYTES // (4 * width))
    for start in range(0, rows, step):
        block = weights[start : start + step]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    weights.flush()
    del weights
    finish_zoo_file(path, header, {})


def write_sharded_zoo(folder: Path, rows: int, width: int, shards: int) -> None:
    """Write a zoo folder with the rows of its train split in several files.

    Args:
        folder: zoo folder to create.
        rows: number of rows N.
        width: number of values per row D.
        shards: number of files.
    """
    folder.mkdir(parents=True)
    listed = []
    for index in range(shards):
        name = shard_name("train", index, shards)
        count = rows * (index + 1) // shards - rows * index // shards
        write_zoo(folder / name, count, width, seed=index)
        listed.append(describe_shard(folder, name, "train", count // EPOCHS + 1))
    ZooIndex(name="random", shards=tuple(listed)).write(folder)


def architecture(width: int) -> Architecture:
    """The published architecture with D = width (2,464, 10,853 or 11,183,582), else one neuron."""
    for name in ("cnn-s", "cnn-l", "resnet18"):
        if preset(name).layer_table().width == width:
            return preset(name)
    layers = [{"kind": "linear", "out": 1}]
    return Architecture.from_json({"name": "n", "input_shape": [width - 1], "layers": layers})


def synthetic_columns(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns of a built zoo: identity, hyper-parameters, metrics.

    Args:
        rows: number of rows N.
        rng: generator of the metrics.
    """
    models = load_recipe("digits-cnn").models(DISTINCT_MODELS)
    number = np.arange(rows)
    model_id = number // EPOCHS
    columns: dict[str, np.ndarray] = {
        "model_id": model_id,
        "epoch": number % EPOCHS,
        "split": np.full(rows, "train", dtype=object),
        "seed": model_id * 7919,
        "status": np.full(rows, "ok", dtype=object),
    }
    for name, values in hyper_parameter_columns(models).items():
        columns[name] = values[model_id % DISTINCT_MODELS]
    for name in METRICS:
        columns[name] = rng.random(rows, dtype=np.float32)
    return columns
