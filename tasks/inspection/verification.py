"""Checks that a zoo is intact and reproducible, the command `weightzoo verify`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...loaders.load import load_zoo
from ...zoos.errors import RecipeError, ZooError, ZooFormatError
from ...zoos.format import SPLITS, STATUSES, WEIGHTS, ZooFile, checksum, open_zoo_file
from ...zoos.index import INDEX_NAME, ZooIndex, file_sha256
from ...zoos.lineage import LINEAGE, check_lineage
from ...zoos.mixed_format import is_mixed_folder
from ...zoos.progress import progress_bar
from .checks import Check, check
from .mixed_verification import verify_mixed_zoo
from .rebuilt_models import rebuilt_differences, training_data

Item = TypeVar("Item")


def verify_zoo(
    path: Path | str, models: int = 8, seed: int = 0, progress: bool = False
) -> list[Check]:
    """Check files, checksums, splits and values, and rebuild some models.

    Args:
        path: zoo file or zoo folder.
        models: number of random rows whose rebuilt model must reproduce its test measure.
        seed: seed of the random rows.
        progress: whether to show progress bars on stderr.

    Returns:
        All checks, also failed ones. If the files of a folder differ from its index, this is the
        only check.

    Raises:
        ValueError: if `models` is below 1.
        ZooNotFoundError: if there is no zoo.
        ZooFormatError: if a file is not a readable zoo file.
    """
    if models < 1:
        raise ValueError(f"models must be a whole number from 1, got {models!r}")
    path = Path(path)
    if is_mixed_folder(path):
        return verify_mixed_zoo(path, progress)
    checks = []
    if path.is_dir():  # before a file is opened: damaged heaps can hang HDF5
        checks.append(_check_digests(path, index := ZooIndex.read(path), progress))
        if not checks[0].passed:
            return checks
        files = index.open(path)
        checks.append(_check_counts(files, index))
    else:
        files = [open_zoo_file(path)]
    checks.append(_check_checksums(files, progress))
    checks.append(_check_words(files))
    checks.append(_check_splits(files))
    checks.append(_check_finite(files, progress))
    checks.append(_check_rebuilt(path, models, seed, progress))
    return checks


def _check_digests(folder: Path, index: ZooIndex, progress: bool) -> Check:
    bad = [
        f"{shard.path} is missing" for shard in index.shards if not (folder / shard.path).exists()
    ]
    for shard in _each(index.shards, "files", "file", progress) if not bad else ():
        if file_sha256(folder / shard.path) != shard.sha256:
            bad.append(shard.path)
    listed = {shard.path for shard in index.shards}
    unlisted = sorted(file.name for file in folder.glob("*.h5") if file.name not in listed)
    bad += [f"{name} is not listed" for name in unlisted]
    return check(
        f"files match {INDEX_NAME}", bad, f"{len(index.shards)} files", files=len(index.shards)
    )


def _check_counts(files: list[ZooFile], index: ZooIndex) -> Check:
    bad = []
    for file, shard in zip(files, index.shards, strict=True):
        models = len(np.unique(file.read_columns(["model_id"])["model_id"]))
        if models != shard.models:
            bad.append(f"{shard.path} holds {models} models, {INDEX_NAME} says {shard.models}")
    return check(f"files hold the models that {INDEX_NAME} counts", bad, f"{len(files)} files")


def _check_checksums(files: list[ZooFile], progress: bool) -> Check:
    bad = []
    for file in _each(files, "checksums", "file", progress):
        columns = file.read_columns() | {WEIGHTS: file.map_weights()}
        expected = file.header.checksums
        bad += [
            f"{file.path.name}:{name}"
            for name, column in columns.items()
            if checksum(column) != expected.get(name)
        ]
    count = len(files[0].columns) + 1
    return check("columns match their checksums", bad, f"{count} columns", columns=count)


def _check_words(files: list[ZooFile]) -> Check:
    allowed = {"split": SPLITS, "status": STATUSES}
    bad = [
        f"{file.path.name}:{name} holds {word!r}"
        for file in files
        for name, words in allowed.items()
        for word in set(file.read_columns([name])[name]) - set(words)
    ]
    for file in files:
        try:
            check_lineage(file.read_columns([name for name in LINEAGE if name in file.columns]))
        except ZooFormatError as error:
            bad.append(f"{file.path.name}: {error}")
    return check("splits, statuses and lineage are known words", bad, "")


def _check_splits(files: list[ZooFile]) -> Check:
    """Check that no model has checkpoints in two splits, which would leak between them."""
    seen: dict[int, set[str]] = {}
    for file in files:
        columns = file.read_columns(["model_id", "split"])
        for model, split in zip(columns["model_id"].tolist(), columns["split"], strict=True):
            seen.setdefault(model, set()).add(split)
    bad = [
        f"model {model} is in {sorted(splits)}" for model, splits in seen.items() if len(splits) > 1
    ]
    return check("splits share no model", bad, f"{len(seen)} models", models=len(seen))


def _check_finite(files: list[ZooFile], progress: bool) -> Check:
    """Check that weights are finite in all rows with status "ok"."""
    bad, diverged = [], 0
    for file in _each(files, "weights", "file", progress):
        status = file.read_columns(["status"])["status"]
        diverged += int((status == "diverged").sum())
        for row, weights in enumerate(file.map_weights()):
            if status[row] == "ok" and not np.isfinite(weights).all():
                bad.append(f"{file.path.name} row {row}")
    name = "weights are finite where status is ok"
    return check(name, bad, f"{diverged} rows diverged", diverged_rows=diverged)


def _check_rebuilt(path: Path, models: int, seed: int, progress: bool) -> Check:
    name = "rebuilt models reproduce their recorded test measures"
    try:
        zoo = load_zoo(path)
    except ZooError as error:
        return Check(name, False, f"the zoo cannot be loaded: {error}")
    header = next(iter(zoo.values())).header
    if header.architecture is None:
        return Check(name, None, "the zoo holds no architecture to rebuild models from")
    try:
        data = training_data(header)
    except RecipeError as error:
        return Check(name, None, f"the training data cannot be loaded: {error}")
    except ZooFormatError as error:
        return Check(name, False, str(error))
    bad, worst = [], 0.0
    with progress_bar(models, "rebuilt models", "model", progress) as bar:
        for found in rebuilt_differences(zoo, data, models, seed):
            worst = max(worst, found.size)
            if not found.size <= found.allowed:
                bad.append(f"{found.row}: difference {found.size:.4g}")
            bar.update()
    detail = f"{models} rows, largest difference {worst:.4g}"
    return check(name, bad, detail, rows=models, largest_difference=worst)


def _each(items: Sequence[Item], description: str, unit: str, progress: bool) -> Iterator[Item]:
    """The items, with a bar that counts them."""
    with progress_bar(len(items), description, unit, progress) as bar:
        for item in items:
            yield item
            bar.update()
