"""Write a fake zoo of two architectures: random weights, made-up columns, real structure."""

from pathlib import Path

import numpy as np
from make_tiny_zoo import tiny_architecture, tiny_rows

from weightzoo.zoos.cards.card import write_card
from weightzoo.zoos.format import write_columns_file
from weightzoo.zoos.index import file_sha256, shard_name
from weightzoo.zoos.mixed_format import MixedFiles, MixedIndex, MixedPart, Segment
from weightzoo.zoos.networks.architectures import Architecture
from weightzoo.zoos.recipe import hyper_parameter_names

MODELS = {"train": 2, "val": 1, "test": 1}  # of each architecture


def make_mixed_zoo(folder: Path, licence: str | None = None) -> Path:
    """Write a mixed zoo of imported networks; None states no licence."""
    folder.mkdir(parents=True)
    layers = tiny_architecture().to_json()
    wider = [*layers["layers"][:-1], {"kind": "linear", "out": 5}]
    other = Architecture.from_json(layers | {"name": "wider-cnn", "layers": wider})
    kinds = {"tiny-cnn": tiny_architecture(), "wider-cnn": other}
    segments: dict[str, list[Segment]] = {name: [] for name in kinds}
    files, first_id = [], 0
    for split, models in MODELS.items():
        rows, values, tables = 0, [], []
        for name, made in kinds.items():
            columns, weights = tiny_rows(made, [split] * models, first_id)
            at = sum(map(len, values))
            one = Segment(split=split, first_row=rows, rows=len(weights), first_value=at)
            segments[name].append(one)
            first_id, rows = first_id + models, rows + len(weights)
            values.append(weights.ravel())
            tables.append(columns)
        files.append(_write_split(folder, split, tables, np.concatenate(values), 2 * models))
    stated = {} if licence is None else {"licence": licence}
    header = {
        "hyper_parameters": [*hyper_parameter_names()],
        "recipe": {"name": "park", "description": "random networks", "format": "wildpark"},
        "split": {"by": "model"},
        "provenance": {"imported": "wildpark", "weightzoo": "test"} | stated,
    }
    parts = tuple(
        MixedPart(
            name=name,
            architecture=made,
            layer_table=made.layer_table(),
            segments=tuple(segments[name]),
        )
        for name, made in kinds.items()
    )
    index = MixedIndex(name="park", header=header, files=tuple(files), parts=parts)
    index.write(folder)
    write_card(folder, index)
    return folder


def _write_split(
    folder: Path, split: str, tables: list[dict[str, np.ndarray]], values: np.ndarray, models: int
) -> MixedFiles:
    columns = folder / shard_name(split, 0, 1)
    weights = columns.with_suffix(".f32")
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    write_columns_file(columns, joined)
    weights.write_bytes(values.astype("<f4").tobytes())
    return MixedFiles(
        split=split,
        columns=columns.name,
        weights=weights.name,
        rows=len(joined["split"]),
        models=models,
        size_bytes=(columns.stat().st_size, weights.stat().st_size),
        sha256=(file_sha256(columns), file_sha256(weights)),
    )
