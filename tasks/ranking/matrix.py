"""Fine-tuning matrices: what fine-tuning every model on every target gave.

A file is HDF5 with the layout that `docs/format.md` draws, or, for reading, a CSV table whose first
column names the models and whose other columns are targets.

Shape letters: M models, T targets, S seeds of the fine-tuning.
"""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.strict_json import json_text

FORMAT = "weightzoo-matrix-1"
TEXTS = ("models", "targets", "families")
CELLS = ("test", "val", "seconds")
MODEL_COLUMNS = ("parameters", "source_accuracy", "source", "architecture")


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """Accuracies after fine-tuning, and what is known of the models without it.

    Attributes:
        models: M different names.
        targets: T different names.
        families: the family of each target; targets of one family resemble each other.
        test: (M, T, S) accuracy, float64, higher is better; NaN where it was not run.
        val: (M, T, S), what settings were chosen by; NaN where it was not kept.
        seconds: (M, T, S) of the fine-tuning; NaN where it was not measured.
        columns: (M,) what is known of each model: any of `MODEL_COLUMNS`.
        scores: (M, T) by name, scores that were computed without fine-tuning; higher is better.
        protocol: settings of the fine-tuning, plain data.
    """

    models: tuple[str, ...]
    targets: tuple[str, ...]
    families: tuple[str, ...]
    test: np.ndarray
    val: np.ndarray
    seconds: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        for name in ("models", "targets"):
            values = getattr(self, name)
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice or not values:
                raise ZooFormatError(f"{name} must be different and at least one, twice: {twice}")
        shape = (len(self.models), len(self.targets))
        cells = self.test.shape
        if len(cells) != 3 or cells[:2] != shape or cells[2] < 1:
            raise ZooFormatError(f"test must be {shape} x seeds as named, got {cells}")
        sizes: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
            "val": (self.val, cells),
            "seconds": (self.seconds, cells),
            "families": (np.array(self.families), shape[1:]),
        }
        sizes |= {name: (column, shape[:1]) for name, column in self.columns.items()}
        sizes |= {f"scores/{name}": (score, shape) for name, score in self.scores.items()}
        for name, (values, wanted) in sizes.items():
            if values.shape != wanted:
                raise ZooFormatError(f"{name} must have the shape {wanted}, got {values.shape}")
        if np.isinf(self.test).any():
            raise ZooFormatError("test holds infinite values: write NaN for what was not run")

    @property
    def accuracy(self) -> np.ndarray:
        """(M, T), the mean over the seeds that were run; NaN where none was."""
        run = np.isfinite(self.test)
        sums = np.where(run, self.test, 0).sum(axis=2)
        return np.where(run.any(axis=2), sums / np.maximum(run.sum(axis=2), 1), np.nan)

    def with_scores(self, scores: Mapping[str, np.ndarray]) -> "Matrix":
        """The same matrix with further scores, (M, T) each."""
        return replace(self, scores={**self.scores, **scores})

    def take(self, targets: Sequence[int]) -> "Matrix":
        """The matrix of some targets, by index."""
        chosen = list(targets)
        return replace(
            self,
            targets=tuple(self.targets[index] for index in chosen),
            families=tuple(self.families[index] for index in chosen),
            test=self.test[:, chosen],
            val=self.val[:, chosen],
            seconds=self.seconds[:, chosen],
            scores={name: score[:, chosen] for name, score in self.scores.items()},
        )


def write_matrix(path: Path, matrix: Matrix, provenance: Mapping[str, Any]) -> None:
    """Write a matrix as HDF5, whole or not at all.

    Args:
        path: file to write, replaced if it is there.
        matrix: what to write.
        provenance: versions and fingerprints, plain data.
    """
    temporary = path.with_name(path.name + ".tmp")
    with h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["protocol"] = json_text(dict(matrix.protocol))
        file.attrs["provenance"] = json_text(dict(provenance))
        for name in TEXTS:
            _write_texts(file, name, getattr(matrix, name))
        for name in CELLS:
            file[name] = getattr(matrix, name).astype("<f8")
        for name, column in matrix.columns.items():
            if column.dtype.kind in "OU":
                _write_texts(file, name, column.tolist())
            else:
                file[name] = column.astype("<f8")
        for name, score in matrix.scores.items():
            file[f"scores/{name}"] = score.astype("<f8")
    os.replace(temporary, path)


def read_matrix(path: Path | str) -> Matrix:
    """Read and check a matrix file.

    Raises:
        ZooNotFoundError: if there is no file.
        ZooFormatError: if it is no matrix, or contradicts itself; the message names the fault.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooNotFoundError(
            f"no matrix at {path}: write one with `weightzoo finetune-matrix`, or give a CSV table "
            "with a column of models and one column per target"
        )
    try:
        return _read_csv(path) if path.suffix == ".csv" else _read_hdf5(path)
    except ZooFormatError as error:
        raise ZooFormatError(f"{path}: {error}") from error


def read_scores(path: Path, matrix: Matrix) -> Matrix:
    """Add scores from a CSV table with the columns target, model, and one per score.

    Args:
        path: the table; the names of its first two columns do not matter.
        matrix: the matrix whose models and targets the table names.

    Returns:
        The matrix of the targets that the table has, with the table's scores.

    Raises:
        ZooNotFoundError: if there is no file.
        ZooFormatError: if a model of a target is missing, or a value is no number.
    """
    if not path.is_file():
        raise ZooNotFoundError(f"no table of scores at {path}")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    cells = {(row[0], row[1]): [_number(text, path) for text in row[2:]] for row in rows}
    named = {target for target, _ in cells}
    chosen = matrix.take([i for i, target in enumerate(matrix.targets) if target in named])
    missing = [
        (target, model)
        for target in chosen.targets
        for model in chosen.models
        if (target, model) not in cells
    ]
    if missing:
        raise ZooFormatError(f"{path} has no row for target and model {missing[0]}")
    values = np.array([[cells[t, m] for t in chosen.targets] for m in chosen.models])
    return chosen.with_scores({name: values[..., i] for i, name in enumerate(header[2:])})


def _read_hdf5(path: Path) -> Matrix:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ZooFormatError(f"not an HDF5 file ({error})") from error
    with file:
        if file.attrs.get("format") != FORMAT:
            raise ZooFormatError(f"format must be {FORMAT!r}, got {file.attrs.get('format')!r}")
        check_links(file, {"scores"})
        models, targets, families = (tuple(_checked(file, name, _texts)) for name in TEXTS)
        test, val, seconds = (_checked(file, name, _numbers) for name in CELLS)
        columns = {
            name: _texts(file[name]) if h5py.check_string_dtype(file[name].dtype) else file[name][:]
            for name in MODEL_COLUMNS
            if name in file
        }
        scores = {name: _numbers(item) for name, item in file.get("scores", {}).items()}
        protocol = json.loads(file.attrs.get("protocol", "{}"))
        return Matrix(
            models=models,
            targets=targets,
            families=families,
            test=test,
            val=val,
            seconds=seconds,
            columns=columns,
            scores=scores,
            protocol=protocol,
        )


def check_links(file: h5py.Group, groups: set[str]) -> None:
    """Refuse what would read other files, and groups that are not expected.

    Args:
        file: an open file or group.
        groups: names of the groups that may be in it.

    Raises:
        ZooFormatError: if there is a soft or external link, external storage, a virtual dataset,
            or another group.
    """
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ZooFormatError(f"{name} is a link, and opening a file must not read others")
        item = file[name]
        if isinstance(item, h5py.Group) and name not in groups:
            raise ZooFormatError(f"unknown group {name!r}: groups may be {sorted(groups)}")
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            raise ZooFormatError(f"{name} is stored in other files")


def _checked(file: h5py.File, name: str, read: Callable[[h5py.Dataset], np.ndarray]) -> np.ndarray:
    if not isinstance(file.get(name), h5py.Dataset):
        raise ZooFormatError(f"it lacks the dataset {name!r}")
    return read(file[name])


def _texts(item: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(item.dtype) is None:
        raise ZooFormatError(f"{item.name} must be text, got {item.dtype}")
    return np.array(item.asstr()[:], dtype=object)


def _numbers(item: h5py.Dataset) -> np.ndarray:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind != "f":
        raise ZooFormatError(f"{item.name} must be a dataset of floating-point numbers")
    return np.asarray(item[:], np.float64)


def _write_texts(file: h5py.File, name: str, values: Sequence[str]) -> None:
    file.create_dataset(name, data=list(values), dtype=h5py.string_dtype())


def _read_csv(path: Path) -> Matrix:
    with path.open(newline="", encoding="utf-8") as file:
        table = [row for row in csv.reader(file) if row]
    if len(table) < 2 or len({len(row) for row in table}) > 1:
        raise ZooFormatError("a CSV matrix needs a header and rows of equal length")
    (_, *targets), *rows = table
    values = np.array([[_number(text, path) for text in row[1:]] for row in rows])[:, :, None]
    nothing = np.full(values.shape, np.nan)
    return Matrix(
        models=tuple(row[0] for row in rows),
        targets=tuple(targets),
        families=tuple(targets),
        test=values,
        val=nothing,
        seconds=nothing,
        protocol={"source": path.name},
    )


def _number(text: str, path: Path) -> float:
    """A number; an empty cell is one that was not run."""
    try:
        return float(text) if text.strip() else float("nan")
    except ValueError as error:
        raise ZooFormatError(f"{path.name}: {text!r} is not a number") from error
