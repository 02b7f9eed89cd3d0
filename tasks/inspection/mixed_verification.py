"""Checks of a mixed zoo, whose rows have many architectures, for `weightzoo verify`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...zoos.errors import ZooFormatError
from ...zoos.format import SPLITS, STATUSES
from ...zoos.index import INDEX_NAME, file_sha256
from ...zoos.lineage import LINEAGE, check_lineage
from ...zoos.mixed_format import MixedFiles, MixedIndex
from ...zoos.progress import progress_bar
from .checks import Check, check

Columns = dict[str, np.ndarray]


def verify_mixed_zoo(folder: Path, progress: bool = False) -> list[Check]:
    """Check files, splits and values of a mixed zoo.

    Args:
        folder: folder of the zoo.
        progress: whether to show progress bars on stderr.

    Returns:
        All checks, also failed ones. If the files differ from the index, this is the only check.

    Raises:
        ZooFormatError: if `zoo.json` is damaged.
    """
    index = MixedIndex.read(folder)
    checks = [_check_digests(folder, index, progress)]
    if not checks[0].passed:
        return checks
    try:
        columns = index.read_columns(folder)
    except ZooFormatError as error:
        return [*checks, Check("files hold the rows that the index lists", False, str(error))]
    return [
        *checks,
        _check_counts(index, columns),
        _check_words(columns),
        _check_splits(columns),
        _check_finite(folder, index, columns, progress),
    ]


def _check_digests(folder: Path, index: MixedIndex, progress: bool) -> Check:
    """Compare every file with its checksum."""
    listed = {
        name: digest
        for files in index.files
        for name, digest in zip((files.columns, files.weights), files.sha256, strict=True)
    }
    bad = [f"{name} is missing" for name in listed if not (folder / name).is_file()]
    with progress_bar(len(listed), "files", "file", progress) as bar:
        for name, digest in listed.items() if not bad else ():
            if file_sha256(folder / name) != digest:
                bad.append(name)
            bar.update()
    there = [path.name for ending in ("*.h5", "*.f32") for path in folder.glob(ending)]
    bad += [f"{name} is not listed" for name in sorted(set(there) - set(listed))]
    return check(f"files match {INDEX_NAME}", bad, f"{len(listed)} files", files=len(listed))


def _check_counts(index: MixedIndex, columns: Columns) -> Check:
    bad = []
    for files in index.files:
        own = columns["model_id"][columns["split"] == files.split]
        if len(np.unique(own)) != files.models:
            bad.append(f"{files.split} holds {len(np.unique(own))} models, not {files.models}")
    name = f"files hold the models that {INDEX_NAME} counts"
    return check(name, bad, f"{len(index.parts)} architectures", architectures=len(index.parts))


def _check_words(columns: Columns) -> Check:
    allowed = {"split": SPLITS, "status": STATUSES}
    bad = [
        f"{name} holds {word!r}"
        for name, words in allowed.items()
        for word in set(columns[name]) - set(words)
    ]
    try:
        check_lineage({name: columns[name] for name in LINEAGE if name in columns})
    except ZooFormatError as error:
        bad.append(str(error))
    return check("splits, statuses and lineage are known words", bad, "")


def _check_splits(columns: Columns) -> Check:
    """Check that no model has checkpoints in two splits, which would leak between them."""
    pairs = sorted(set(zip(columns["model_id"].tolist(), columns["split"].tolist(), strict=True)))
    models = [model for model, _ in pairs]
    twice = [one for one, other in zip(models, models[1:], strict=False) if one == other]
    bad = [f"model {model} is in two splits" for model in dict.fromkeys(twice)]
    count = len(set(models))
    return check("splits share no model", bad, f"{count} models", models=count)


def _check_finite(folder: Path, index: MixedIndex, columns: Columns, progress: bool) -> Check:
    """Check that weights are finite in all rows with status "ok"."""
    bad, start = [], 0
    with progress_bar(len(index.files), "weights", "file", progress) as bar:
        for files in index.files:
            status = columns["status"][start : start + files.rows]
            for row, finite in enumerate(_finite_rows(folder, index, files)):
                if status[row] == "ok" and not finite:
                    bad.append(f"{files.weights} row {row}")
            start += files.rows
            bar.update()
    diverged = int((columns["status"] == "diverged").sum())
    name = "weights are finite where status is ok"
    return check(name, bad, f"{diverged} rows diverged", diverged_rows=diverged)


def _finite_rows(folder: Path, index: MixedIndex, files: MixedFiles) -> Iterator[bool]:
    """Whether each row of a split is finite, in file order."""
    values = np.memmap(folder / files.weights, "<f4", "r")
    segments = [
        (one.first_value, one.rows, part.layer_table.width)
        for part in index.parts
        for one in part.segments
        if one.split == files.split
    ]
    for first, rows, width in sorted(segments):
        for row in range(rows):
            start = first + row * width
            yield bool(np.isfinite(values[start : start + width]).all())
