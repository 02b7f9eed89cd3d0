"""Feature files: what many models compute on the images of one task.

One HDF5 file holds one task, its labels once, and a group per model; `docs/format.md` draws it.
Rows are appended batch by batch, and a file whose writing was killed is gone on with.

Shape letters: N images, D features, Z classes of a model's own head, R values to regress.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...zoos.errors import UnsuitableError, ZooFormatError, ZooNotFoundError
from ...zoos.strict_json import json_text
from ..transferability.task_features import TaskFeatures
from .matrix import check_links

FORMAT = "weightzoo-features-1"
PRECISIONS = ("float16", "float32")
CHUNK_ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The images of one task, without their pixels.

    Attributes:
        name: name of the task.
        samples: (N,) uint64, fingerprint of each image, see `samples`.
        labels: (N,) int64 classes, or (N, R) float64 values.
        domains: (N,) int64, or None for one domain.
    """

    name: str
    samples: np.ndarray
    labels: np.ndarray
    domains: np.ndarray | None = None


class FeatureFile:
    """A feature file, open for reading and appending; use it in a `with` statement."""

    def __init__(self, path: Path | str, mode: str = "r") -> None:
        """Open and check a file; see `create_features` for a new one.

        Args:
            path: the file.
            mode: "r" to read, "r+" to append models.

        Raises:
            ZooNotFoundError: if there is no file.
            ZooFormatError: if it is no feature file, or contradicts itself.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise ZooNotFoundError(
                f"no feature file at {path}: write one with `weightzoo features MODELS --images "
                "TASK --out FILE`"
            )
        try:
            self._file = h5py.File(self.path, mode)
        except OSError as error:
            raise ZooFormatError(
                f"{path}: not an HDF5 file, or open elsewhere ({error})"
            ) from error
        try:
            self._check()
        except ZooFormatError as error:
            self._file.close()
            raise ZooFormatError(f"{path}: {error}") from error

    def __enter__(self) -> "FeatureFile":
        """The file itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self._file.close()

    @property
    def task(self) -> Task:
        """The task, read from the file."""
        domains = self._file["domains"][:] if "domains" in self._file else None
        return Task(
            name=self._file.attrs["task"],
            samples=self._file["samples"][:],
            labels=self._file["labels"][:],
            domains=domains,
        )

    @property
    def models(self) -> list[str]:
        """Names of the models whose features are whole, in the order they were written."""
        images = len(self._file["samples"])
        return [
            name for name, group in self._groups().items() if group.attrs["rows_done"] == images
        ]

    def details(self, model: str) -> dict[str, Any]:
        """What was noted of a model: layer, preprocessing, parameters and more."""
        details: dict[str, Any] = json.loads(self._groups()[model].attrs["details"])
        return details

    def read(self, model: str) -> TaskFeatures:
        """Features of one model.

        Raises:
            UnsuitableError: if the model is not in the file, not whole, or cannot be scored.
        """
        if model not in self.models:
            raise UnsuitableError(f"{self.path} has no features of {model!r}, only {self.models}")
        group, task = self._groups()[model], self.task
        logits = group["logits"][:] if "logits" in group else None
        try:
            return TaskFeatures(group["features"][:], task.labels, logits, task.domains)
        except UnsuitableError as error:
            raise UnsuitableError(f"{self.path}, model {model!r}: {error}") from error

    def rows_done(self, model: str) -> int:
        """Number of images whose features are written; 0 for a model that is not there."""
        groups = self._groups()
        return int(groups[model].attrs["rows_done"]) if model in groups else 0

    def append(
        self,
        model: str,
        features: np.ndarray,
        logits: np.ndarray | None,
        details: Mapping[str, Any],
        precision: str = "float32",
    ) -> None:
        """Append the next rows of a model; they are safe on disk when this returns.

        Args:
            model: its name; a new one opens a group.
            features: (rows, D).
            logits: (rows, Z), or None; all batches of a model must agree.
            details: what is noted of the model with its first rows.
            precision: number format of the features, one of `PRECISIONS`; logits are float32.

        Raises:
            UnsuitableError: if values overflow the precision, or rows do not fit what is there.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        values = {"features": (features, precision)}
        if logits is not None:
            values["logits"] = (logits, "float32")
        start = self.rows_done(model)
        stop = start + len(features)
        if stop > len(self._file["samples"]):
            raise UnsuitableError(f"model {model!r} gave more rows than the task has images")
        group = self._groups().get(model)
        if group is None:
            group = self._new_group(model, values, details)
        if set(group) != set(values):
            raise UnsuitableError(f"batches of model {model!r} disagree on having logits")
        for name, (rows, kind) in values.items():
            with np.errstate(over="ignore"):
                stored = np.asarray(rows, f"<f{np.dtype(kind).itemsize}")
            if (np.isinf(stored) & np.isfinite(rows)).any():
                raise UnsuitableError(f"{name} of {model!r} overflow {kind}: store float32")
            group[name][start:stop] = stored
        self._file.flush()  # the rows first, then their count
        group.attrs["rows_done"] = stop
        self._file.flush()

    def _groups(self) -> dict[str, h5py.Group]:
        groups = self._file["models"]
        return {groups[key].attrs["name"]: groups[key] for key in sorted(groups)}

    def _new_group(
        self, model: str, values: Mapping[str, tuple[np.ndarray, str]], details: Mapping[str, Any]
    ) -> h5py.Group:
        models, images = self._file["models"], len(self._file["samples"])
        group = models.create_group(f"{len(models):06d}")
        group.attrs["name"], group.attrs["rows_done"] = model, 0
        group.attrs["details"] = json_text(dict(details))
        for name, (rows, kind) in values.items():
            shape, width = (images, rows.shape[1]), rows.shape[1]
            chunk = (min(images, CHUNK_ROWS), width)
            group.create_dataset(name, shape, np.dtype(kind).newbyteorder("<"), chunks=chunk)
        return group

    def _check(self) -> None:
        file = self._file
        if file.attrs.get("format") != FORMAT:
            raise ZooFormatError(f"format must be {FORMAT!r}, got {file.attrs.get('format')!r}")
        check_links(file, {"models"})
        for name in ("samples", "labels", "models"):
            if name not in file:
                raise ZooFormatError(f"it lacks {name!r}")
        images = len(file["samples"])
        for name in ("labels", "domains"):
            if name in file and len(file[name]) != images:
                raise ZooFormatError(f"{name} has {len(file[name])} rows, samples has {images}")
        names: set[str] = set()
        for key, group in file["models"].items():
            check_links(group, set())
            self._check_group(key, group, images)
            if group.attrs["name"] in names:
                raise ZooFormatError(f"model {group.attrs['name']!r} is there twice")
            names.add(group.attrs["name"])

    def _check_group(self, key: str, group: h5py.Group, images: int) -> None:
        lacking = {"name", "rows_done", "details"} - set(group.attrs)
        if lacking or "features" not in group:
            raise ZooFormatError(f"model group {key} lacks {sorted(lacking) or 'features'}")
        for name, item in group.items():
            if item.ndim != 2 or len(item) != images or item.dtype.kind != "f":
                raise ZooFormatError(
                    f"models/{key}/{name} must be {images} rows of floating-point numbers, got "
                    f"{item.shape} of {item.dtype}"
                )
        if not 0 <= group.attrs["rows_done"] <= images:
            raise ZooFormatError(f"models/{key} claims {group.attrs['rows_done']} of {images} rows")


def create_features(path: Path, task: Task, provenance: Mapping[str, Any]) -> FeatureFile:
    """Make a feature file for a task, or open the one that is there to go on.

    Args:
        path: the file.
        task: labels and fingerprints of the images.
        provenance: versions and fingerprints, plain data; of a new file only.

    Raises:
        ZooFormatError: if another task's file is there.
    """
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.attrs["format"], file.attrs["task"] = FORMAT, task.name
            file.attrs["provenance"] = json_text(dict(provenance))
            file["samples"] = task.samples.astype("<u8")
            file["labels"] = task.labels
            if task.domains is not None:
                file["domains"] = task.domains.astype("<i8")
            file.create_group("models")
    opened = FeatureFile(path, "r+")
    there = opened.task
    same = there.name == task.name and all(
        np.array_equal(getattr(there, name), getattr(task, name)) for name in ("samples", "labels")
    )
    if not same:
        opened.__exit__()
        raise ZooFormatError(
            f"{path} holds features of task {there.name!r} on other images: choose another --out"
        )
    return opened
