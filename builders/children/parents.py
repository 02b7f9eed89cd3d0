"""The rows of a zoo that new models start from: one per model, with its hyper-parameters.

Shape letters: M models, N rows of a file, D length of the parent's flat vector.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...zoos.errors import BuildError, RecipeError
from ...zoos.format import ZooFile
from ...zoos.index import ZooIndex
from ...zoos.lineage import Lineage
from ...zoos.networks.architectures import Architecture
from ...zoos.provenance import parent_provenance
from ...zoos.recipe import HyperParameters, Model

Condition = Callable[[Mapping[str, np.ndarray]], np.ndarray]  # columns (N,) to (N,) bool
TYPES: dict[str, type] = {field.name: field.type for field in fields(HyperParameters)}  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class Parents:
    """One row of a zoo for each of M models; can be pickled, and reads weights on demand.

    Attributes:
        provenance: name and digest of the zoo, {"name", "sha256"}.
        architecture: architecture of its models.
        images: name of the image set they were trained on, "" if it is unknown.
        files: files of the zoo.
        row_indices: (index in `files`, row) of each model.
        models: children, with id, seed, split and hyper-parameters of their parents.
        epochs: epochs of the parent rows.
        left_out: number of models of the zoo without a usable row.
    """

    provenance: dict[str, str]
    architecture: Architecture
    images: str
    files: tuple[ZooFile, ...]
    row_indices: tuple[tuple[int, int], ...]
    models: tuple[Model, ...]
    epochs: tuple[int, ...]
    left_out: int

    def weights(self, positions: Sequence[int]) -> Tensor:
        """Read the rows of some models, (M, D) float32.

        Raises:
            ZooNotFoundError: if a file is not there, as on a node that does not share the disk.
            ZooFormatError: if a file changed since it was opened.
        """
        chosen = [self.row_indices[position] for position in positions]
        maps = {index: self.files[index].map_weights() for index, _ in chosen}
        return torch.from_numpy(np.stack([maps[index][row] for index, row in chosen]))

    def lineage(self, relation: str) -> tuple[Lineage, ...]:
        """The lineage of a child of each row."""
        return tuple(
            Lineage(
                relation=relation,
                parent_zoo=self.provenance["name"],
                parent_model_id=model.model_id,
                parent_epoch=epoch,
            )
            for model, epoch in zip(self.models, self.epochs, strict=True)
        )

    def split_shares(self) -> dict[str, float]:
        """Share of the models by split."""
        splits = [model.split for model in self.models]
        return {split: splits.count(split) / len(splits) for split in dict.fromkeys(splits)}


def choose_parents(
    folder: Path,
    where: Condition | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Parents:
    """Choose the last checkpoint of each model that is finite and fulfils a condition.

    Children keep `model_id`, seed and split of their parents, so that no model has relatives in
    two splits, in either zoo.

    Args:
        folder: folder of the parents' zoo.
        where: condition on the rows, from the columns of one file; None accepts all.
        overrides: hyper-parameters that replace the parents' in all children.

    Raises:
        ZooNotFoundError: if there is no zoo.
        BuildError: if its architecture is unknown, no row is usable, or a model's activation is
            unknown.
        RecipeError: if an override is unknown or out of range.
    """
    files = tuple(ZooIndex.read(folder).open(folder))
    header = files[0].header
    if header.architecture is None:
        raise BuildError(
            f"{folder} stores no architecture, so its models cannot be trained further"
        )
    _known(overrides or {})
    columns = [file.read_columns() for file in files]
    row_indices = _last_rows(columns, where)
    if not row_indices:
        raise BuildError(f"{folder} has no finite row that can be taken: widen the condition")
    rows = {key: {name: c[row] for name, c in columns[i].items()} for key, (i, row) in row_indices}
    everyone = {int(key) for own in columns for key in own["model_id"]}
    return Parents(
        provenance=parent_provenance(folder),
        architecture=header.architecture,
        images=str(header.provenance.get("images", {}).get("name", "")),
        files=files,
        row_indices=tuple(index for _, index in row_indices),
        models=tuple(_model(row, overrides or {}) for row in rows.values()),
        epochs=tuple(int(row["epoch"]) for row in rows.values()),
        left_out=len(everyone) - len(row_indices),
    )


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Read hyper-parameters written as "name=value".

    Raises:
        RecipeError: if one is written otherwise, unknown, or not of the right type.
    """
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"write a hyper-parameter as name=value, got {text!r}")
        _known({name: value})
        try:
            overrides[name] = TYPES[name](value)
        except ValueError as error:
            raise RecipeError(f"{name} must be {TYPES[name].__name__}, got {value!r}") from error
    return overrides


def _known(overrides: Mapping[str, Any]) -> None:
    if odd := sorted(set(overrides) - set(TYPES)):
        raise RecipeError(f"unknown hyper-parameters {odd}, known are {list(TYPES)}")


def _last_rows(
    columns: Sequence[Mapping[str, np.ndarray]], where: Condition | None
) -> list[tuple[int, tuple[int, int]]]:
    """(model_id, (file, row)) of the row with the last epoch of each model, by model_id."""
    last: dict[int, tuple[int, tuple[int, int]]] = {}
    for index, own in enumerate(columns):
        usable = own["status"] == "ok"
        if where is not None:
            usable &= where(own)
        for row in np.flatnonzero(usable).tolist():
            model, epoch = int(own["model_id"][row]), int(own["epoch"][row])
            if model not in last or epoch > last[model][0]:
                last[model] = epoch, (index, row)
    return [(model, index) for model, (_, index) in sorted(last.items())]


def _model(row: Mapping[str, Any], overrides: Mapping[str, Any]) -> Model:
    """A child with its parent's hyper-parameters and the overrides; unknown ones by default."""
    known = {name: kind(row[name]) for name, kind in TYPES.items() if not _unknown(row, name)}
    values = known | dict(overrides)
    if "activation" not in values:
        raise BuildError(
            f"the activation of model {row['model_id']} is unknown: "
            "give it, as in --set activation=relu"
        )
    return Model(
        model_id=int(row["model_id"]),
        seed=int(row["seed"]),
        split=str(row["split"]),
        hyper_parameters=HyperParameters(**values),
    )


def _unknown(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name, "")
    return value == "" or (isinstance(value, float | np.floating) and math.isnan(value))
