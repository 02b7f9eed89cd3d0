"""Splits of imported models: from a file, as published, or drawn by model.

Split files are CSV with the columns model_name and split; JSON with lists of paths by split, as
published with INRs (Navon et al. 2023) and the CNN Wild Park; or one image number per line, as
published by Zhou et al. 2023: the first 45 of 60 are train, the next 5 val, the last 10 test.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...zoos.errors import BuildError, ZooFormatError
from ...zoos.format import SPLITS
from ...zoos.protocols.split_files import SplitFile, read_split_file, splits_by_path
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
        split_file: CSV or JSON file of splits, or None.
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
    related = "parent" if any(model.parent for model in scan.models) else "model"
    by = "group" if any(model.group for model in scan.models) else related
    return {"by": by, "fractions": shares, "seed": seed}


def _splits_from_file(scan: Scan, path: Path) -> dict[str, Any]:
    try:
        file = read_split_file(path)
        wanted = _wanted_splits(scan, file)
    except ZooFormatError as error:
        raise BuildError(str(error)) from error
    for model in scan.models:
        model.split = wanted.pop(model.name, None)
        if model.split is None:
            scan.refused.append(Remark(model.name, f"not in the split file {path.name}"))
    scan.models = [model for model in scan.models if model.split is not None]
    scan.refused += [Remark(name, f"in {path.name}, but not in the source") for name in wanted]
    return {"by": "file", "file": file.name, "sha256": file.sha256}


def _wanted_splits(scan: Scan, file: SplitFile) -> dict[str, str]:
    """Split by model name, from a file of any supported kind."""
    if file.paths is not None:
        return _by_path(scan, file)
    if file.numbers is not None:
        return _by_image(scan, file.numbers, file.name)
    return dict(file.names or {})


def _by_path(scan: Scan, file: SplitFile) -> dict[str, str]:
    """Split by model name, from JSON with paths by split."""
    models = {
        location if isinstance(location, str) else str(location[0]): model.name
        for model in scan.models
        for location in model.locations
    }
    found, unknown = splits_by_path(list(models), file)
    splits = dict.fromkeys(unknown, SPLITS[0])  # reported as missing in the source, by any split
    for name, split in zip(models.values(), found, strict=True):
        if split is not None and splits.setdefault(name, split) != split:
            raise ZooFormatError(
                f"{file.name}: {name!r} is in two splits; --protocol keeps published splits that "
                "cut a model"
            )
    return splits


def _by_image(scan: Scan, images: Sequence[int], name: str) -> dict[str, str]:
    """Split by model name, from a shuffle of image numbers: 45/60 train, 5/60 val, 10/60 test."""
    edges = [len(images) * 45 // 60, len(images) * 50 // 60]
    of = {image: SPLITS[sum(place >= edge for edge in edges)] for place, image in enumerate(images)}
    found = {model.name: of.get(model.properties.get("image_id", -1)) for model in scan.models}
    if not any(found.values()):
        raise ZooFormatError(
            f"{name} lists image numbers, but no model of the source has one of them"
        )
    return {name: split for name, split in found.items() if split is not None}
