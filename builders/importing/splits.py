"""Splits of imported models: from a file, as published, or drawn by model."""

import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError
from ...zoos.format import SPLITS
from ...zoos.splits import draw_splits
from .children import ParentRows, inherit_splits, split_children
from .models import Remark, Scan


def assign_splits(
    scan: Scan,
    fractions: Sequence[float],
    seed: int,
    split_file: Path | None,
    parents: ParentRows | None = None,
) -> dict[str, Any]:
    """Assign a split to every model: from a file, else as published, else drawn by model.

    Models missing in a split file are refused. A drawn split keeps children with their parents.

    Args:
        scan: models found; their splits are set.
        fractions: shares of train, val and test, which sum to 1.
        seed: seed of the draw.
        split_file: CSV file with the columns model_name and split, or None.
        parents: models of an earlier import, whose children get their splits.

    Returns:
        Description of the split, for the header.

    Raises:
        BuildError: if the shares or the file are not valid.
    """
    if split_file is not None:
        return _splits_from_file(scan, split_file)
    if scan.models and all(model.split for model in scan.models):
        return {"by": "published"}
    if published := sum(1 for model in scan.models if model.split):
        scan.notes.append(
            f"only {published} of {len(scan.models)} models have a published split: "
            "all were drawn anew, give a split file to keep them"
        )
    shares = dict(zip(SPLITS, fractions, strict=False))
    valid = len(fractions) == 3 and min(fractions) >= 0 and math.isclose(sum(fractions), 1.0)
    if not valid:
        raise BuildError(f"fractions must be three shares that sum to 1, got {tuple(fractions)}")
    for model in scan.models:
        model.split = None
    roots = inherit_splits(scan.models, parents or {})
    drawn = draw_splits(len(roots), shares, np.random.default_rng(seed))
    for model, split in zip(roots, drawn, strict=True):
        model.split = split
    split_children(scan.models)
    by = "model" if not any(model.parent for model in scan.models) else "parent"
    return {"by": by, "fractions": shares, "seed": seed}


def _splits_from_file(scan: Scan, path: Path) -> dict[str, Any]:
    wanted = _read_splits(path)
    for model in scan.models:
        model.split = wanted.pop(model.name, None)
        if model.split is None:
            scan.refused.append(Remark(model.name, f"not in the split file {path.name}"))
    scan.models = [model for model in scan.models if model.split is not None]
    scan.refused += [Remark(name, f"in {path.name}, but not in the source") for name in wanted]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"by": "file", "file": path.name, "sha256": digest}


def _read_splits(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BuildError(f"cannot read the split file {path}: {error}") from error
    if not rows or not {"model_name", "split"} <= set(rows[0]):
        raise BuildError(f"split file {path} must have the columns model_name and split, and rows")
    splits: dict[str, str] = {}
    for row in rows:
        name, split = row["model_name"], row["split"]
        if split not in SPLITS:
            raise BuildError(f"{path}: split of {name!r} must be one of {SPLITS}, got {split!r}")
        if splits.setdefault(name, split) != split:
            raise BuildError(f"{path}: {name!r} is in two splits")
    return splits
