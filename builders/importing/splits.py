"""Splits of imported models: from a file, as published, or drawn by model.

Split files are CSV with the columns model_name and split; JSON with lists of paths by split, as
published with INRs (Navon et al. 2023) and the CNN Wild Park; or one image number per line, as
published by Zhou et al. 2023: the first 45 of 60 are train, the next 5 val, the last 10 test.
"""

import csv
import hashlib
import io
import json
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
    wanted = _wanted_splits(scan, path)
    for model in scan.models:
        model.split = wanted.pop(model.name, None)
        if model.split is None:
            scan.refused.append(Remark(model.name, f"not in the split file {path.name}"))
    scan.models = [model for model in scan.models if model.split is not None]
    scan.refused += [Remark(name, f"in {path.name}, but not in the source") for name in wanted]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"by": "file", "file": path.name, "sha256": digest}


def _wanted_splits(scan: Scan, path: Path) -> dict[str, str]:
    """Split by model name, from a file of any supported kind."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return _by_path(scan, json.loads(text), path)
        first = text.split("\n", 1)[0].strip()
        if first.isdecimal():
            return _by_image(scan, [int(line) for line in text.split()], path)
        return _by_name(list(csv.DictReader(io.StringIO(text))), path)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, RecursionError) as error:
        if isinstance(error, BuildError):
            raise
        raise BuildError(f"cannot read the split file {path}: {error}") from error


def _by_path(scan: Scan, data: Any, path: Path) -> dict[str, str]:
    """Split by model name, from JSON with lists of paths by split, or {"path": list} by split.

    Paths are those of the authors' machine: as many of their last parts are compared as tell all
    files of the source apart.
    """
    if not isinstance(data, dict) or not {*data} <= {*SPLITS, "validation"}:
        raise BuildError(f"split file {path} must have paths under {SPLITS}, it has {list(data)}")
    names = {
        file if isinstance(file, str) else str(file[0]): model.name
        for model in scan.models
        for file in model.locations
    }
    parts = next((n for n in range(1, 9) if len({_last(f, n) for f in names}) == len(names)), 9)
    models = {_last(file, parts): name for file, name in names.items()}
    splits: dict[str, str] = {}
    for key, entry in data.items():
        split = "val" if key == "validation" else key
        for file in entry["path"] if isinstance(entry, dict) else entry:
            name = models.get(_last(str(file), parts), str(file))
            if splits.setdefault(name, split) != split:
                raise BuildError(f"{path}: {name!r} is in two splits")
    return splits


def _last(file: str, parts: int) -> str:
    return "/".join(file.replace("\\", "/").split("/")[-parts:])


def _by_image(scan: Scan, images: Sequence[int], path: Path) -> dict[str, str]:
    """Split by model name, from a shuffle of image numbers: 45/60 train, 5/60 val, 10/60 test."""
    edges = [len(images) * 45 // 60, len(images) * 50 // 60]
    of = {image: SPLITS[sum(place >= edge for edge in edges)] for place, image in enumerate(images)}
    found = {model.name: of.get(model.properties.get("image_id", -1)) for model in scan.models}
    if not any(found.values()):
        raise BuildError(f"{path} lists image numbers, but no model of the source has one of them")
    return {name: split for name, split in found.items() if split is not None}


def _by_name(rows: Sequence[dict[str, str]], path: Path) -> dict[str, str]:
    """Split by model name, from a CSV file with the columns model_name and split."""
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
